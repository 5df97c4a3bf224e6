"""Muon for matrices, an Adam for all else, at the point of one of three self-tuning entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn

from perfbench.api import (
    Batch,
    Behaviour,
    GradientSubmission,
    Schedule,
    StepReport,
    TrainingComplete,
    TrainingContext,
)
from perfbench.api.optim import (
    POLYNOMIALS,
    Flattening,
    Momentum,
    Muon,
    MuonSettings,
    NAdamW,
    PolynomialName,
    RateFactor,
    optimizers_of_split,
    split_matrices,
)
from perfbench.api.schedules import WarmupCosine, WarmupPeriodicCosine
from perfbench.spec.base import Spec

NEVER_WARMED_UP = 1e-10
"""Part of the peak at which a chain of torch's schedulers stays for ever if its warm-up has no updates (torch 2.5)."""


class Entry(StrEnum):
    """Which of the entries; all three put Muon on the same matrices."""

    TORCH = "torch"
    """`muon_torch_replicated_torch_hps`: tuned for PyTorch."""
    TORCH_AT_JAX_POINT = "torch_at_jax_point"
    """`muon_torch_replicated_jax_hps`: the same code at the point of the JAX entry."""
    JAX = "jax"
    """`muon`."""


class Options(Spec):
    """Which entry, and its behaviours as run or as intended."""

    entry: Entry = Entry.TORCH
    no_warmup: Behaviour = Behaviour.AS_RUN
    """Of ``torch_at_jax_point``, whose warm-up has no updates. As run: the rate stays at 1e-10 of its peak. Intended:
    it starts at the peak."""
    others: Behaviour = Behaviour.AS_RUN
    """Of ``torch_at_jax_point``, for what Muon does not train. As run: ``torch.optim.NAdam``. As intended: NAdamW."""
    convolutions: Behaviour = Behaviour.AS_RUN
    """Of ``jax``. As run: one matrix of kernel height by all else. As intended: of outputs by all else."""
    polynomial: PolynomialName = "newton_schulz"
    """As in the entries, or Polar Express, which its followers use now."""
    rate_factor: RateFactor = RateFactor.AT_LEAST_ONE
    """As in the entries, or one of those in use now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The numbers of an entry.

    Args:
        learning_rate: Peak, of all that Muon does not train.
        muon_multiplier: Times that: Muon's peak.
        others_betas: Decay of first and second moment of all that Muon does not train.
    """

    learning_rate: float
    muon_multiplier: float
    momentum: float
    nesterov: bool
    others_betas: tuple[float, float]
    muon_weight_decay: float = 0.0
    others_weight_decay: float = 0.0
    warmup_factor: float = 0.0
    label_smoothing: float = 0.0
    dropout_rate: float = 0.0


TORCH_POINT = Point(
    learning_rate=0.01,
    muon_multiplier=1.0,
    momentum=0.9,
    nesterov=True,
    others_betas=(0.9, 0.999),
    warmup_factor=0.05,
    label_smoothing=0.1,
    dropout_rate=0.1,
)
JAX_POINT = Point(
    learning_rate=0.0001357495179,
    muon_multiplier=28.61130298,
    momentum=0.9560745273,
    nesterov=False,
    others_betas=(0.96586744, 0.8629173173),
    muon_weight_decay=0.02397563985,
    others_weight_decay=0.01275028385,
)


class MuonSubmission(GradientSubmission):
    """Two optimizers under one schedule.

    Args:
        context: What the engine offers.
        optimizers: Of the matrices and of all else; a model may lack either.
        schedule: The rate of update ``k``; Muon's is a multiple of it.
        point: What else is fixed.
        last_update: Training is complete after so many updates; ``None`` uses the whole budget.
    """

    def __init__(
        self,
        context: TrainingContext,
        optimizers: list[torch.optim.Optimizer],
        *,
        schedule: Schedule,
        point: Point,
        last_update: int | None,
    ) -> None:
        super().__init__(
            context,
            optimizers,
            schedule=schedule,
            label_smoothing=point.label_smoothing,
            dropout_rate=point.dropout_rate,
        )
        self._last_update = last_update

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step.

        Raises:
            TrainingComplete: After the step hint, for the entries written in PyTorch.
        """
        if self._last_update is not None and self.num_updates >= self._last_update:
            raise TrainingComplete
        return super().update_params(batch)


def build(context: TrainingContext, *, options: Options) -> MuonSubmission:
    """Return Muon; weight decay acts on every parameter, as in the entries."""
    point = TORCH_POINT if options.entry is Entry.TORCH else JAX_POINT
    optimizers = optimizers_of_split(
        split_matrices(context.model, context.roles),
        lambda matrices: Muon(
            [{"params": matrices, "lr_scale": point.muon_multiplier}],
            momentum=point.momentum,
            weight_decay=point.muon_weight_decay,
            settings=_settings(point, options),
        ),
        lambda others: _others(others, point, options),
    )
    return MuonSubmission(
        context,
        optimizers,
        schedule=_schedule(point, options, context.step_hint),
        point=point,
        last_update=None if options.entry is Entry.JAX else context.step_hint,
    )


def _settings(point: Point, options: Options) -> MuonSettings:
    is_jax = options.entry is Entry.JAX
    is_by_height = is_jax and options.convolutions is Behaviour.AS_RUN
    return MuonSettings(
        momentum=Momentum.NESTEROV if point.nesterov else Momentum.AVERAGE,
        polynomials=POLYNOMIALS[options.polynomial],
        flattening=Flattening.BY_HEIGHT if is_by_height else Flattening.BY_OUTPUT,
        rate_factor=options.rate_factor,
        dtype=torch.float32 if is_jax else torch.bfloat16,
    )


def _others(parameters: list[nn.Parameter], point: Point, options: Options) -> torch.optim.Optimizer:
    rate, betas, decay = point.learning_rate, point.others_betas, point.others_weight_decay
    if options.entry is Entry.TORCH:
        return torch.optim.AdamW(parameters, lr=rate, betas=betas, weight_decay=decay, fused=True)
    if options.entry is Entry.TORCH_AT_JAX_POINT and options.others is Behaviour.AS_RUN:
        return torch.optim.NAdam(parameters, lr=rate, betas=betas, weight_decay=decay, decoupled_weight_decay=True)
    return NAdamW(parameters, lr=rate, betas=betas, weight_decay=decay)


def _schedule(point: Point, options: Options, horizon: int) -> Schedule:
    peak, warmup = point.learning_rate, int(point.warmup_factor * horizon)
    if options.entry is Entry.TORCH_AT_JAX_POINT and options.no_warmup is Behaviour.AS_RUN:
        return lambda k: NEVER_WARMED_UP * peak  # noqa: ARG005 - a schedule
    cosine: Callable[..., Schedule] = WarmupCosine if options.entry is Entry.JAX else WarmupPeriodicCosine
    return cosine(peak, horizon=horizon, warmup=warmup)
