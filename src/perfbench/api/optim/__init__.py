"""Optimizers that several submissions share."""

from perfbench.api.optim.averaging import (
    AveragedOptions,
    AveragedPoint,
    AveragingSubmission,
    EvaluatesOtherWeights,
    SnapshotTimes,
    WeightAverage,
    averaged_nadamw,
    finish_host_copies,
    host_copy,
)
from perfbench.api.optim.group_optimizer import GroupOptimizer, with_gradients
from perfbench.api.optim.nadamw import FirstMoment, MomentCorrection, NAdamW, nadamw_at
from perfbench.api.optim.points import AdamPoint, CosineFractionPoint, WarmupPoint, submission_at
from perfbench.api.optim.schedule_free import (
    EPSILON,
    SECOND_ENTRY,
    DecayPoint,
    FirstEntryOptions,
    ScheduleFreeAdamW,
    ScheduleFreePoint,
    ScheduleFreeSubmission,
    ScheduleFreeVariant,
    SecondEntryOptions,
    StatisticsPass,
    second_entry_schedule_free,
    tuned_schedule_free,
)
from perfbench.api.optim.self_tuned_schedule_free import self_tuned_optimizer, self_tuned_schedule

__all__ = [
    "EPSILON",
    "SECOND_ENTRY",
    "AdamPoint",
    "AveragedOptions",
    "AveragedPoint",
    "AveragingSubmission",
    "CosineFractionPoint",
    "DecayPoint",
    "EvaluatesOtherWeights",
    "FirstEntryOptions",
    "FirstMoment",
    "GroupOptimizer",
    "MomentCorrection",
    "NAdamW",
    "ScheduleFreeAdamW",
    "ScheduleFreePoint",
    "ScheduleFreeSubmission",
    "ScheduleFreeVariant",
    "SecondEntryOptions",
    "SnapshotTimes",
    "StatisticsPass",
    "WarmupPoint",
    "WeightAverage",
    "averaged_nadamw",
    "finish_host_copies",
    "host_copy",
    "nadamw_at",
    "second_entry_schedule_free",
    "self_tuned_optimizer",
    "self_tuned_schedule",
    "submission_at",
    "tuned_schedule_free",
    "with_gradients",
]
