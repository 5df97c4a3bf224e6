"""Schedule-Free AdamW, version of the competition's second round: batch-norm statistics of the evaluated weights."""

from __future__ import annotations

from perfbench.api import TrainingContext
from perfbench.api.optim import (
    SECOND_ENTRY,
    ScheduleFreePoint,
    ScheduleFreeSubmission,
    SecondEntryOptions,
    second_entry_schedule_free,
)

Hyperparameters = ScheduleFreePoint
"""One point of the search space."""
Options = SecondEntryOptions
"""Behaviours as run or as intended."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW with the entry's choices."""
    return second_entry_schedule_free(context, hyperparameters, SECOND_ENTRY, options=options)
