"""The submission's account: what is scored and charged, and what a resume does not pay for a second time."""

from __future__ import annotations

import time
from pathlib import Path

from perfbench.api import TrainingContext
from perfbench.engine.referee.account import Account
from perfbench.engine.referee.clock import PhaseClock
from perfbench.engine.wire.team import Solo
from perfbench.results.reader import read_trial
from perfbench.scoring.verify import contradictions
from perfbench.spec.result import Phase
from tests.tiny_trials import Descent, StopAt, run


class FakeTime:
    """Nanoseconds that pass only when told."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def nothing() -> None:
    """Do nothing."""


def test_what_is_scored_and_charged_adds_up_while_it_runs_too() -> None:
    now = FakeTime()
    account = Account(PhaseClock(now_ns=now), Solo())

    with account.scored(nothing):
        now.pass_s(2.0)
        assert account.running_s() == 2.0
    now.pass_s(5.0)
    assert account.charge(0.5) == 0.5
    assert account.charge(-1.0) == 0.0

    assert (account.submission_time_s, account.charged_s, account.running_s()) == (2.5, 0.5, 2.5)


def test_what_a_resume_does_not_pay_for_is_no_scored_time_either() -> None:
    now = FakeTime()
    clock = PhaseClock(now_ns=now)
    account = Account(clock, Solo())

    with account.scored(nothing, free_s=1.5) as spent:
        now.pass_s(1.0)
        assert account.running_s() == 0.0, "a pulse does not count it either"
        now.pass_s(1.0)
        assert account.running_s() == 0.5
    with account.scored(nothing, free_s=9.0):
        now.pass_s(1.0)

    assert spent == [2.0]
    assert account.submission_time_s == 0.5
    assert (clock.spent_s(Phase.SCORED), clock.spent_s(Phase.CHECKPOINT)) == (0.5, 2.5)
    assert clock.times().wall_s() == 3.0


def test_records_of_a_trial_that_builds_slowly_and_was_resumed_do_not_contradict_themselves(tmp_path: Path) -> None:
    def slow(context: TrainingContext) -> Descent:
        time.sleep(1.0)
        return Descent(context)

    run(tmp_path, slow, stop=StopAt(7))
    result, folder = run(tmp_path, slow, attempt=2)

    assert result is not None
    trial = read_trial(folder.path, [])
    assert trial is not None
    assert [
        str(finding) for found in contradictions([trial]).values() for finding in found if finding.check == "clock"
    ] == []
    assert 1.0 <= trial.measurements[-1].submission_time_s < 2.0, "built twice, paid for once"
