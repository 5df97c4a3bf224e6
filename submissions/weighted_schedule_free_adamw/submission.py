"""Weighted Schedule-Free AdamW: dual averaging, with batch-norm statistics of the evaluated weights."""

from __future__ import annotations

import torch

from perfbench.api import Behaviour, TrainingContext
from perfbench.api.optim import (
    ScheduleFreePoint,
    ScheduleFreeSubmission,
    ScheduleFreeVariant,
    SecondEntryOptions,
    second_entry_schedule_free,
)
from submissions.weighted_schedule_free_adamw.optimizer import WeightedScheduleFreeAdamW

Hyperparameters = ScheduleFreePoint
"""One point of the search space."""


class Options(SecondEntryOptions):
    """Behaviours as run or as intended."""

    buffers: Behaviour
    """As run: second moment and initial weights in bfloat16. As intended: in float32."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Weighted Schedule-Free AdamW with the entry's choices."""
    variant = ScheduleFreeVariant(
        step_power=1.0,
        uses_highest_rate=False,
        second_moment_dtype=torch.bfloat16 if options.buffers is Behaviour.AS_RUN else torch.float32,
    )
    return second_entry_schedule_free(
        context, hyperparameters, variant, options=options, optimizer_type=WeightedScheduleFreeAdamW
    )
