"""Schedule-Free AdamW of the competition's second round, self-tuning ruleset: one setting, no restarts."""

from __future__ import annotations

from perfbench.api import Behaviour, TrainingContext
from perfbench.api.optim import (
    SECOND_ENTRY,
    ScheduleFreeSubmission,
    StatisticsPass,
    self_tuned_optimizer,
    self_tuned_schedule,
)
from perfbench.api.optim.self_tuned_schedule_free import LABEL_SMOOTHING
from perfbench.spec.base import Spec


class Options(Spec):
    """Behaviours as run or as intended."""

    statistics_pass: Behaviour
    """When a forward pass of its own collects batch-norm statistics at the average. As run: on one step of three. As
    intended: on every step."""


def build(context: TrainingContext, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW with the entry's choices; weight decay acts on every parameter."""
    is_as_run = options.statistics_pass is Behaviour.AS_RUN
    return ScheduleFreeSubmission(
        context,
        self_tuned_optimizer(context, SECOND_ENTRY),
        schedule=self_tuned_schedule(context.step_hint),
        label_smoothing=LABEL_SMOOTHING,
        statistics_pass=StatisticsPass.ONE_OF_THREE if is_as_run else StatisticsPass.EVERY_STEP,
    )
