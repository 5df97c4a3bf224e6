"""How long scoring takes: ``python benchmarks/score.py [--published FOLDER] [--trials N] [--own N]``.

Each figure is of a fresh process that reads from disk: ``score`` (which scores, resamples and writes its tables) and
``verify`` of the published AlgoPerf v0.5 tree (goal: at most 2 s), of 100,000 synthetic logs of 50 evaluations (goal:
at most 20 s and 4 GB), and of trial folders of our own. Wall and processor seconds are told apart: on a busy machine
only the second say something about the program.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

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
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=Path, help="unpacked logs; without it only synthetic trials are scored")
    parser.add_argument("--trials", type=int, default=100_000, help="number of synthetic logs")
    parser.add_argument("--own", type=int, default=2_000, help="number of trial folders of our own")
    arguments = parser.parse_args()
    _say(f"this takes about {(arguments.trials * 1.2 + arguments.own * 8) / 1000:.0f} s on an idle machine")
    if arguments.published:
        runs = [_measured("score", arguments.published, "--benchmark", "algoperf_v05") for _ in range(3)]
        _say(f"published tree, best of {len(runs)}: score {min(runs)}")
    with tempfile.TemporaryDirectory() as folder:
        count = _write_synthetic(Path(folder), arguments.trials)
        for verb in ("score", "verify"):
            used = _measured(verb, Path(folder), "--benchmark", "algoperf_v05")
            _say(f"{count:,} logs of {_EVALUATIONS} evaluations: {verb} {used}")
    with tempfile.TemporaryDirectory() as folder:
        _write_own(Path(folder), arguments.own)
        for verb in ("score", "verify"):
            used = _measured(verb, Path(folder))
            _say(f"{arguments.own:,} trial folders of {_EVALUATIONS} evaluations: {verb} {used}")


def _say(text: str) -> None:
    print(text, flush=True)


class Used(NamedTuple):
    """What a process took."""

    wall_s: float
    processor_s: float
    gigabytes: float

    def __str__(self) -> str:
        """Return the figures for people."""
        return f"{self.wall_s:.2f} s ({self.processor_s:.2f} s of processor), {self.gigabytes:.2f} GB"


def _measured(verb: str, folder: Path, *options: str) -> Used:
    """Run a verb in a fresh process."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "perfbench", verb, str(folder), *options]
        command += ["--out", out, "--no-pictures"] if verb == "score" else []
        environment = os.environ | {"PYTHONPATH": str(_ROOT / "src")}
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
    if verb == "score" and os.waitstatus_to_exitcode(status) != 0:  # `verify` finds that not all studies are there
        sys.exit(f"scoring {folder} failed")
    return Used(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def _write_own(folder: Path, num_trials: int) -> None:
    """Write trial folders whose metric falls to the target."""
    sys.path.insert(0, str(_ROOT))
    from perfbench.results.files import digest_of_line
    from perfbench.results.store import TrialFolder
    from tests.trial_folders import TARGET, measurement, result_of, trial_spec

    for count in range(num_trials):
        _progress("writing trial folders", count, num_trials)
        group, number = divmod(count, 25)
        spec = trial_spec(submission=f"entry_{group}", study=number // 5, trial=number % 5 + 1)
        records = [
            measurement(step=step, time_s=float(step), loss=TARGET * _EVALUATIONS / step)
            for step in range(1, _EVALUATIONS + 1)
        ]
        trial = TrialFolder.of(folder, spec)
        trial.claim(spec)
        lines = [""]
        for record in records:
            chained = record.model_copy(update={"chain": digest_of_line(lines[-1])})
            lines.append(chained.to_json(indent=None))
        (trial.path / "measurements.jsonl").write_text("\n".join([*lines[1:], ""]))
        trial.write_result(result_of(spec, records))


def _progress(what: str, done: int, total: int) -> None:
    if done % max(1, total // 10) == 0:
        _say(f"{what}: {done:,} of {total:,}")


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
                    _progress("writing logs", count, num_trials)
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
