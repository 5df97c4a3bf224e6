"""When to evaluate and when to checkpoint. Asked between steps; never touches the device."""

from __future__ import annotations

from perfbench.engine.referee.clock import PhaseClock
from perfbench.spec.run import AtStepsSchedule, EvaluationSchedule, EveryStepsSchedule, WallClockSchedule


class Timetable:
    """Says what is due after a step.

    Evaluation is due every ``eval_period_s`` of wall-clock time since the last one ended (the rule), or every so
    many steps (tests); always after the last allowed step, and as soon as the time budget is spent.

    Args:
        clock: The trial's clock.
        schedule: Which of these.
        eval_period_s: Of the workload.
        checkpoint_period_s: Of the scale.
        max_steps: The limit on steps, if any.
        since_evaluation_s: How much of the period an earlier attempt has spent: interruptions do not start it again.
    """

    def __init__(
        self,
        clock: PhaseClock,
        schedule: EvaluationSchedule,
        *,
        eval_period_s: float,
        checkpoint_period_s: float,
        max_steps: int | None,
        since_evaluation_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._schedule = schedule
        self._eval_period_s = eval_period_s
        self._checkpoint_period_s = checkpoint_period_s
        self._max_steps = max_steps
        self._last_checkpoint_s = clock.now_s()
        self._last_evaluation_s = self._last_checkpoint_s - since_evaluation_s

    def evaluated(self) -> None:
        """Note that an evaluation ended now."""
        self._last_evaluation_s = self._clock.now_s()

    def checkpointed(self) -> None:
        """Note that a checkpoint was written now."""
        self._last_checkpoint_s = self._clock.now_s()

    def next_evaluation_step(self, step: int) -> int | None:
        """Return the first step after ``step`` that is followed by an evaluation by counting; ``None`` if none is."""
        due = [] if self._max_steps is None else [max(self._max_steps, step + 1)]
        match self._schedule:
            case EveryStepsSchedule(every_steps=every):
                due.append((step // every + 1) * every)
            case AtStepsSchedule(steps=steps):
                due += [later for later in steps if later > step][:1]
        return min(due, default=None)

    def is_over(self, step: int) -> bool:
        """Tell whether nothing is to be evaluated after ``step`` any more: a replay has seen what it was to see."""
        return isinstance(self._schedule, AtStepsSchedule) and step >= self._schedule.steps[-1]

    def evaluation_is_due_by_time(self) -> bool:
        """Tell whether evaluation is due by this rank's wall clock: rank 0's answer counts."""
        return self._goes_by_time() and self.since_evaluation_s() >= self._eval_period_s

    def _goes_by_time(self) -> bool:
        return isinstance(self._schedule, WallClockSchedule)

    def since_evaluation_s(self) -> float:
        """Return how long ago the last evaluation ended, or training began; interruptions left out."""
        return self._clock.now_s() - self._last_evaluation_s

    def checkpoint_is_due(self) -> bool:
        """Tell whether a checkpoint is due by this rank's wall clock: rank 0's answer counts."""
        return self._clock.now_s() - self._last_checkpoint_s >= self._checkpoint_period_s

    def seconds_to_next_evaluation(self) -> float | None:
        """Return how long until the next evaluation is due by time; ``None`` under a step schedule."""
        if not self._goes_by_time():
            return None
        return max(0.0, self._eval_period_s - self.since_evaluation_s())
