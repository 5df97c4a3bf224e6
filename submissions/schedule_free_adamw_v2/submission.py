"""Schedule-Free AdamW, version of the competition's second round: batch-norm statistics of the evaluated weights."""

from __future__ import annotations

from enum import StrEnum

from perfbench.api import TrainingContext
from perfbench.api.optim import ScheduleFreePoint, ScheduleFreeSubmission, ScheduleFreeVariant, tuned_schedule_free
from perfbench.spec.base import Spec

WARMUP_HORIZON = 0.75
"""The warm-up is the point's part of this part of the step budget."""
STATISTICS_PERIOD = 3


class Hyperparameters(ScheduleFreePoint):
    """One point of the search space, named as in the competition."""


class StatisticsPass(StrEnum):
    """On which steps batch-norm statistics are collected by an extra forward pass at the average."""

    AS_RUN = "as_run"
    """On two steps of three."""
    ONE_OF_THREE = "one_step_of_three"
    """On one step of three, as in the self-tuning entry."""
    NEVER = "never"
    """No extra pass: statistics come from the gradient pass."""


class Options(Spec):
    """Behaviours as run or as intended."""

    statistics_pass: StatisticsPass


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW with the entry's choices."""
    has_pass = {
        StatisticsPass.AS_RUN: lambda step: step % STATISTICS_PERIOD != 0,
        StatisticsPass.ONE_OF_THREE: lambda step: step % STATISTICS_PERIOD == 0,
        StatisticsPass.NEVER: None,
    }
    return tuned_schedule_free(
        context,
        hyperparameters,
        ScheduleFreeVariant(decay_is_corrected=True, uses_highest_rate=False),
        horizon=context.step_hint * WARMUP_HORIZON,
        has_statistics_pass=has_pass[options.statistics_pass],
    )
