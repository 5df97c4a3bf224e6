"""How the targets of the criteo mini scale were set: run it again to check them.

The recipe is fixed beforehand: submission ``baseline``, point 1, the workload's own step budget. Ten seeds give the
scored target (median of the best validation loss, the benchmark's own rule). Controls say what the smoke target must
separate: a linear model, a learning rate of zero, one a hundred times too high. Test values choose nothing.

    python benchmarks/criteo_targets.py [--seeds 10] [--workload criteo] [--data flights]
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from perfbench.api.workload import Batch, Shard
from perfbench.compose import compose_submission, compose_workload
from perfbench.registry import build_workload
from perfbench.results.store import TrialFolder
from perfbench.spec.submission import PointSpace
from perfbench.spec.workload import Split, TargetKind

NUM_BUCKETS = 26 * 65_536
"""Rows of the linear model's table: every column has its own, hardly any two tokens share one."""
LEARNING_RATE = "submission.search_space.points"


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workload", default="criteo")
    parser.add_argument("--data", default="flights")
    parser.add_argument("--runs-root", type=Path, default=Path("runs/targets"))
    arguments = parser.parse_args()
    console, table = Console(), Table("run", "best validation loss", "test loss there", "steps to smoke target", "of")
    best = []
    for seed in range(arguments.seeds):
        folder = run(arguments, f"seed_{seed}", f"seed={seed}")
        best.append(add_row(table, f"baseline, point 1, seed {seed}", folder))
    for name, factor in (
        ("learning rate 0 (1e-9 of it)", 1e-9),
        ("learning rate / 10", 0.1),
        ("learning rate x 100", 100.0),
    ):
        folder = run(arguments, re.sub(r"\W+", "_", name), f"{LEARNING_RATE}={scaled_points(factor)}")
        add_row(table, name, folder)
    table.add_row("linear model, best of 5 epochs", f"{linear_loss(arguments):.4f}", "", "", "")
    console.print(table)
    console.print(f"median {statistics.median(best):.4f}, from {min(best):.4f} to {max(best):.4f}")


def run(arguments: argparse.Namespace, name: str, *overrides: str) -> TrialFolder:
    """Run one trial to the end of its budget, unless it is there already."""
    root = arguments.runs_root / arguments.workload / arguments.data / name
    folder = TrialFolder(root / "baseline" / "study_0" / arguments.workload / "trial_1")
    command = [
        *(sys.executable, "-m", "perfbench", "run", f"workload={arguments.workload}", f"data={arguments.data}"),
        *("submission=baseline", "scale.target=scored", "workload.targets.scored.threshold=0.0"),
        *(f"runs_root={root}", "workload.eval_period_s=1.0", *overrides),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def scaled_points(factor: float) -> str:
    """Return the baseline's points as an override, with another learning rate."""
    space = compose_submission("baseline").search_space
    assert isinstance(space, PointSpace)
    points = [{**point, "learning_rate": float(str(point["learning_rate"])) * factor} for point in space.points]
    return str(points).replace("'", "")


def add_row(table: Table, name: str, folder: TrialFolder) -> float:
    """Add what a trial reached; return its best validation loss."""
    measurements, trial = folder.measurements(), folder.trial()
    best = min(measurements, key=lambda measurement: measurement.metrics["validation/loss"])
    smoke = trial.workload.targets.get(TargetKind.SMOKE)
    reached = [m.step for m in measurements if smoke is not None and smoke.is_reached_by(m.metrics)]
    loss = best.metrics["validation/loss"]
    first = f"{reached[0]:,}" if reached else "never"
    table.add_row(name, f"{loss:.4f}", f"{best.metrics['test/loss']:.4f}", first, f"{trial.max_steps:,}")
    return loss


class Linear(nn.Module):
    """Logistic regression on one-hot categories and logarithms of counts."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(NUM_BUCKETS, 1)
        self.dense = nn.Linear(13, 1)
        nn.init.zeros_(self.table.weight)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return logits ``[b]``."""
        columns = torch.arange(26, dtype=torch.int64) * 65_536
        rows = batch["ids"].long().remainder(65_536) + columns
        logits: torch.Tensor = self.table(rows).sum(dim=(1, 2)) + self.dense(batch["integers"].float().log1p())[:, 0]
        return logits


def linear_loss(arguments: argparse.Namespace) -> float:
    """Train the linear model and return its best validation loss."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = compose_workload(arguments.workload, scale="mini", dataset=arguments.data)
    workload = build_workload(spec, Path("data").resolve())
    model = Linear()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    stream = workload.train_batches(global_batch_size=1024, seed=0, shard=Shard())
    losses = []
    for step in range(1, 5 * 310 + 1):
        batch = next(stream)
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(model(batch), batch["targets"]).backward()
        optimizer.step()
        if step % 31 == 0:
            losses.append(validation_loss(workload.eval_batches, model))
    stream.close()
    return min(losses)


def validation_loss(eval_batches: object, model: Linear) -> float:
    """Return the mean validation loss."""
    assert callable(eval_batches)
    total, count = 0.0, 0.0
    with torch.no_grad():
        for batch in eval_batches(Split.VALIDATION, global_batch_size=8192, seed=0, shard=Shard()):
            loss = nn.functional.binary_cross_entropy_with_logits(model(batch), batch["targets"], reduction="none")
            total += float((loss * batch["weights"]).sum())
            count += float(batch["weights"].sum())
    return total / count


if __name__ == "__main__":
    main()
