"""Referee and trainer on a workload of one linear layer: outcomes, records, integrity."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from perfbench.api import (
    Batch,
    StateDict,
    StepReport,
    TrainingComplete,
    TrainingContext,
    TrainingDiverged,
)
from perfbench.api.workload import Shard
from perfbench.data.sampling import RowRange
from perfbench.engine.referee.checkpoints import Checkpoints, Progress
from perfbench.engine.referee.link import TrainerFailed
from perfbench.engine.trainer.pace import KeptReports
from perfbench.engine.wire.team import Solo, Team
from perfbench.results.history import history_of
from perfbench.spec.result import BudgetSpent, Completed, Diverged, FailureReason, PhaseTimes, TargetReached
from tests.tiny_trials import Descent, StopAt, run
from tests.tiny_workload import TinyWorkload
from tests.trial_folders import trial_spec


def test_the_first_evaluation_at_the_target_ends_the_trial(tmp_path: Path) -> None:
    result, folder = run(tmp_path)

    assert result is not None
    assert isinstance(result.outcome, TargetReached)
    measured = folder.measurements()
    assert [m.step for m in measured] == list(range(5, result.num_steps + 1, 5))
    assert measured[-1].metrics["validation/loss"] <= 0.5 < measured[-2].metrics["validation/loss"]
    assert folder.result() == result
    assert not result.scorable
    assert result.num_recompiles_after_warmup == 0
    assert result.phases.compile > 0
    assert result.phases.scored > 0


def test_a_trial_that_never_reaches_the_target_ends_after_its_last_step(tmp_path: Path) -> None:
    result, folder = run(tmp_path, lambda context: Descent(context, lr=0.0), every_steps=7, max_steps=15)

    assert result is not None
    assert result.outcome == BudgetSpent(
        resource="steps",
        step=15,
        submission_time_s=result.outcome.submission_time_s,  # type: ignore[union-attr]
    )
    assert [m.step for m in folder.measurements()] == [7, 14, 15]


def test_losses_that_are_not_finite_end_the_trial_when_they_are_read(tmp_path: Path) -> None:
    result, folder = run(tmp_path, lambda context: Descent(context, lr=1e30))

    assert result is not None
    assert isinstance(result.outcome, Diverged)
    assert result.outcome.what == "the training loss at step 2 is inf"
    assert not folder.measurements()
    assert result.best_metric is None


def test_an_evaluated_loss_that_is_not_finite_ends_the_trial(tmp_path: Path) -> None:
    class Spoiling(Descent):
        def prepare_for_eval(self) -> nn.Module:
            with torch.no_grad():
                next(self.context.model.parameters()).fill_(math.nan)
            return super().prepare_for_eval()

    result, folder = run(tmp_path, Spoiling)

    assert result is not None
    assert isinstance(result.outcome, Diverged)
    assert len(folder.measurements()) == 1


def test_an_evaluation_without_the_targets_metric_is_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyWorkload, "finish_metrics", lambda *_: {"num_examples": 64.0})

    result, folder = run(tmp_path)

    assert result is not None
    assert isinstance(result.outcome, Diverged)
    assert result.best_metric is None
    assert folder.result() == result


class Greedy(Descent):
    """Takes three batches for each step, and uses the last."""

    def data_selection(self, batches: Iterator[Batch]) -> Batch:
        next(batches), next(batches)
        return next(batches)


def test_batches_are_counted_apart_from_steps_and_over_attempts(tmp_path: Path) -> None:
    def greedy(context: TrainingContext) -> Greedy:
        return Greedy(context, lr=0.0)

    run(tmp_path, greedy, stop=StopAt(7))
    result, _ = run(tmp_path, greedy, attempt=2)

    assert result is not None
    assert result.num_steps > 7
    assert result.num_batches == 3 * result.num_steps


class Giving(Descent):
    """Finds after three steps that its numbers are not finite; a step may take a while."""

    def update_params(self, batch: Batch) -> StepReport:
        if self.num_updates == 3:
            time.sleep(0.05)
            raise TrainingDiverged("the statistics of block 1.weight/0 are not finite")
        return super().update_params(batch)


def test_a_submission_may_find_that_it_has_diverged(tmp_path: Path) -> None:
    result, folder = run(tmp_path, lambda context: Giving(context, lr=0.0))

    assert result is not None
    assert isinstance(result.outcome, Diverged)
    assert (result.outcome.step, result.outcome.metric) == (3, "validation/loss")
    assert result.outcome.what == "the statistics of block 1.weight/0 are not finite"
    assert not folder.measurements()
    assert [line["step"] for line in folder.telemetry("steps")] == [[1.0, 2.0, 3.0]]
    assert folder.result() == result


def test_a_divergence_after_the_budget_is_a_spent_budget(tmp_path: Path) -> None:
    result, _ = run(tmp_path, lambda context: Giving(context, lr=0.0), max_submission_time_s=0.04)

    assert result is not None
    assert result.outcome.kind == "budget_spent"


def test_when_the_time_is_spent_no_evaluation_is_given_away(tmp_path: Path) -> None:
    class Slow(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            time.sleep(0.02)
            return super().update_params(batch)

    result, folder = run(
        tmp_path, lambda context: Slow(context, lr=0.0), every_steps=None, max_submission_time_s=0.1, max_steps=None
    )

    assert result is not None
    assert isinstance(result.outcome, BudgetSpent)
    assert result.outcome.resource == "time"
    assert result.outcome.submission_time_s > 0.1
    assert result.num_steps <= 6, "a step takes at least 0.02 s"
    assert not folder.measurements()


def test_a_submission_may_end_its_training_and_is_evaluated_once_more(tmp_path: Path) -> None:
    class Short(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            if self.num_updates == 3:
                raise TrainingComplete
            return super().update_params(batch)

    result, folder = run(tmp_path, lambda context: Short(context, lr=0.0))

    assert result is not None
    assert isinstance(result.outcome, Completed)
    assert [m.step for m in folder.measurements()] == [3]


def test_wall_clock_evaluations_come_a_period_after_the_last_one_ended(tmp_path: Path) -> None:
    class Slow(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            time.sleep(0.01)
            return super().update_params(batch)

    result, folder = run(
        tmp_path, lambda context: Slow(context, lr=0.0), every_steps=None, max_steps=60, eval_period_s=0.15
    )

    assert result is not None
    assert result.scorable
    times = [m.phases.wall_s() for m in folder.measurements()]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[:-1])]
    assert len(gaps) >= 2
    assert all(gap >= 0.15 for gap in gaps)


def test_interruptions_more_frequent_than_evaluations_do_not_put_them_off(tmp_path: Path) -> None:
    """Three attempts of 0.2 s of training each, an evaluation every 0.4 s."""

    class Slow(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            time.sleep(0.02)
            return super().update_params(batch)

    for attempt in (1, 2, 3):
        stopped, folder = run(
            tmp_path,
            lambda context: Slow(context, lr=0.0),
            every_steps=None,
            eval_period_s=0.4,
            stop=StopAt(10 * attempt),
            attempt=attempt,
        )
        assert stopped is None

    assert folder.measurements()


def test_the_warm_up_leaves_no_trace(tmp_path: Path) -> None:
    def trajectory(rule: str, runs: Path) -> list[float]:
        rules = trial_spec().ruleset.model_dump(mode="json") | {"compile": rule}
        _, folder = run(runs, ruleset=rules)
        return [m.metrics["validation/loss"] for m in folder.measurements()]

    assert trajectory("unscored", tmp_path / "a") == trajectory("scored", tmp_path / "b")


class NumpyLike(float):
    """A number of another type than ``float``."""


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (NumpyLike(1.0), "of type NumpyLike"),
        ({1: {2, 3}}, r"\[1\] is of type set"),
        ({(1, 2): 3}, "a key of .* is of type tuple"),
    ],
)
def test_a_state_holds_plain_data_only(tmp_path: Path, value: object, what: str) -> None:
    """Exact types: a subclass could run code while it is written, off the clock."""

    class Odd(Descent):
        def state_dict(self) -> StateDict:
            return {**super().state_dict(), "odd": value}

    with pytest.raises(TrainerFailed, match=what) as raised:
        run(tmp_path, Odd)

    assert raised.value.failed.reason is FailureReason.SUBMISSION


def test_a_stopped_trial_continues_where_it_was(tmp_path: Path) -> None:
    uninterrupted, whole = run(tmp_path / "whole")

    stopped, folder = run(tmp_path / "stopped", stop=StopAt(7))
    assert stopped is None
    assert not (folder.path / "result.json").exists()
    continued, folder = run(tmp_path / "stopped", attempt=2)

    assert continued is not None
    assert uninterrupted is not None
    assert continued.num_steps == uninterrupted.num_steps
    assert [m.metrics for m in folder.measurements()] == [m.metrics for m in whole.measurements()]
    assert continued.phases.scored > 0


def test_a_stop_that_the_trainer_does_not_hear_in_a_short_segment_is_acted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several ranks learn of a stop two steps later: more steps than there are between these evaluations."""
    monkeypatch.setattr(Solo, "exchange", lambda _self, _flags: 0)

    stopped, folder = run(tmp_path, lambda context: Descent(context, lr=0.0), every_steps=2, stop=StopAt(2))

    assert stopped is None
    assert [m.step for m in folder.measurements()] == [2]


