"""Trials on the test cluster that can be made slow, and what is seen of them while they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.scoring.verify import contradictions
from tests.integration import small_criteo
from tests.integration.slurm_cluster import TestCluster

STEPS = 1200
SLOW = (
    f"workload.step_hint={STEPS}",
    "workload.max_submission_time_s=3000",
    "evaluation.every_steps=50",
    f"trace_steps=[1,50,100,{STEPS}]",
)
"""Slow, these take minutes more than any machine takes over what is done to them meanwhile; fast, seconds."""


def result_path(runs_root: Path, trial: int = 1, submission: str = "baseline") -> Path:
    return runs_root / submission / "study_0" / "criteo" / f"trial_{trial}" / "result.json"


def lines(folder: Path, file: str, kind: str) -> list[dict[str, Any]]:
    path = folder / file
    return small_criteo.lines(path, kind) if path.exists() else []


def slow_submission(folder: Path, *, pause_s: float = 0.3, only_trial: int | None = None) -> str:
    """Write a baseline with long steps until there is a file ``<folder>.fast``, endless ones while one ``.stuck`` is.

    Args:
        folder: New.
        pause_s: Of each step.
        only_trial: The one of ``trials`` that is so; all if not given.
    """
    folder.mkdir()
    only = None if only_trial is None else points()[only_trial - 1]
    (folder / "submission.py").write_text(
        "import os, time\n"
        "from submissions.baseline.submission import Hyperparameters, Options, build as build_baseline\n"
        f"FOLDER, ONLY = {str(folder)!r}, {only!r}\n"
        "def build(context, hyperparameters, options):\n"
        "    submission = build_baseline(context, hyperparameters, options=options)\n"
        "    if not (ONLY or {}).items() <= hyperparameters.model_dump(mode='json').items():\n"
        "        return submission\n"
        "    step = submission.update_params\n"
        "    def update_params(batch):\n"
        f"        time.sleep(0 if os.path.exists(f'{{FOLDER}}.fast') else {pause_s})\n"
        "        while os.path.exists(f'{FOLDER}.stuck'):\n"
        "            time.sleep(0.1)\n"
        "        return step(batch)\n"
        "    submission.update_params = update_params\n"
        "    return submission\n"
    )
    return f"submission.folder={folder}"


def points() -> list[dict[str, Any]]:
    """Return the points of the baseline's search space."""
    from perfbench.compose import compose_submission

    space = compose_submission("baseline").search_space
    assert space is not None
    found: list[dict[str, Any]] = space.model_dump(mode="json")["points"]
    return found


def trials(number: int) -> str:
    """Return an override that leaves so many points in the search space."""
    inner = [", ".join(f"{name}: {json.dumps(value)}" for name, value in point.items()) for point in points()[:number]]
    return f"submission.search_space.points=[{', '.join(f'{{{point}}}' for point in inner)}]"


def has_saved(folder: Path, *, attempt: int = 1) -> bool:
    """Tell whether this attempt has trained for a while and saved."""
    resumed = [line for line in lines(folder, "measurements.jsonl", "resumed") if line["attempt"] == attempt]
    if attempt > 1 and not resumed:
        return False
    first = resumed[0]["from_step"] if resumed else 0
    return any(int(path.stem[5:]) >= first + 4 for path in folder.glob("checkpoints/step_*.json"))


def workers(folder: Path) -> list[psutil.Process]:
    """Return the processes of a trial's ranks, by rank."""
    found = {}
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if "perfbench.launch.slurm.rank" in command and str(folder) in command and "srun" not in command[0]:
                rank = int(process.environ()["SLURM_PROCID"])
                parent = process.parent()
                if parent is None or parent.cmdline() != command:  # not what a rank has forked
                    found[rank] = process
        except (psutil.Error, KeyError):
            continue
    return [found[rank] for rank in sorted(found)]


def lost_s(folder: Path) -> float:
    result = TrialFolder(folder).result()
    assert result is not None
    resumes = lines(folder, "measurements.jsonl", "resumed")
    assert result.lost_s == pytest.approx(sum(line["lost_s"] for line in resumes), abs=0.01)
    return result.lost_s


def assert_same_course(folder: Path, expected: Path, *, least_attempts: int) -> None:
    """Measurements and states equal bit for bit, in several attempts on one clock, contradicted by nothing."""
    (trial,) = read_trials([folder]).trials
    assert not any(contradictions([trial]).values())
    counted, wanted = TrialFolder(folder).measurements(), TrialFolder(expected).measurements()
    assert [(m.step, m.metrics) for m in counted] == [(m.step, m.metrics) for m in wanted]
    assert len(wanted) == STEPS // 50

    def traces(of: Path) -> dict[int, Any]:
        return {line["at_step"]: (line["parameters"], line["state"]) for line in lines(of, "telemetry.jsonl", "trace")}

    assert traces(folder) == traces(expected)
    resumes = lines(folder, "measurements.jsonl", "resumed")
    assert len(resumes) >= least_attempts - 1
    assert resumes[0]["from_step"] > 0
    times_s = [m.submission_time_s for m in counted]
    assert times_s == sorted(times_s)
    assert resumes[0]["submission_time_s"] > 0


def jobs_of(cluster: TestCluster, root: Path) -> list[str]:
    """Return partition, limit and number of elements of a run folder's arrays, all of which are to be requeued."""
    found = []
    for array in sorted(path.name for path in root.glob(".slurm/arrays/*")):
        rows = cluster.slurm("squeue", "--noheader", "--states=all", "--array", "--format=%i|%j|%P|%l").splitlines()
        mine = [row.split("|") for row in rows if row.split("|")[1].endswith(array)]
        shown = cluster.slurm("scontrol", "show", "job", mine[0][0])
        assert "Requeue=1" in shown
        found.append(f"{mine[0][2]} {mine[0][3]} {len(mine)}")
    return sorted(found)
