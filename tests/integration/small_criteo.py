"""A few thousand planted rows, prepared once, and trials of them in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.inherited import withheld
from perfbench.workloads.criteo import planted, prepare

NUM_TRAIN_ROWS = 4_600
NUM_HELD_OUT_ROWS = 1_080
BATCH_SIZE = 128
"""35 batches in an epoch: runs of 60 steps cross its end."""

OVERRIDES = (
    "workload=criteo",
    "data=planted",
    "workload.params.expected_examples={train: 4600, validation: 510, test: 570}",
    "workload.params.table_rows=512",
    "workload.params.top_widths=[32,16]",
    f"workload.reference_batch_size={BATCH_SIZE}",
    "workload.eval_batch_size=256",
    "workload.step_hint=60",
    "scale.checkpoint_period_s=0.05",
    "evaluation=every_steps",
    "evaluation.every_steps=10",
    "workload.targets.smoke.threshold=0.0",
    "cluster.inherit=[TORCHDYNAMO_DISABLE]",
)


UNCOMPILED = "cluster.inherit=[TORCHDYNAMO_DISABLE]"
"""Hands on to ranks that nothing is compiled, which takes most of a short trial."""


def prepare_data(data_root: Path) -> None:
    """Write the planted rows in the public format and convert them as any data set."""
    workload = compose_workload("criteo", scale="mini", dataset="planted")
    raw = data_root / "raw"
    raw.mkdir(parents=True)
    planted.write_rows(raw, _ignore, seed=7, num_train_rows=NUM_TRAIN_ROWS, num_held_out_rows=NUM_HELD_OUT_ROWS)
    request = PrepareRequest(
        workload=workload,
        destination=data_root / "criteo" / "mini" / "planted",
        source=raw,
        progress=_ignore,
        options={},
    )
    prepare.prepare(request)


def command(data_root: Path, runs_root: Path, *overrides: str, verb: str = "run") -> list[str]:
    """Return the command line of a trial, or of several (``sweep``)."""
    roots = (f"data_root={data_root}", f"runs_root='{runs_root}'")
    is_by_time = "evaluation=wall_clock" in overrides
    defaults = [item for item in OVERRIDES if not (is_by_time and item.startswith("evaluation"))]
    return [sys.executable, "-m", "perfbench", verb, *defaults, *roots, *overrides]


def environment(*, compiled: bool = True) -> dict[str, str]:
    """Return the environment of a trial: one thread, no colours, fixed width."""
    plain = {} if compiled else {"TORCHDYNAMO_DISABLE": "1"}
    left_by_others = set(withheld(os.environ)) - {"TORCHDYNAMO_DISABLE"}  # libraries set switches in this process
    own = {name: value for name, value in os.environ.items() if name not in left_by_others}
    return own | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_COLOR": "1"} | plain


def run(
    data_root: Path, runs_root: Path, *overrides: str, verb: str = "run", compiled: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a trial, or several, to the end."""
    if not compiled or "TORCHDYNAMO_DISABLE" in os.environ:
        overrides += (UNCOMPILED,)
    return subprocess.run(
        command(data_root, runs_root, *overrides, verb=verb),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environment(compiled=compiled),
    )


def trial_folder(runs_root: Path, submission: str) -> Path:
    """Return where the only trial is."""
    return runs_root / submission / "study_0" / "criteo" / "trial_1"


def lines(path: Path, kind: str) -> list[dict[str, Any]]:
    """Return the records of one kind."""
    return [record for text in path.read_text().splitlines() if (record := json.loads(text))["kind"] == kind]


def _ignore(what: str, done: int, total: int) -> None:
    """Take no notice of progress."""
