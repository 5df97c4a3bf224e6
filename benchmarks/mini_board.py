"""Which submission reaches which workload's smoke target at mini scale, as a page of the documentation.

Each submission runs its points one after another, in their order, until one reaches the target. Evaluations are by
steps, 40 over the budget, so that a busy machine changes the seconds but neither steps nor outcomes. What has run is
not run again: the page can be made in several sittings, and rows fill in when a workload or submission is new.

    python benchmarks/mini_board.py --workloads criteo,mnist [--submissions all] [--max-trials 5]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from perfbench.compose import compose_run, compose_submission, compose_workload
from perfbench.config_files import choices
from perfbench.results.files import write_text_atomically
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, TargetReached, TrialResult
from perfbench.spec.workload import Direction, ScaleName, TargetKind

NUM_EVALUATIONS = 40


@dataclass(frozen=True)
class Cell:
    """What a submission did on a workload: the trial that reached the target, else the best of those that ran."""

    trial: int
    num_tried: int
    result: TrialResult

    def text(self) -> str:
        """Return the cell for the page."""
        match self.result.outcome:
            case TargetReached(step=step, submission_time_s=seconds):
                return f"{seconds:.0f} s, {step:,} steps (point {self.trial})"
            case Crashed(reason=reason):
                return f"crashed: {reason.value} ({self.num_tried} tried)"
            case outcome:
                best = self.result.best_metric
                shown = "none" if best is None else f"{best:.4g}"
                return f"**not reached**: best {shown}, {outcome.kind} ({self.num_tried} tried)"


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="criteo", help="separated by commas")
    parser.add_argument("--submissions", default="all", help="separated by commas; all")
    parser.add_argument("--max-trials", type=int, default=5)
    parser.add_argument("--runs-root", type=Path, default=Path("runs/mini_board"))
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--page", type=Path, default=Path("docs/mini-board.md"))
    parser.add_argument("--only-write", action="store_true", help="run nothing: the page of what has run")
    arguments = parser.parse_args()
    workloads = arguments.workloads.split(",")
    submissions = choices("submission") if arguments.submissions == "all" else arguments.submissions.split(",")
    cells: dict[tuple[str, str], Cell | str] = {}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("mini board", total=len(workloads) * len(submissions))
        for workload in workloads:
            for submission in submissions:
                progress.update(task, description=f"{submission} on {workload}")
                cells[submission, workload] = cell_of(arguments, submission, workload)
                progress.advance(task)
    write_text_atomically(arguments.page, page(arguments, submissions, workloads, cells))
    print(f"wrote {arguments.page}")


def cell_of(arguments: argparse.Namespace, submission: str, workload: str) -> Cell | str:
    """Return what a submission does on a workload, running trials while none has reached the target."""
    spec = compose_submission(submission)
    if missing := [name for name, file in spec.files.items() if file.path is None]:
        return f"not run: needs {', '.join(missing)}"
    num_points = compose_run([f"submission={submission}"]).ruleset.num_trials
    done: list[Cell] = []
    for trial in range(1, min(num_points, arguments.max_trials) + 1):
        result = result_of(arguments, submission, workload, trial)
        if result is None:
            break
        done.append(Cell(trial=trial, num_tried=trial, result=result))
        if isinstance(result.outcome, TargetReached):
            return done[-1]
    if not done:
        return "not run"
    direction = next(iter(compose_workload(workload, scale=ScaleName.MINI.value).targets.values())).direction
    sign = 1 if direction is Direction.MAXIMIZE else -1
    best = max(done, key=lambda c: -float("inf") if c.result.best_metric is None else sign * c.result.best_metric)
    return Cell(trial=best.trial, num_tried=len(done), result=best.result)


def result_of(arguments: argparse.Namespace, submission: str, workload: str, trial: int) -> TrialResult | None:
    """Return a trial's result; run it first if it has none."""
    root: Path = arguments.runs_root
    folder = TrialFolder(root / submission / "study_0" / workload / f"trial_{trial}")
    if folder.path.exists() and (result := folder.result()) is not None:
        return result
    if arguments.only_write:
        return None
    step_hint = compose_workload(workload, scale=ScaleName.MINI.value).step_hint
    command = [
        *(sys.executable, "-m", "perfbench", "run", f"workload={workload}", f"submission={submission}"),
        *(f"trial={trial}", "evaluation=every_steps", f"evaluation.every_steps={max(1, step_hint // NUM_EVALUATIONS)}"),
        *(f"runs_root={root}", f"data_root={arguments.data_root}", "workload.max_submission_time_s=1e6"),
        "scale.checkpoint_period_s=1e6",
    ]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if not folder.path.exists():
        sys.exit(f"{' '.join(command)}\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    return folder.result()


def page(
    arguments: argparse.Namespace,
    submissions: list[str],
    workloads: list[str],
    cells: dict[tuple[str, str], Cell | str],
) -> str:
    """Return the page in Markdown."""
    specs = {name: compose_workload(name, scale=ScaleName.MINI.value) for name in workloads}
    targets = {name: spec.targets[TargetKind.SMOKE] for name, spec in specs.items()}
    head = [f"{name} ({targets[name].metric} {targets[name].threshold:g})" for name in workloads]
    rows = [[submission, *(text(cells[submission, workload]) for workload in workloads)] for submission in submissions]
    when = f"{datetime.now(UTC).date()}, {machine(arguments, cells)}"
    lines = [
        "# Mini board",
        "",
        "Which submission reaches which workload's *smoke target* at mini scale: scored seconds and steps, by the",
        "first of its points that does. It shows that an entry trains, not which is faster: seconds are of a busy",
        "machine, and points were chosen for the full scale. Where one is not reached, the README says why.",
        "",
        f'    make mini-board ARGS="--workloads {",".join(workloads)}"',
        "",
        f"{when}; evaluations every 1/{NUM_EVALUATIONS} of the step budget.",
        "",
        "| submission | " + " | ".join(head) + " |",
        "| --- |" + " --- |" * len(workloads),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def text(cell: Cell | str) -> str:
    """Return a cell's text."""
    return cell if isinstance(cell, str) else cell.text()


def machine(arguments: argparse.Namespace, cells: dict[tuple[str, str], Cell | str]) -> str:
    """Return the machine and versions that the newest trial ran on."""
    for (submission, workload), cell in reversed(cells.items()):
        if isinstance(cell, Cell):
            folder = arguments.runs_root / submission / "study_0" / workload / f"trial_{cell.trial}"
            environment = TrialFolder(folder).environment()
            return (
                f"{environment.cpu_model}, {environment.threads_per_rank} thread, torch {environment.packages['torch']}"
            )
    return "nothing has run"


if __name__ == "__main__":
    main()
