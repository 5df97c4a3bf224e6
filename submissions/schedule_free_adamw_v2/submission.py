"""Schedule-Free AdamW, version of the competition's second round: batch-norm statistics of the evaluated weights."""

from __future__ import annotations

from perfbench.api import TrainingContext
from perfbench.api.optim import (
    SECOND_ENTRY,
    ScheduleFreePoint,
    ScheduleFreeSubmission,
    StatisticsPass,
    tuned_schedule_free,
)
from perfbench.spec.base import Spec

WARMUP_HORIZON = 0.75
"""The warm-up is the point's part of this part of the step budget."""


class Hyperparameters(ScheduleFreePoint):
    """One point of the search space, named as in the competition."""


class Options(Spec):
    """Behaviours as run or as intended."""

    statistics_pass: StatisticsPass


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW with the entry's choices."""
    return tuned_schedule_free(
        context,
        hyperparameters,
        SECOND_ENTRY,
        horizon=context.step_hint * WARMUP_HORIZON,
        statistics_pass=options.statistics_pass,
    )
