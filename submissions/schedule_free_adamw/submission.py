"""Schedule-Free AdamW, second of the competition's external tuning ruleset."""

from __future__ import annotations

from perfbench.api import TrainingContext
from perfbench.api.optim import FirstEntryOptions, ScheduleFreePoint, ScheduleFreeSubmission, tuned_schedule_free

Hyperparameters = ScheduleFreePoint
"""One point of the search space."""
Options = FirstEntryOptions
"""Behaviours as run or as intended."""


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW with the entry's choices."""
    return tuned_schedule_free(
        context,
        hyperparameters,
        options.variant(),
        horizon=context.step_hint,
        statistics_pass=options.statistics_pass(),
    )
