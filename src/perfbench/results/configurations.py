"""A trial on record against the one that is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from perfbench.errors import ResultsError
from perfbench.spec.run import TrialSpec


def refuse_other_configuration(existing: TrialSpec, asked: TrialSpec, run_file: Path) -> None:
    """Check that a trial on record is the one that is asked for.

    Raises:
        ResultsError: Naming what differs, if it is not.
    """
    if existing.identity() == asked.identity():
        return
    differing = _differences(existing.model_dump(mode="json"), asked.model_dump(mode="json"))
    shown = "".join(f"\n  - {line}" for line in differing[:8])
    raise ResultsError(
        f"the folder holds a trial with another configuration (there -> asked):{shown}",
        where=str(run_file),
        hint="--fresh sets it aside and starts anew; or choose another study=, trial= or runs_root=",
    )


def _differences(there: Any, asked: Any, path: str = "") -> list[str]:  # noqa: ANN401 - plain data
    """List dotted paths whose values differ, where data is left out."""
    if isinstance(there, dict) and isinstance(asked, dict):
        return [
            line
            for key in there.keys() | asked.keys()
            if key not in ("data_root", "trace_steps")
            for line in _differences(there.get(key), asked.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if there == asked else [f"{path}: {json.dumps(there)} -> {json.dumps(asked)}"]
