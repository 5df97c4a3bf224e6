"""The clock: monotonic, in exactly one phase at any time, so that the phases add up to the wall time.

It runs in the referee's process. A submission runs in another one, and can change nothing here.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perfbench.spec.result import Phase, PhaseTimes

_NS_PER_S = 1_000_000_000
raw_ns = functools.partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW)
"""The clock that nobody can slow: all others of the system follow what root has set (adjtimex)."""


class PhaseClock:
    """Accounts every nanosecond of a trial to one phase.

    Outside of any ``phase`` block the clock is in ``IDLE``. Blocks do not nest.

    Args:
        now_ns: Monotonic nanoseconds; replaced in tests.
        carried: Phase times of earlier attempts of the same trial.
    """

    def __init__(
        self,
        *,
        now_ns: Callable[[], int] = raw_ns,
        carried: PhaseTimes | None = None,
    ) -> None:
        carried = carried or PhaseTimes()
        self._now_ns = now_ns
        self._spent_ns: dict[Phase, int] = {phase: round(getattr(carried, phase.value) * _NS_PER_S) for phase in Phase}
        self._phase = Phase.IDLE
        self._data_wait_s = carried.data_wait
        self._started_ns = self._since_ns = now_ns()
        self._carried_ns = sum(self._spent_ns.values())

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Count the block towards ``phase``."""
        assert self._phase is Phase.IDLE, f"{phase} begun inside {self._phase}"
        self._switch(phase)
        try:
            yield
        finally:
            self._switch(Phase.IDLE)

    def spent_s(self, phase: Phase) -> float:
        """Return the seconds in ``phase`` so far, the running block included."""
        running_ns = self._now_ns() - self._since_ns if self._phase is phase else 0
        return (self._spent_ns[phase] + running_ns) / _NS_PER_S

    def now_s(self) -> float:
        """Return monotonic seconds since an arbitrary origin: for intervals of the evaluation schedule."""
        return float(self._now_ns()) / _NS_PER_S

    def carry(self, times: PhaseTimes) -> None:
        """Add times from before this clock started: an earlier attempt's, or the process's start (idle)."""
        for phase in Phase:
            carried_ns = round(getattr(times, phase.value) * _NS_PER_S)
            self._spent_ns[phase] += carried_ns
            self._carried_ns += carried_ns
        self._data_wait_s += times.data_wait

    def move(self, seconds: float, *, from_phase: Phase, to_phase: Phase) -> None:
        """Count time that has passed towards another phase than it was counted to."""
        moved_ns = min(round(seconds * _NS_PER_S), self._spent_ns[from_phase])
        self._spent_ns[from_phase] -= moved_ns
        self._spent_ns[to_phase] += moved_ns

    def note_data_wait(self, seconds: float) -> None:
        """Note how much of the scored phase the trainer says it has waited for batches: telemetry, on no account."""
        self._data_wait_s += max(0.0, seconds)

    def times(self) -> PhaseTimes:
        """Return the seconds of every phase, after checking that they add up to the wall time.

        Raises:
            AssertionError: If they do not: the accounting itself would be broken.
        """
        self._switch(self._phase)
        wall_ns = self._since_ns - self._started_ns + self._carried_ns
        assert sum(self._spent_ns.values()) == wall_ns, f"phases {self._spent_ns} do not add up to {wall_ns} ns"
        seconds = {phase.value: spent / _NS_PER_S for phase, spent in self._spent_ns.items()}
        return PhaseTimes(**seconds, data_wait=min(self._data_wait_s, seconds[Phase.SCORED.value]))

    def _switch(self, phase: Phase) -> None:
        now_ns = self._now_ns()
        self._spent_ns[self._phase] += now_ns - self._since_ns
        self._phase = phase
        self._since_ns = now_ns
