"""Writes trials in the AlgoPerf form, so that they can be scored by other people's code, or beside published logs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from perfbench.errors import ResultsError
from perfbench.results.files import write_text_atomically
from perfbench.results.trials import RecordedTrial
from perfbench.spec.result import Measurement

_SUFFIX = "_pytorch"
_SPLITS = {"eval_train/": "train/", "validation/": "validation/", "test/": "test/"}


def export_algoperf_logs(trials: Sequence[RecordedTrial], folder: Path, names: Mapping[str, str]) -> list[Path]:
    """Write every trial to ``<submission>/study_<i>/<workload>_pytorch/trial_<j>/`` and return the log files.

    Args:
        trials: What to write; trials without an evaluation give no file, as there.
        folder: Root of the tree.
        names: The other side's name for a workload, where it differs from ours.

    Raises:
        ResultsError: If two trials belong into one folder, or the tree cannot be written.
    """
    places: dict[Path, RecordedTrial] = {}
    for trial in trials:
        key = trial.key
        workload = names.get(key.workload, key.workload) + _SUFFIX
        place = folder / key.submission / f"study_{key.study}" / workload / f"trial_{key.trial}"
        if place in places:
            raise ResultsError(
                f"two trials belong into {place}",
                where=f"{places[place].path}, {trial.path}",
                hint="export one scale and ruleset at a time: give the paths of those trials only",
            )
        if trial.measurements:
            places[place] = trial
    try:
        for place, trial in places.items():
            place.mkdir(parents=True, exist_ok=True)
            write_text_atomically(place / "eval_measurements.csv", log_text(trial.measurements))
            hyperparameters = json.dumps(trial.spec.hyperparameters or {}, indent=1)
            write_text_atomically(place / "hyperparameters.json", hyperparameters + "\n")
    except OSError as problem:
        raise ResultsError(f"the logs cannot be written: {problem.strerror}", where=str(folder)) from None
    return [place / "eval_measurements.csv" for place in places]


def log_text(measurements: Sequence[Measurement]) -> str:
    """Return a log: one row per evaluation, columns in alphabetical order, full precision, missing as empty."""
    rows = [_row(measurement) for measurement in measurements]
    columns = sorted({column for row in rows for column in row})
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(measurement: Measurement) -> dict[str, float | int]:
    row: dict[str, float | int] = {
        "accumulated_eval_time": measurement.phases.eval,
        "accumulated_logging_time": measurement.phases.logging,
        "accumulated_submission_time": measurement.submission_time_s,
        "global_step": measurement.step,
        "preemption_count": measurement.attempt - 1,
        "score": measurement.submission_time_s,
        "total_duration": measurement.phases.wall_s(),
    }
    for name, value in measurement.metrics.items():
        for own, theirs in _SPLITS.items():
            if name.startswith(own) and name != "eval_train/num_examples":  # there is no such column there
                row[theirs + name.removeprefix(own)] = value
    return row
