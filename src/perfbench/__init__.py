"""perfbench: measure how fast a training algorithm trains.

>>> import perfbench
>>> trial = perfbench.run("mnist", "adamw", trial=1)            # doctest: +SKIP
>>> perfbench.load_trials("runs").frame()                       # doctest: +SKIP
>>> perfbench.plot_profile(perfbench.score("runs")).save("profile.svg")    # doctest: +SKIP

The functions are those that the command line uses. Importing this package imports nothing heavy; torch is loaded by the
processes of a trial, never here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from perfbench.version import __version__

if TYPE_CHECKING:
    from perfbench.interface.boards import Scores, plot_profile, score
    from perfbench.interface.running import run, sweep
    from perfbench.interface.trials import Trial, Trials, load_trials, plot_curves

__all__ = [
    "Scores",
    "Trial",
    "Trials",
    "__version__",
    "load_trials",
    "plot_curves",
    "plot_profile",
    "run",
    "score",
    "sweep",
]

_MODULES = {
    "boards": ("Scores", "plot_profile", "score"),
    "running": ("run", "sweep"),
    "trials": ("Trial", "Trials", "load_trials", "plot_curves"),
}


def __getattr__(name: str) -> object:
    """Load a function of the interface when it is first used (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"perfbench.interface.{module}"), name)
    raise AttributeError(f"module 'perfbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return all names, for completion."""
    return sorted([*globals(), *__all__])
