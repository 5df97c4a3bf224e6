"""A finished trial run again: the same numbers, or a verdict that says where they differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perfbench.api import Batch, StepReport, TrainingContext
from perfbench.errors import LaunchError, ResultsError
from perfbench.launch.replay import plan_replay, record_replay, traced_digests
from perfbench.results.reader import read_trial
from perfbench.results.store import TrialFolder
from perfbench.results.trials import RecordedTrial
from perfbench.scoring.attestation import attestation
from perfbench.scoring.replayed import Allowance, compare_with_replay
from perfbench.scoring.verify_integrity import nothing_was_switched, replay_agrees
from perfbench.spec.environment import Environment, GpuFacts, Isolation
from perfbench.spec.replay import Replay, ReplayVerdict
from perfbench.spec.result import Completed, TargetReached
from perfbench.spec.run import WallClockSchedule
from tests.tiny_trials import Build, Descent, run
from tests.trial_folders import environment

NOW = "2026-11-28T12:00:00+00:00"


GPU = GpuFacts(
    name="card", uuid_digest="a", memory_bytes=1, driver="1", sm_clock_mhz=None, power_limit_w=None
)  # fmt: skip


def recorded(folder: TrialFolder, facts: Environment | None = None) -> RecordedTrial:
    trial = read_trial(folder.path, [])
    assert trial is not None
    return replace(trial, environment=facts or environment())


def replayed(tmp_path: Path, trial: RecordedTrial, build: Build = Descent, *, last: int | None = None) -> TrialFolder:
    steps = [one.step for one in trial.measurements if last is None or one.step <= last]
    _, folder = run(tmp_path / "again", build, evaluation={"kind": "at_steps", "steps": steps}, trace_steps=[3])
    return folder


def verdict(trial: RecordedTrial, again: RecordedTrial, allowance: Allowance | None = None) -> Replay:
    digests = traced_digests(TrialFolder(trial.path)), traced_digests(TrialFolder(again.path))
    return compare_with_replay(trial, again, digests=digests, allowance=allowance, is_same_code=True, wall_time_utc=NOW)


def test_a_trial_run_again_is_the_same_bit_for_bit_though_it_was_evaluated_by_time(tmp_path: Path) -> None:
    _, folder = run(tmp_path, every_steps=None, eval_period_s=0.002, trace_steps=[3])
    trial = recorded(folder)
    again = replayed(tmp_path, trial)

    replay = verdict(trial, recorded(again))

    assert replay.reasons == ()
    assert replay.verdict is ReplayVerdict.CONFIRMED
    assert replay.num_equal == replay.num_compared == len(trial.measurements) > 0
    assert replay.num_digests_equal == replay.num_digests_compared == 1
    result = again.result()
    assert result is not None
    assert isinstance(result.outcome, TargetReached)
    assert not result.scorable


def test_a_replay_may_end_early_and_has_no_budget_of_time(tmp_path: Path) -> None:
    _, folder = run(tmp_path)
    trial = recorded(folder)

    result, again = run(
        tmp_path / "again", evaluation={"kind": "at_steps", "steps": [2, 5]}, max_submission_time_s=1e-9
    )

    assert result is not None
    assert isinstance(result.outcome, Completed)
    assert result.num_steps == 5
    replay = verdict(trial, recorded(again))
    assert (replay.verdict, replay.num_compared, replay.num_recorded) == (ReplayVerdict.CONFIRMED, 1, 2)


class RememberingDescent(Descent):
    """What somebody does who has trained before: another trajectory than the record's."""

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context, lr=0.100001)


def test_another_trajectory_differs(tmp_path: Path) -> None:
    _, folder = run(tmp_path, trace_steps=[3])
    trial = recorded(folder)
    again = recorded(replayed(tmp_path, trial, RememberingDescent))

    strict, on_a_gpu = verdict(trial, again), environment(gpus=(GPU,))
    loose = verdict(replace(trial, environment=on_a_gpu), replace(again, environment=on_a_gpu))

    assert strict.verdict is ReplayVerdict.DIFFERS
    assert strict.reasons[0].startswith(f"{strict.num_compared} evaluations differ, the first at step 5, by 0.00%")
    assert strict.reasons[1] == "1 of 1 traced steps have another state"
    assert loose.verdict is ReplayVerdict.CONFIRMED, "where bits do not repeat, there is a tolerance"
    assert 0 < (loose.largest_difference or 0) < loose.tolerance


