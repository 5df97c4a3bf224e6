"""Schedule-Free AdamW of the self-tuning ruleset: one setting, started again at half the rate when it diverges."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from perfbench.api import Batch, StateDict, StepReport, TrainingContext
from perfbench.api.optim import (
    FirstEntryOptions,
    ScheduleFreeAdamW,
    ScheduleFreeSubmission,
    host_copy,
    self_tuned_optimizer,
    self_tuned_schedule,
)
from perfbench.api.optim.self_tuned_schedule_free import LABEL_SMOOTHING
from perfbench.spec.workload import Direction

FIRST_CHECKED_PART = 0.1
"""No reset before this part of the step budget."""
LEAST_MEASUREMENTS = 4
MARGIN = 0.01
"""A trial that gained less than this, in all and lately, has diverged; the options say in which units."""


class Options(FirstEntryOptions):
    """Behaviours as run or as intended."""

    margin: Literal["in_metric_units", "of_way_to_target"]
    """What a gain is measured in. As run: units of the target's metric, whatever its range. As intended: the way from
    the first evaluation to the target."""
    initial_weights: Literal["copied", "aliased_on_cpu"]
    """What a restart goes back to. Copied: the initial weights, as on the competition's devices. Aliased: the same, but
    on a CPU the weights as they are, as the entry's file does there."""


class SelfTuning(ScheduleFreeSubmission):
    """Schedule-Free AdamW that looks at each new evaluation and starts again where training has diverged."""

    optimizer: ScheduleFreeAdamW

    def __init__(self, context: TrainingContext, *, options: Options) -> None:
        self._rate_factor = 1.0
        self._num_updates_at_restart = 0
        super().__init__(
            context,
            self_tuned_optimizer(context, options.variant()),
            schedule=self._rate,
            label_smoothing=LABEL_SMOOTHING,
            statistics_pass=options.statistics_pass(),
        )
        self._options = options
        self._initial: list[Tensor] | None = None
        if options.initial_weights == "copied" or context.device.type != "cpu":
            self._initial = [host_copy(weights) for weights in self._live_weights()]
        self._num_measurements_seen = 0

    def update_params(self, batch: Batch) -> StepReport:
        """Start again if the newest evaluation says so, then do one step."""
        if len(self.context.measurements) > self._num_measurements_seen:
            self._num_measurements_seen = len(self.context.measurements)
            if self.num_updates > FIRST_CHECKED_PART * self.context.step_hint and self._has_diverged():
                self._restart()
        return super().update_params(batch)

    def state_dict(self) -> StateDict:
        """Return the optimizer's state, the initial weights and what restarts changed."""
        return {
            **super().state_dict(),
            "initial": None if self._initial is None else list(self._initial),
            "rate_factor": self._rate_factor,
            "num_updates_at_restart": self._num_updates_at_restart,
            "num_measurements_seen": self._num_measurements_seen,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore all of it."""
        super().load_state_dict(state)
        self._initial = None if state["initial"] is None else list(state["initial"])
        self._rate_factor = state["rate_factor"]
        self._num_updates_at_restart = state["num_updates_at_restart"]
        self._num_measurements_seen = state["num_measurements_seen"]

    def _rate(self, k: int) -> float:
        schedule = self_tuned_schedule(self.context.step_hint, rate_factor=self._rate_factor)
        return schedule(k - self._num_updates_at_restart)

    def _has_diverged(self) -> bool:
        target = self.context.target
        sign = -1.0 if target.direction is Direction.MINIMIZE else 1.0  # higher is better
        scores = [sign * measurement.metrics[target.metric] for measurement in self.context.measurements]
        way = sign * target.threshold - scores[0]
        unit = 1.0 if self._options.margin == "in_metric_units" else max(way, 0.0)
        return has_diverged(scores, margin=MARGIN * unit)

    def _restart(self) -> None:
        self._rate_factor /= 2
        self._num_updates_at_restart = self.num_updates
        self.optimizer.restart_from(self._live_weights() if self._initial is None else self._initial)

    def _live_weights(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.context.model.parameters()]


def has_diverged(scores: list[float], *, margin: float = MARGIN) -> bool:
    """Tell whether nothing was gained since the first evaluation, and nothing by any of the last three.

    Args:
        scores: Of all evaluations so far; higher is better.
        margin: Less than this is nothing.

    >>> has_diverged([0.5, 0.5, 0.5, 0.5]), has_diverged([0.5, 0.5, 0.5, 0.52]), has_diverged([0.5, 0.5, 0.5])
    (True, False, False)
    """
    if len(scores) < LEAST_MEASUREMENTS or scores[-1] - scores[0] >= margin:
        return False
    return all(scores[-i] - scores[-i - 1] < margin for i in (1, 2, 3))


def build(context: TrainingContext, *, options: Options) -> SelfTuning:
    """Return Schedule-Free AdamW; weight decay acts on every parameter."""
    return SelfTuning(context, options=options)
