"""How long scoring takes: ``python benchmarks/score.py [--published FOLDER]``.

Two figures, each of a fresh process that reads from disk, scores, resamples and writes its tables: the published
AlgoPerf v0.5 tree (goal: at most 2 s), and 100,000 synthetic trials of 50 evaluations (goal: at most 20 s and 4 GB).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_SUBMISSIONS, _STUDIES, _TRIALS, _EVALUATIONS = 100, 25, 5, 50
_WORKLOADS = (
    "criteo1tb",
    "fastmri",
    "imagenet_resnet",
    "imagenet_vit",
    "librispeech_conformer",
    "librispeech_deepspeech",
    "ogbg",
    "wmt",
)
_METRIC = {"criteo1tb": "loss", "fastmri": "ssim", "ogbg": "mean_average_precision", "wmt": "bleu"}
_HEADER = "accumulated_submission_time,global_step,preemption_count,train/{0},validation/{0},test/{0}\n"


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=Path, help="unpacked logs; without it only synthetic trials are scored")
    parser.add_argument("--trials", type=int, default=100_000, help="number of synthetic trials")
    arguments = parser.parse_args()
    if arguments.published:
        runs = [_score(arguments.published) for _ in range(3)]
        seconds, gigabytes = min(runs)
        print(f"published tree, cold process, best of {len(runs)}: {seconds:.2f} s, {gigabytes:.2f} GB")
    with tempfile.TemporaryDirectory() as folder:
        count = _write_synthetic(Path(folder), arguments.trials)
        seconds, gigabytes = _score(Path(folder))
        print(f"{count:,} synthetic trials of {_EVALUATIONS} evaluations: {seconds:.2f} s, {gigabytes:.2f} GB")


def _score(folder: Path) -> tuple[float, float]:
    """Score in a fresh process; return wall seconds and peak memory in GB."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "perfbench", "score", str(folder), "--benchmark", "algoperf_v05"]
        environment = os.environ | {"PYTHONPATH": str(_ROOT / "src")}
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--out", out, "--no-pictures"], stdout=subprocess.DEVNULL, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"scoring {folder} failed")
    return seconds, usage.ru_maxrss / 2**20


def _write_synthetic(folder: Path, num_trials: int) -> int:
    """Write logs whose metric falls past every target, or rises where larger is better; return how many."""
    generator = np.random.default_rng(0)
    count = 0
    for submission in range(_SUBMISSIONS):
        for study in range(_STUDIES):
            for workload in _WORKLOADS:
                for trial in range(1, _TRIALS + 1):
                    if count == num_trials:
                        return count
                    _write_log(
                        folder / f"entry_{submission:03}" / f"study_{study}" / f"{workload}_pytorch" / f"trial_{trial}",
                        workload,
                        speed=float(generator.uniform(0.5, 2.0)),
                    )
                    count += 1
    return count


def _write_log(folder: Path, workload: str, *, speed: float) -> None:
    folder.mkdir(parents=True)
    metric = _METRIC.get(workload, "wer" if "librispeech" in workload else "accuracy")
    rises = metric not in ("loss", "wer")
    scale = 40.0 if metric == "bleu" else 1.0
    rows = []
    for step in range(1, _EVALUATIONS + 1):
        share = 1 - 1 / (1 + step * speed)
        value = scale * (share if rises else 1 - share)
        rows.append(f"{step * 61.123456789 / speed!r},{step * 100},0,{value!r},{value!r},{value!r}\n")
    (folder / "eval_measurements.csv").write_text(_HEADER.format(metric) + "".join(rows))


if __name__ == "__main__":
    main()
