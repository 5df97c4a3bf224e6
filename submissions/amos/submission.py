"""Amos with the competition's points."""

from __future__ import annotations

import math

from pydantic import Field
from torch import Tensor, nn

from perfbench.api import GradientSubmission, ParameterRole, TrainingContext
from perfbench.api.optim import submission_at
from perfbench.api.schedules import WarmupConstant
from perfbench.spec.base import Spec
from submissions.amos.optimizer import Amos, AmosSettings, Style, Treatment, global_rate

SCALES = (ParameterRole.BATCH_NORM_SCALE, ParameterRole.LAYER_NORM_SCALE)
PER_HEAD = (
    ParameterRole.ATTENTION_Q,
    ParameterRole.ATTENTION_K,
    ParameterRole.ATTENTION_V,
    ParameterRole.ATTENTION_QKV,
    ParameterRole.ATTENTION_KV,
)
OVERRIDDEN = (ParameterRole.WEIGHT, ParameterRole.BIAS, ParameterRole.EMBEDDING)
NO_OVERRIDE = -1.0


class Hyperparameters(Spec):
    """One point of the search space, named as in the competition."""

    style: Style
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    converge: float = Field(gt=0)
    l2: float = Field(ge=0)
    warmup: float = Field(ge=0, le=1)
    eta_overrides: float
    """Expected scale of weights, biases and embeddings; -1 for the rule."""
    dropout_rate: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)


def build(context: TrainingContext, hyperparameters: Hyperparameters) -> GradientSubmission:
    """Return Amos for one point; its own decay is the only one."""
    point = hyperparameters
    treatments = [
        (parameter, treatment_of(context.model, name, parameter, context.roles[name], point.eta_overrides))
        for name, parameter in context.model.named_parameters()
    ]
    warmup = point.warmup * context.step_hint
    most_shared = max(treatment.num_reduced() for _, treatment in treatments)
    rate = global_rate(most_shared, point.converge * (context.step_hint - 2 / 3 * warmup))
    settings = AmosSettings(style=point.style, beta1=point.beta1, beta2=point.beta2, l2=point.l2)
    optimizer = Amos(treatments, settings, lr=rate)
    return submission_at(point, context, optimizer, schedule=WarmupConstant(peak=rate, warmup=warmup))


def treatment_of(model: nn.Module, name: str, parameter: Tensor, role: ParameterRole, eta_override: float) -> Treatment:
    """Return how a parameter is seen: one value for all of it, for each row of a table, or for each attention head."""
    shape = tuple(parameter.shape) or (1,)
    eta = _expected_scale(role, shape)
    if role in OVERRIDDEN and eta_override != NO_OVERRIDE:
        eta = eta_override
    if role is ParameterRole.EMBEDDING:
        return Treatment(shape, tuple(range(1, len(shape))), eta)
    num_heads = _num_heads(model, name) if role in PER_HEAD else None
    if num_heads and len(shape) > 1:
        embed = shape[1]
        size = embed // num_heads
        if shape[0] % size == 0:
            return Treatment((shape[0] // size, size, embed), (1, 2), eta)
    return Treatment(shape, tuple(range(len(shape))), eta)


def _expected_scale(role: ParameterRole, shape: tuple[int, ...]) -> float:
    fan_in = math.prod(shape[1:])
    if role is ParameterRole.EMBEDDING or role in SCALES:
        return 1.0
    if len(shape) == 1 and role is not ParameterRole.WEIGHT:
        return 0.5
    if role is ParameterRole.WEIGHT:
        return math.sqrt(2 / (fan_in if len(shape) > 1 else shape[0]))
    return math.sqrt(1 / fan_in)


def _num_heads(model: nn.Module, name: str) -> int | None:
    """Return ``num_heads`` of the nearest module around a parameter that has it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, -1, -1):
        found = getattr(model.get_submodule(".".join(parts[:length])), "num_heads", None)
        if isinstance(found, int):
            return found
    return None
