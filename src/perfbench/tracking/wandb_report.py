"""A board as a W&B report over the mirrored runs: profiles, curves, leaderboard, accounting. Made anew, or updated."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import wandb
from wandb_workspaces.reports.v2 import interface as wr

from perfbench.results.trials import RecordedTrial
from perfbench.scoring.accounting import eval_share_table, eval_shares, too_much_evaluation
from perfbench.scoring.board import Board
from perfbench.scoring.style import profile_steps
from perfbench.scoring.tables import as_markdown, score_table, time_table
from perfbench.scoring.uncertainty import Uncertainty
from perfbench.spec.base import Spec
from perfbench.spec.run import WandbTracking
from perfbench.tracking.rows import TIME_KEY
from perfbench.tracking.wandb_run import forget_foreign_settings, quiet_settings

_TAU = "profile/tau"
_ACCOUNTS = ("scored", "data_wait", "eval", "compile", "checkpoint", "logging", "idle")
_PATIENCE_S = 60.0


class Profiles(Spec):
    """The corners of every submission's performance profile: what W&B cannot compute from runs."""

    board: str
    factors: dict[str, tuple[float, ...]]
    shares: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, board: Board) -> Profiles:
        """Return a board's."""
        tau_max = board.benchmark.scoring.tau_max
        steps = {
            name: profile_steps(ratios.tolist(), tau_max=tau_max)
            for name, ratios in zip(board.submissions, board.ratios(), strict=True)
        }
        return cls(
            board=board.benchmark.name,
            factors={name: tuple(factors) for name, (factors, _) in steps.items()},
            shares={name: tuple(shares) for name, (_, shares) in steps.items()},
        )

    def run_id(self) -> str:
        """Return the run's name: equal boards share one, so that publishing again adds nothing."""
        return f"board-{self.digest()}"

    def rows(self) -> list[dict[str, float]]:
        """Return rows in order of tau; a corner is two rows, since W&B joins points by straight lines."""
        rows: dict[tuple[float, int], dict[str, float]] = {}
        for name, factors in self.factors.items():
            before = self.shares[name][0]
            for factor, share in zip(factors, self.shares[name], strict=True):
                for place, height in enumerate((before, share)):
                    row = rows.setdefault((factor, place), {_TAU: factor})
                    row[f"profile/{name}"] = height
                before = share
        return [rows[place] for place in sorted(rows)]


@dataclass(frozen=True, slots=True)
class Publication:
    """Where a report is."""

    title: str
    address: str
    is_new: bool


def publish(
    board: Board, uncertainty: Uncertainty, recorded: Sequence[RecordedTrial], tracking: WandbTracking
) -> Publication:
    """Create the board's report in the project, or update the one that has its title.

    Raises:
        Exception: Of many classes, W&B's own, where the service cannot be reached or refuses.
    """
    forget_foreign_settings()
    os.environ["WANDB_SILENT"] = "true"
    api = wandb.Api(timeout=int(_PATIENCE_S))
    entity = str(tracking.entity or api.default_entity)
    profiles = Profiles.of(board)
    _log_profiles(profiles, entity, tracking.project)
    title = f"perfbench: {board.benchmark.name}"[:128]
    report = wr.Report(
        project=tracking.project,
        entity=entity,
        title=title,
        description=f"{len(board.ends)} trials of {len(board.submissions)} submissions",
        blocks=_blocks(board, uncertainty, recorded, profiles, (entity, tracking.project)),
        width="fluid",
    )
    existing = next((one for one in api.reports(f"{entity}/{tracking.project}") if one.display_name == title), None)
    if existing is not None:
        report.id = existing.id
    report.save()
    return Publication(title, str(report.url), is_new=existing is None)


def _log_profiles(profiles: Profiles, entity: str, project: str) -> None:
    with tempfile.TemporaryDirectory(prefix="perfbench_board_") as scratch:
        run = wandb.init(
            id=profiles.run_id(),
            entity=entity,
            project=project,
            name=profiles.run_id(),
            job_type="board",
            resume="allow",
            settings=quiet_settings(scratch, _PATIENCE_S, is_offline=False),
        )
        run.define_metric("profile/*", step_metric=_TAU)
        start = int(run.starting_step or 0)
        for number, row in enumerate(profiles.rows()):
            if number >= start:
                run.log(row, step=number)
        run.finish()


def _blocks(
    board: Board,
    uncertainty: Uncertainty,
    recorded: Sequence[RecordedTrial],
    profiles: Profiles,
    place: tuple[str, str],
) -> list[Any]:
    shares = eval_shares(board, recorded)
    tables = [score_table(board, uncertainty), time_table(board, uncertainty)]
    blocks: list[Any] = [wr.MarkdownBlock(text=as_markdown(table)) for table in tables]
    blocks += [wr.MarkdownBlock(text=f"- {warning}") for warning in board.warnings]
    profile = wr.LinePlot(
        title="Performance profiles",
        x=_TAU,
        y=[f"profile/{name}" for name in board.submissions],
        title_x="factor of the fastest submission's time",
        title_y="share of workloads",
        layout=wr.Layout(w=24, h=10),
    )
    blocks += [wr.H2(text="Performance profiles"), _grid(place, f'Name == "{profiles.run_id()}"', [profile])]
    blocks.append(wr.H2(text="Training curves"))
    blocks += [_curves(board, name, place) for name in board.benchmark.workloads]
    blocks += [wr.H2(text="Time accounting"), wr.MarkdownBlock(text=as_markdown(eval_share_table(shares)))]
    if warning := too_much_evaluation(shares):
        blocks.append(wr.MarkdownBlock(text=f"**{warning}**"))
    bars = wr.BarPlot(title="seconds", metrics=[f"time/{name}_s" for name in _ACCOUNTS], layout=wr.Layout(w=24, h=10))
    blocks.append(_grid(place, 'JobType != "board"', [bars]))
    return blocks


def _curves(board: Board, workload: str, place: tuple[str, str]) -> Any:  # noqa: ANN401 - a block of W&B's
    metric = board.benchmark.workloads[workload].target.metric
    plots = [
        wr.LinePlot(title=f"{workload}: {metric}", x=TIME_KEY, y=[metric, f"target/{metric}"], layout=wr.Layout(w=12)),
        wr.LinePlot(title=f"{workload}: training loss", x=TIME_KEY, y=["train/loss"], layout=wr.Layout(x=12, w=12)),
    ]
    return _grid(place, f'Config("workload") == "{workload}"', plots)


def _grid(place: tuple[str, str], filters: str, panels: list[Any]) -> Any:  # noqa: ANN401 - a block of W&B's
    entity, project = place
    runs = wr.Runset(entity=entity, project=project, filters=filters)
    return wr.PanelGrid(runsets=[runs], panels=panels)
