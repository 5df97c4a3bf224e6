"""What differs between trials: configuration, hyperparameters, environment, and code line by line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfbench.results.trials import RecordedTrial

Differences = dict[str, list[Any]]
"""Values by dotted path, one for each trial; ``None`` where a trial has none."""

_NOT_COMPARED = frozenset(
    {
        "schema_version", "data_root", "trace_steps", "explored", "trial_seed", "hyperparameters",
        "submission.search_space", "submission.description", "submission.batch_sizes", "submission.folder",
        "submission.state_bytes_per_parameter", "submission.waits_per_step", "workload.description",
        "workload.targets", "workload.eval_batch_size",
    }
)  # fmt: skip
"""What says nothing about a trial that another field does not say better."""
_NO_ENVIRONMENT = frozenset(
    {"schema_version", "attempt", "host_digest", "started_utc", "workload_digest", "submission_digest"}
)


def configuration(trials: Sequence[RecordedTrial]) -> Differences:
    """Return what differs in what was asked for, hyperparameters left out."""
    return _differing([_flat(trial.spec.model_dump(mode="json"), _NOT_COMPARED) for trial in trials])


def hyperparameters(trials: Sequence[RecordedTrial]) -> Differences:
    """Return the hyperparameters that differ."""
    return _differing([dict(trial.spec.hyperparameters or {}) for trial in trials])


def environment(trials: Sequence[RecordedTrial]) -> Differences:
    """Return what differs in hardware, software and commit, as far as it is on record."""
    found = [trial.environment.model_dump(mode="json") if trial.environment else {} for trial in trials]
    return _differing([_flat(one, _NO_ENVIRONMENT) for one in found])


def code(first: RecordedTrial, other: RecordedTrial) -> list[str]:
    """Return a line for each file of code that differs; empty also where a record is missing."""
    if first.code is None or other.code is None:
        return []
    return first.code.latest.differences(other.code.latest)


def code_lines(first: RecordedTrial, other: RecordedTrial) -> list[str]:
    """Return the lines in which the submissions' texts differ, as a unified diff of the copies that trials keep."""
    there, here = (_texts(trial.path / "code") for trial in (first, other))
    lines: list[str] = []
    for name in sorted(there.keys() | here.keys()):
        before, after = there.get(name, ""), here.get(name, "")
        if before != after:
            names = f"{first.key.submission}/{name}", f"{other.key.submission}/{name}"
            lines += difflib.unified_diff(before.splitlines(), after.splitlines(), *names, n=2, lineterm="")
    return lines


def _texts(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in files}


def _flat(tree: Mapping[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    return dict(_leaves(tree, "", left_out))


def _leaves(tree: Mapping[str, Any], prefix: str, left_out: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if path in left_out:
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.", left_out)
        else:
            yield path, value


def _differing(each: Sequence[Mapping[str, Any]]) -> Differences:
    names = dict.fromkeys(name for one in each for name in one)
    found = {name: [one.get(name) for one in each] for name in names}
    return {name: values for name, values in found.items() if len({json.dumps(value) for value in values}) > 1}
