"""Optimizers that several submissions share."""

from perfbench.api.optim.averaging import AveragingSubmission, SnapshotTimes, WeightAverage, host_copy
from perfbench.api.optim.group_optimizer import GroupOptimizer, with_gradients
from perfbench.api.optim.nadamw import FirstMoment, MomentCorrection, NAdamW
from perfbench.api.optim.schedule_free import (
    DecayPoint,
    ScheduleFreeAdamW,
    ScheduleFreeSubmission,
    ScheduleFreeVariant,
)

__all__ = [
    "AveragingSubmission",
    "DecayPoint",
    "FirstMoment",
    "GroupOptimizer",
    "MomentCorrection",
    "NAdamW",
    "ScheduleFreeAdamW",
    "ScheduleFreeSubmission",
    "ScheduleFreeVariant",
    "SnapshotTimes",
    "WeightAverage",
    "host_copy",
    "with_gradients",
]
