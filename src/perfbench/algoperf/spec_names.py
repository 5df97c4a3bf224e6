"""What their module ``spec`` has: enumerations, an exception, and names for annotations, which Python evaluates.

Numbers and names as in AlgoPerf v0.5 to v1.0.
"""

from __future__ import annotations

import enum
from typing import Any


class LossType(enum.Enum):
    """The family of the loss."""

    SOFTMAX_CROSS_ENTROPY = 0
    SIGMOID_CROSS_ENTROPY = 1
    MEAN_SQUARED_ERROR = 2
    CTC_LOSS = 3
    MEAN_ABSOLUTE_ERROR = 4


class ForwardPassMode(enum.Enum):
    """What ``model_fn`` is called for."""

    TRAIN = 0
    EVAL = 1


class ParameterType(enum.Enum):
    """What a parameter does in its model."""

    WEIGHT = 0
    BIAS = 1
    CONV_WEIGHT = 2
    BATCH_NORM_SCALE = 3
    BATCH_NORM_BIAS = 4
    LAYER_NORM_SCALE = 5
    LAYER_NORM_BIAS = 6
    EMBEDDING = 7
    ATTENTION_Q = 8
    ATTENTION_K = 9
    ATTENTION_V = 10
    ATTENTION_OUT = 11
    ATTENTION_QKV = 12
    ATTENTION_KV = 13
    ATTENTION_BIAS = 14


class TrainingCompleteError(Exception):
    """Raised by ``update_params`` to end training."""


class ShapeTuple:
    """A shape that is a leaf of a tree; equal by its sizes."""

    def __init__(self, shape_tuple: tuple[int, ...]) -> None:
        self.shape_tuple = shape_tuple

    def __repr__(self) -> str:
        """Return the sizes in a form for people."""
        return f"ShapeTuple({self.shape_tuple})"

    def __eq__(self, other: object) -> bool:
        """Compare the sizes."""
        return isinstance(other, ShapeTuple) and self.shape_tuple == other.shape_tuple

    def __hash__(self) -> int:
        """Return equal numbers for equal sizes."""
        return hash(self.shape_tuple)


class Workload:
    """What annotations call a workload; the one that functions are given is of a class of ours."""


Tensor = Shape = ParameterShapeTree = ParameterKey = ParameterContainer = ParameterTypeTree = RandomState = Any
OptimizerState = Hyperparameters = Timing = Steps = ModelAuxiliaryState = ModelInitState = UpdateReturn = Any
InitOptimizerFn = UpdateParamsFn = PrepareForEvalFn = DataSelectionFn = Any
