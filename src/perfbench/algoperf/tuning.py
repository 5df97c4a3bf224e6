"""Their ``tuning_search_space.json`` as a search space of ours: listed points, or ranges and feasible points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perfbench.errors import ConfigError


def read_search_space(file: Path) -> dict[str, Any]:
    """Return the search space in the form that a submission's YAML has.

    A list of objects becomes points in the file's order; an object becomes dimensions: ``{"min", "max", "scaling"}``
    (logarithmic for ``"log"``, otherwise linear) or ``{"feasible_points"}``.

    Raises:
        ConfigError: If it is neither.
    """
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot be read: {problem}", where=str(file), hint="it must be JSON") from None
    if isinstance(plain, list) and plain and all(isinstance(point, dict) and point for point in plain):
        return {"kind": "points", "points": plain}
    if isinstance(plain, dict) and plain:
        return {"kind": "ranges", "dimensions": {name: _dimension(name, plain[name], file) for name in plain}}
    raise ConfigError(
        "neither a list of points nor an object of dimensions",
        where=str(file),
        hint='for example [{"lr": 0.001}, {"lr": 0.01}] or {"lr": {"min": 1e-4, "max": 1e-2, "scaling": "log"}}',
    )


def _dimension(name: str, plain: Any, file: Path) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON holds
    if isinstance(plain, dict) and "feasible_points" in plain:
        return {"kind": "feasible_points", "values": plain["feasible_points"]}
    if isinstance(plain, dict) and {"min", "max"} <= plain.keys():
        scaling = "log" if plain.get("scaling") == "log" else "linear"
        return {"kind": "range", "min": float(plain["min"]), "max": float(plain["max"]), "scaling": scaling}
    raise ConfigError(
        "a dimension has min, max and scaling, or feasible_points", where=f"{file}: {name}", hint=f"got {plain!r}"
    )
