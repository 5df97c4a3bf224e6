"""Schedule-Free AdamW of the self-tuning ruleset: one setting, started again at half the rate when it diverges."""

from __future__ import annotations

from perfbench.api import Batch, StateDict, StepReport, TrainingContext
from perfbench.api.optim import (
    EPSILON,
    FirstEntryOptions,
    ScheduleFreeAdamW,
    ScheduleFreeSubmission,
    StatisticsPass,
    host_copy,
)
from perfbench.api.schedules import WarmupConstant
from perfbench.spec.workload import Direction

LEARNING_RATE = 0.0025
BETAS = (0.9, 0.9955159689799007)
WEIGHT_DECAY = 0.08121616522670176
LABEL_SMOOTHING = 0.2
WARMUP_FACTOR = 0.02 * 0.75
FIRST_CHECKED_PART = 0.1
"""No reset before this part of the step budget."""
LEAST_MEASUREMENTS = 4
MARGIN = 0.01
"""In units of the target's metric: a trial that gained less than this, in all and lately, has diverged."""


class Options(FirstEntryOptions):
    """Behaviours as run or as intended."""


class SelfTuning(ScheduleFreeSubmission):
    """Schedule-Free AdamW that looks at each new evaluation and starts again where training has diverged."""

    def __init__(
        self,
        context: TrainingContext,
        optimizer: ScheduleFreeAdamW,
        *,
        warmup: int,
        statistics_pass: StatisticsPass,
    ) -> None:
        self._warmup = warmup
        self._rate_factor = 1.0
        self._num_updates_at_restart = 0
        super().__init__(
            context,
            optimizer,
            schedule=self._rate,
            label_smoothing=LABEL_SMOOTHING,
            statistics_pass=statistics_pass,
        )
        self._initial = [host_copy(parameter.detach()) for parameter in context.model.parameters()]
        self._num_measurements_seen = 0

    def update_params(self, batch: Batch) -> StepReport:
        """Start again if the newest evaluation says so, then do one step."""
        if len(self.context.measurements) > self._num_measurements_seen:
            self._num_measurements_seen = len(self.context.measurements)
            if self.num_updates > FIRST_CHECKED_PART * self.context.step_hint and has_diverged(self._scores()):
                self._restart()
        return super().update_params(batch)

    def state_dict(self) -> StateDict:
        """Return the optimizer's state, the initial weights and what restarts changed."""
        return {
            **super().state_dict(),
            "initial": list(self._initial),
            "rate_factor": self._rate_factor,
            "num_updates_at_restart": self._num_updates_at_restart,
            "num_measurements_seen": self._num_measurements_seen,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore all of it."""
        super().load_state_dict(state)
        self._initial = list(state["initial"])
        self._rate_factor = state["rate_factor"]
        self._num_updates_at_restart = state["num_updates_at_restart"]
        self._num_measurements_seen = state["num_measurements_seen"]

    def _rate(self, k: int) -> float:
        schedule = WarmupConstant(peak=LEARNING_RATE * self._rate_factor, warmup=self._warmup, lowest=EPSILON)
        return schedule(k - self._num_updates_at_restart)

    def _scores(self) -> list[float]:
        """Return the target's metric at every evaluation so far; higher is better."""
        target = self.context.target
        sign = -1.0 if target.direction is Direction.MINIMIZE else 1.0
        return [sign * measurement.metrics[target.metric] for measurement in self.context.measurements]

    def _restart(self) -> None:
        self._rate_factor /= 2
        self._num_updates_at_restart = self.num_updates
        self.optimizer.restart_from(self._initial)


def has_diverged(scores: list[float]) -> bool:
    """Tell whether nothing was gained since the first evaluation, and nothing by any of the last three.

    >>> has_diverged([0.5, 0.5, 0.5, 0.5]), has_diverged([0.5, 0.5, 0.5, 0.52]), has_diverged([0.5, 0.5, 0.5])
    (True, False, False)
    """
    if len(scores) < LEAST_MEASUREMENTS or scores[-1] - scores[0] >= MARGIN:
        return False
    return all(scores[-i] - scores[-i - 1] < MARGIN for i in (1, 2, 3))


def build(context: TrainingContext, *, options: Options) -> SelfTuning:
    """Return Schedule-Free AdamW; weight decay acts on every parameter."""
    optimizer = ScheduleFreeAdamW(
        context.model.parameters(),
        lr=LEARNING_RATE,
        betas=BETAS,
        eps=EPSILON,
        weight_decay=WEIGHT_DECAY,
        variant=options.variant(),
    )
    return SelfTuning(
        context,
        optimizer,
        warmup=int(WARMUP_FACTOR * context.step_hint),
        statistics_pass=options.statistics_pass(),
    )
