"""The submission's account: what is scored, what is charged, and how much that makes so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perfbench.engine.referee.clock import PhaseClock
from perfbench.engine.wire.team import Team
from perfbench.spec.result import Phase


class Account:
    """Seconds on the clock of the submission: the slowest rank's, and whatever was done off the clock.

    Args:
        clock: Of this rank's referee.
        team: All ranks' referees: one time counts for all of them.
    """

    def __init__(self, clock: PhaseClock, team: Team) -> None:
        self._clock = clock
        self._team = team
        self._running_since_s: float | None = None
        self._free_s = 0.0
        self.submission_time_s = 0.0
        self.charged_s = 0.0

    def restore(self, *, submission_time_s: float, charged_s: float) -> None:
        """Continue from a checkpoint."""
        self.submission_time_s, self.charged_s = submission_time_s, charged_s

    @contextmanager
    def scored(self, at_end: Callable[[], None], *, free_s: float = 0.0) -> Iterator[list[float]]:
        """Score the block; the slowest rank's time counts for all. Yields a list that then holds its seconds.

        Args:
            at_end: Called the moment that this rank's block has ended, while others may still work.
            free_s: So many seconds of it are not counted: a resume's, which count as the checkpoint's.
        """
        self._free_s = free_s
        before_s = self._running_since_s = self._clock.spent_s(Phase.SCORED)
        spent: list[float] = []
        with self._clock.phase(Phase.SCORED):
            yield spent
        at_end()
        own_s = self._clock.spent_s(Phase.SCORED) - before_s
        (slowest_s,) = self._team.largest([own_s])
        self._running_since_s = None  # before the sum: a pulse in between must not count the block twice
        self._clock.move(min(own_s, free_s), from_phase=Phase.SCORED, to_phase=Phase.CHECKPOINT)
        self.submission_time_s += max(0.0, slowest_s - free_s)
        spent.append(slowest_s)

    def charge(self, seconds: float) -> float:
        """Put what was done off the clock on the clock, the worst rank's; return how much that is."""
        (charged_s,) = self._team.largest([max(0.0, seconds)])
        self.submission_time_s += charged_s
        self.charged_s += charged_s
        return charged_s

    def running_s(self) -> float:
        """Return the submission time, the running block included; may be asked by any thread."""
        since_s = self._running_since_s
        if since_s is None:
            return self.submission_time_s
        return self.submission_time_s + max(0.0, self._clock.spent_s(Phase.SCORED) - since_s - self._free_s)
