from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from perfbench.engine.referee.clock import PhaseClock
from perfbench.engine.trainer.data_wait import DataWait
from perfbench.spec.result import Phase, PhaseTimes


class FakeTime:
    """Nanoseconds that pass only when told."""

    def __init__(self) -> None:
        self.ns = 5

    def __call__(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


def test_phases_add_up_to_the_wall_time_and_the_rest_is_idle() -> None:
    now = FakeTime()
    clock = PhaseClock(now_ns=now)

    with clock.phase(Phase.SCORED):
        now.pass_s(2)
    now.pass_s(0.5)
    with clock.phase(Phase.EVAL):
        now.pass_s(3)

    times = clock.times()
    assert (times.scored, times.eval, times.idle) == (2.0, 3.0, 0.5)
    assert times.wall_s() == 5.5


def test_a_running_phase_is_counted_up_to_now() -> None:
    now = FakeTime()
    clock = PhaseClock(now_ns=now)

    with clock.phase(Phase.SCORED):
        now.pass_s(1.5)
        assert clock.spent_s(Phase.SCORED) == 1.5
        assert clock.spent_s(Phase.EVAL) == 0.0


def test_phases_do_not_nest() -> None:
    clock = PhaseClock()

    with pytest.raises(AssertionError, match="begun inside"), clock.phase(Phase.SCORED), clock.phase(Phase.EVAL):
        pass


def test_a_phase_that_fails_is_still_accounted_for() -> None:
    now = FakeTime()
    clock = PhaseClock(now_ns=now)

    with pytest.raises(ValueError, match="inside"), clock.phase(Phase.SCORED):
        now.pass_s(1)
        raise ValueError("inside")

    assert clock.times().scored == 1.0


def test_carried_times_belong_to_the_same_account() -> None:
    now = FakeTime()
    clock = PhaseClock(now_ns=now)
    clock.carry(PhaseTimes(scored=10.0, eval=1.0))

    with clock.phase(Phase.SCORED):
        now.pass_s(2)

    assert clock.times().scored == 12.0
    assert clock.times().wall_s() == 13.0


def test_replacing_the_time_functions_later_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = PhaseClock()
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 0)
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: 0)

    with clock.phase(Phase.SCORED):
        sum(range(100_000))

    assert clock.times().scored > 0


def test_the_clock_is_the_one_that_root_cannot_slow() -> None:
    before_s = time.clock_gettime(time.CLOCK_MONOTONIC_RAW)

    assert before_s <= PhaseClock().now_s() <= time.clock_gettime(time.CLOCK_MONOTONIC_RAW)


def test_waiting_for_batches_is_a_part_of_the_scored_phase_and_of_the_wall_time() -> None:
    now = FakeTime()
    clock = PhaseClock(now_ns=now)
    clock.carry(PhaseTimes(scored=1.0, data_wait=0.25))

    with clock.phase(Phase.SCORED):
        now.pass_s(2)
    clock.note_data_wait(0.5)

    times = clock.times()
    assert times.data_wait == 0.75
    assert times.accounts()["data wait"] == 0.75
    assert times.accounts()["scored"] == 2.25
    assert sum(times.accounts().values()) == times.wall_s() == 3.0


def test_a_trainer_cannot_have_waited_longer_than_it_was_scored() -> None:
    clock = PhaseClock()
    clock.carry(PhaseTimes(scored=1.0))
    clock.note_data_wait(50.0)
    clock.note_data_wait(-10.0)

    assert clock.times().data_wait == 1.0


def test_what_a_trainer_waits_for_batches_is_measured_there() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.02)
            yield number

    wait = DataWait()
    started_s = time.perf_counter()
    assert list(wait.timed(slow())) == [0, 1, 2]

    assert 0.06 <= wait.spent_s() <= time.perf_counter() - started_s


def test_records_from_before_data_wait_was_noted_can_be_read() -> None:
    old = '{"compile": 1.0, "scored": 3.0, "eval": 1.0, "checkpoint": 0.0, "logging": 0.0, "idle": 0.5}'

    times = PhaseTimes.from_json(old)

    assert (times.wall_s(), times.data_wait, times.eval_share()) == (5.5, 0.0, 0.25)
