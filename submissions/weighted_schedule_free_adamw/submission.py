"""Weighted Schedule-Free AdamW: dual averaging, with batch-norm statistics of the evaluated weights."""

from __future__ import annotations

import torch

from perfbench.api import Behaviour, TrainingContext
from perfbench.api.optim import (
    ScheduleFreePoint,
    ScheduleFreeSubmission,
    ScheduleFreeVariant,
    StatisticsPass,
    tuned_schedule_free,
)
from perfbench.spec.base import Spec
from submissions.weighted_schedule_free_adamw.optimizer import WeightedScheduleFreeAdamW

WARMUP_HORIZON = 0.75
"""The warm-up is the point's part of this part of the step budget."""


class Hyperparameters(ScheduleFreePoint):
    """One point of the search space, named as in the competition."""


class Options(Spec):
    """Behaviours as run or as intended."""

    statistics_pass: StatisticsPass
    buffers: Behaviour
    """As run: second moment and initial weights in bfloat16. As intended: in float32."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Weighted Schedule-Free AdamW with the entry's choices."""
    return tuned_schedule_free(
        context,
        hyperparameters,
        ScheduleFreeVariant(
            step_power=1.0,
            uses_highest_rate=False,
            second_moment_dtype=torch.bfloat16 if options.buffers is Behaviour.AS_RUN else torch.float32,
        ),
        horizon=context.step_hint * WARMUP_HORIZON,
        statistics_pass=options.statistics_pass,
        optimizer_type=WeightedScheduleFreeAdamW,
    )