def test_a_time_that_cannot_be_had_again_differs_on_the_same_hardware_alone(tmp_path: Path) -> None:
    _, folder = run(tmp_path)
    trial = recorded(folder)
    again = recorded(replayed(tmp_path, trial))
    slow = replace(
        again,
        measurements=tuple(
            one.model_copy(update={"submission_time_s": 30.0 + one.submission_time_s}) for one in again.measurements
        ),
    )
    judged = Allowance(least_time_s=0.0)

    assert "times as long as recorded" in verdict(trial, slow, judged).reasons[0]
    elsewhere = replace(slow, environment=environment(cpu_model="another"))
    assert verdict(trial, elsewhere, judged).verdict is ReplayVerdict.CONFIRMED
    assert verdict(trial, slow).time_band is None, "too short to judge"


def test_the_verdict_is_of_this_record_and_no_other(tmp_path: Path) -> None:
    _, folder = run(tmp_path)
    trial = recorded(folder)
    found = verdict(trial, recorded(replayed(tmp_path, trial)))
    differs = found.model_copy(update={"verdict": ReplayVerdict.DIFFERS, "reasons": ("times",)})
    edited = found.model_copy(update={"chain": "of another record"})

    record_replay(folder, found)

    trial = recorded(folder)
    assert trial.log().replay is ReplayVerdict.CONFIRMED
    assert list(replay_agrees(trial)) == []
    assert attestation([trial.log()]) == "attested, 1 replayed"
    assert [one.what for one in replay_agrees(replace(trial, replay=differs))] == ["run again, it differs: times"]
    assert attestation([replace(trial, replay=differs).log()]) == "attested, 1 differ when replayed"
    assert [one.check for one in replay_agrees(replace(trial, replay=edited))] == ["replay"]
    assert replace(trial, replay=edited).log().replay is None


def test_attested_is_what_was_confined_in_every_attempt(tmp_path: Path) -> None:
    _, folder = run(tmp_path)
    confined = recorded(folder)
    beside = replace(confined, environment=environment(isolation=Isolation.PROCESS))
    once = replace(confined, earlier_environments=(environment(isolation=Isolation.PROCESS),))
    unknown = replace(confined, environment=environment(isolation=None))

    assert attestation([confined.log()]) == "attested"
    assert attestation([beside.log()]) == attestation([once.log()]) == "self-attested"
    assert attestation([confined.log(), beside.log()]) == "1 of 2 trials attested"
    assert attestation([unknown.log()]) == ""


def test_what_was_switched_is_named(tmp_path: Path) -> None:
    class Switching(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            import torch

            torch.set_flush_denormal(not self.is_flushing())
            return super().update_params(batch)

        @staticmethod
        def is_flushing() -> bool:
            return False

    import torch

    try:
        _, folder = run(tmp_path, Switching)
    finally:
        torch.set_flush_denormal(False)
    trial = recorded(folder)
    assert trial.result is not None
    uncompiled = replace(trial, result=trial.result.model_copy(update={"num_compiled_graphs": 0, "suspended_s": 9.0}))

    assert [one.what for one in nothing_was_switched(trial)] == [
        "a switch was changed while it trained: flush_denormal: False before, True at the end"
    ]
    assert "nothing was compiled" in next(iter(nothing_was_switched(uncompiled))).what
    by_time = uncompiled.spec.model_copy(update={"evaluation": WallClockSchedule(kind="wall_clock")})
    log = replace(uncompiled, spec=by_time).log()
    assert (log.is_scorable, log.why_unscorable) == (False, "nothing was compiled")
    assert list(nothing_was_switched(uncompiled))[-1].check == "clock"


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_a_fraction_is_a_fraction(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(LaunchError, match="no fraction"):
        plan_replay(tmp_path, fraction=fraction, data_root=None, other_code=False)


def test_only_finished_trials_of_this_code_are_run_again(tmp_path: Path) -> None:
    _, folder = run(tmp_path)
    folder.write_environment(environment())

    with pytest.raises(ResultsError, match="no trial is here"):
        plan_replay(tmp_path, fraction=1.0, data_root=None, other_code=False)
    with pytest.raises(ResultsError, match=r"ran other code than is here(.|\n)*check out commit c0ffee"):
        plan_replay(folder.path, fraction=1.0, data_root=None, other_code=False)
    plan = plan_replay(folder.path, fraction=0.5, data_root=tmp_path / "there", other_code=True)
    assert plan.trial.evaluation.kind == "at_steps"
    steps = [one.step for one in folder.measurements()]
    assert list(plan.trial.evaluation.steps) == steps[: -(-len(steps) // 2)]
    assert plan.runs_root == folder.path / "replay" / f"to_step_{plan.trial.evaluation.steps[-1]}"
    assert plan.trial.data_root == str(tmp_path / "there")
    assert not plan.is_same_code
    (folder.path / "result.json").unlink()
    with pytest.raises(ResultsError, match="not finished"):
        plan_replay(folder.path, fraction=1.0, data_root=None, other_code=True)
