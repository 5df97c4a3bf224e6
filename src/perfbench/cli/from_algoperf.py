"""A native skeleton for somebody who has a submission of AlgoPerf's: its points and batch sizes, our interface."""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterator
from pathlib import Path
from string import Template

from pydantic import JsonValue

from perfbench.compose import compose_submission
from perfbench.config_files import OUTSIDE_FILE
from perfbench.errors import ConfigError
from perfbench.spec.submission import FeasiblePoints, PointSpace, Range, RangeSpace, SubmissionSpec
from perfbench.spec.workload import ScaleName

_ALLOWANCE_BYTES = 8
"""Of AdamW's state, per parameter."""


def texts_from(folder: Path, *, name: str, command: str, templates: Path) -> dict[str, str]:
    """Return the texts of a native submission by the names of their templates.

    Args:
        folder: Theirs.
        name: Of the new submission.
        command: That runs it.
        templates: Folder of ``submission.py.txt`` and the others.

    Raises:
        ConfigError: If the folder holds no submission of theirs, or one with names that Python does not take.
    """
    theirs = compose_submission(f"{folder.expanduser().resolve()}/")
    if theirs.form != "algoperf":
        raise ConfigError(
            f"has a {OUTSIDE_FILE}: it is a submission of this interface",
            where=str(folder),
            hint="without --from-algoperf a new one is written",
        )
    types = _types(theirs)
    if wrong := [one for one in types if not one.isidentifier() or keyword.iskeyword(one)]:
        raise ConfigError(
            f"hyperparameters with names that Python does not take: {', '.join(wrong)}", where=str(folder)
        )
    values = {
        "name": name,
        "command": command,
        "origin": folder.name,
        "hyperparameters": _hyperparameters(types),
        "arguments": "context: TrainingContext, hyperparameters: Hyperparameters"
        if types
        else "context: TrainingContext",
        "fields_import": "from perfbench.spec.base import Spec\n" if types else "",
        "learning_rate": "hyperparameters.learning_rate" if "learning_rate" in types else "1e-3",
        "weight_decay": "hyperparameters.weight_decay" if "weight_decay" in types else "0.0",
        "warmup_factor": "hyperparameters.warmup_factor" if "warmup_factor" in types else "0.05",
        "regularisation": _regularisation(types),
        "rulesets": ", ".join(theirs.rulesets),
        "batch_sizes": _batch_sizes(theirs),
        "state_bytes": str(_ALLOWANCE_BYTES),
        "search_space": "".join(f"{line}\n" for line in _search_space(theirs)),
    }
    return {
        file: Template((templates / f"{file}.txt").read_text(encoding="utf-8")).substitute(values).rstrip() + "\n"
        for file in ("submission.py", "README.md", "submission.yaml")
    }


def _types(theirs: SubmissionSpec) -> dict[str, str]:
    """Return the type of each hyperparameter, as its values tell."""
    match theirs.search_space:
        case PointSpace(points=points):
            return {name: _type_of([point[name] for point in points]) for name in points[0]}
        case RangeSpace(dimensions=dimensions):
            return {
                name: _type_of(list(one.values)) if isinstance(one, FeasiblePoints) else "float"
                for name, one in dimensions.items()
            }
        case None:
            return {}


def _type_of(values: list[JsonValue]) -> str:
    kinds = {type(value).__name__ for value in values}
    if kinds <= {"int", "float"}:
        return "float" if "float" in kinds else "int"
    return " | ".join(sorted(kinds & {"bool", "str", "int", "float"})) or "str"


def _hyperparameters(types: dict[str, str]) -> str:
    if not types:
        return ""
    fields = "".join(f"    {name}: {kind}\n" for name, kind in types.items())
    return f'class Hyperparameters(Spec):\n    """One point of the search space."""\n\n{fields}\n\n'


def _regularisation(types: dict[str, str]) -> str:
    return "".join(
        f"        {argument}=hyperparameters.{name},\n"
        for name, argument in (
            ("label_smoothing", "label_smoothing"),
            ("dropout_rate", "dropout_rate"),
            ("grad_clip", "max_grad_norm"),
        )
        if name in types
    )


def _batch_sizes(theirs: SubmissionSpec) -> str:
    sizes = theirs.batch_sizes.get(ScaleName.FULL, {})
    lines = [f"    {name}: {size}\n" for name, size in sizes.items()]
    return "batch_sizes:\n  full:\n" + "".join(lines) if lines else "batch_sizes: {}\n"


def _search_space(theirs: SubmissionSpec) -> Iterator[str]:
    match theirs.search_space:
        case PointSpace(points=points):
            yield from ("search_space:", "  kind: points", "  points:")
            yield from (f"    - {json.dumps(point)}" for point in points)
        case RangeSpace(dimensions=dimensions):
            yield from ("search_space:", "  kind: ranges", "  dimensions:")
            for name, one in dimensions.items():
                match one:
                    case Range(min=low, max=high, scaling=scaling):
                        yield f"    {name}: {{kind: range, min: {low!r}, max: {high!r}, scaling: {scaling.value}}}"
                    case FeasiblePoints(values=values):
                        yield f"    {name}: {{kind: feasible_points, values: {json.dumps(list(values))}}}"
        case None:
            pass
