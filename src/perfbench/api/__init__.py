"""What authors of workloads and submissions import."""

from perfbench.api.behaviour import Behaviour
from perfbench.api.gradient import GradientSubmission, Schedule
from perfbench.api.submission import (
    BoundLoss,
    StateDict,
    StepReport,
    Submission,
    TrainingComplete,
    TrainingContext,
    TrainingDiverged,
)
from perfbench.api.workload import (
    Batch,
    BatchNormMode,
    LossSums,
    LossType,
    ParameterRole,
    Shard,
    TrainStream,
    Workload,
)

__all__ = [
    "Batch",
    "BatchNormMode",
    "Behaviour",
    "BoundLoss",
    "GradientSubmission",
    "LossSums",
    "LossType",
    "ParameterRole",
    "Schedule",
    "Shard",
    "StateDict",
    "StepReport",
    "Submission",
    "TrainStream",
    "TrainingComplete",
    "TrainingContext",
    "TrainingDiverged",
    "Workload",
]
