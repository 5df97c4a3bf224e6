"""Schedule-Free AdamW, version of the competition's second round: batch-norm statistics of the evaluated weights."""

from __future__ import annotations

from perfbench.api import TrainingContext
from perfbench.api.optim import (
    ScheduleFreePoint,
    ScheduleFreeSubmission,
    ScheduleFreeVariant,
    SecondEntryOptions,
    second_entry_schedule_free,
)


class Hyperparameters(ScheduleFreePoint):
    """One point of the search space, named as in the competition."""


class Options(SecondEntryOptions):
    """Behaviours as run or as intended."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW with the entry's choices."""
    variant = ScheduleFreeVariant(decay_is_corrected=True, uses_highest_rate=False)
    return second_entry_schedule_free(context, hyperparameters, variant, options=options)