@pytest.mark.parametrize(("ends", "kind"), [(TrainingComplete, "completed"), (TrainingDiverged, "diverged")])
def test_a_trial_continued_just_before_its_end_ends_as_it_would_have(
    tmp_path: Path, ends: type[Exception], kind: str
) -> None:
    class Ending(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            if self.num_updates == 8:
                raise ends("after the eighth")
            return super().update_params(batch)

    stopped, folder = run(tmp_path, lambda context: Ending(context, lr=0.0), stop=StopAt(7))
    assert stopped is None
    assert max(path.stem for path in folder.checkpoints.glob("step_*")).endswith("7")

    continued, _ = run(tmp_path, lambda context: Ending(context, lr=0.0), attempt=2)

    assert continued is not None
    assert (continued.outcome.kind, continued.outcome.step) == (kind, 8)


def test_a_pulse_counts_no_second_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pulse may come at any moment: also after a segment's time was added up, while its losses are read."""
    read = KeptReports.read

    def look(reports: KeptReports, team: Team) -> dict[str, list[float]]:
        time.sleep(0.6)  # a pulse comes twice a second
        return read(reports, team)

    monkeypatch.setattr(KeptReports, "read", look)
    result, folder = run(tmp_path, lambda context: Descent(context, lr=0.0), every_steps=5, max_steps=10)

    assert result is not None
    in_pulse = [line["submission_time_s"] for line in folder.telemetry("pulse")]
    on_the_clock = [line["submission_time_s"] for line in folder.telemetry("steps")]
    assert len(in_pulse) >= 3
    assert max(in_pulse) <= max(on_the_clock) + 0.001


def test_work_that_an_interruption_lost_is_recorded(tmp_path: Path) -> None:
    _, folder = run(tmp_path, stop=StopAt(7))
    saved_s = folder.telemetry("pulse")[-1]["submission_time_s"]
    folder.append_telemetry("started", {"attempt": 1})
    folder.append_telemetry("pulse", {"submission_time_s": saved_s + 2.5})
    folder.append_telemetry("started", {"attempt": 2})
    folder.append_telemetry("pulse", {"submission_time_s": 0.0})  # it ended before it had resumed
    folder.append_telemetry("started", {"attempt": 3})

    result, folder = run(tmp_path, attempt=3)

    assert result is not None
    assert result.lost_s == pytest.approx(2.5, abs=0.01)
    assert history_of(folder).lost_s == result.lost_s
    assert folder.measurements()[-1].submission_time_s == result.outcome.submission_time_s < 2.5  # type: ignore[union-attr]


def test_a_checkpoint_is_complete_with_the_files_of_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with those that a folder's listing shows."""
    team = Solo()
    monkeypatch.setattr(team, "shard", Shard(rank=1, num_ranks=2), raising=False)
    checkpoints = Checkpoints(tmp_path / "checkpoints", tmp_path / "states", trial_identity="a", team=team)

    with pytest.raises(FileNotFoundError, match=r"rank_1\.pt"):
        checkpoints.complete(Progress(step=1), PhaseTimes())

    assert not list(tmp_path.glob("checkpoints/*"))


def test_a_changed_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    _, folder = run(tmp_path, stop=StopAt(7))
    newest = max(folder.states.glob("step_*")) / "rank_0.pt"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")

    result, folder = run(tmp_path, attempt=2)

    assert result is not None
    assert "is damaged (rank_0.pt does not match its digest)" in folder.telemetry("warning")[0]["text"]


def test_every_second_is_on_an_account(tmp_path: Path) -> None:
    """Against a clock outside of the loop, which starts before it and stops after it."""

    class Slow(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            time.sleep(0.05)
            return super().update_params(batch)

    started_s = time.perf_counter()
    result, _ = run(tmp_path, lambda context: Slow(context, lr=0.0), max_steps=40)
    wall_s = time.perf_counter() - started_s

    assert result is not None
    outside_s = wall_s - result.phases.wall_s()
    assert 0 <= outside_s < 0.4, "claiming the folder and starting a thread take milliseconds, on a busy machine more"
    assert sum(result.phases.accounts().values()) == pytest.approx(result.phases.wall_s())
    assert 0 < result.phases.data_wait < 0.1 * result.phases.scored


def test_waiting_for_a_slow_data_set_is_told_apart_from_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_batch = TinyWorkload._batch

    def slow_batch(workload: TinyWorkload, ranges: Sequence[RowRange], size: int) -> Batch:
        time.sleep(0.02)
        return make_batch(workload, ranges, size)

    monkeypatch.setattr(TinyWorkload, "_batch", slow_batch)
    result, _ = run(tmp_path, lambda context: Descent(context, lr=0.0), max_steps=30)

    assert result is not None
    assert 0.4 < result.phases.data_wait / result.phases.scored < 1
