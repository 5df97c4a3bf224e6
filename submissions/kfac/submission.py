"""K-FAC for dense layers and convolutions, AdamW for all other parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, overload

import torch
from pydantic import Field
from torch import Tensor

from perfbench.api import Batch, BatchNormMode, GradientSubmission, Schedule, StateDict, StepReport, TrainingContext
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec
from perfbench.spec.seeds import SEED_BOUND
from submissions.kfac.factors import FactorSet
from submissions.kfac.layers import Layer, layers_of, parameters_of
from submissions.kfac.outputs import OutputCurvature, output_vectors

ADAMW_BETAS = (0.9, 0.999)


class Hyperparameters(Spec):
    """One point of the search space."""

    learning_rate: float = Field(gt=0)
    """Of the layers that are preconditioned."""
    adamw_learning_rate: float = Field(gt=0)
    """Of all other parameters, under the same schedule."""
    one_minus_momentum: float = Field(gt=0, le=1)
    damping: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)


class Options(Spec):
    """What is fixed, but not by the method."""

    output_curvature: OutputCurvature = OutputCurvature.SAMPLED


@dataclass(frozen=True, kw_only=True, slots=True)
class KfacSettings:
    """The numbers of the method."""

    lr: float
    adamw_lr: float
    momentum: float
    damping: float
    weight_decay: float
    curvature: OutputCurvature = OutputCurvature.SAMPLED
    statistics_decay: float = 0.95
    period: int = 10
    """Factors and inverses are renewed before every so many updates, beginning with the first."""
    max_change: float | None = 1e-3
    """Limit of a step's product with the curvature over all layers; ``None`` for no limit."""
    max_dimension: int = 8192
    """Layers with a longer side get AdamW."""


class PreconditionedSGD(torch.optim.SGD):
    """Heavy ball on gradients that are preconditioned just before the step.

    Weight decay is not preconditioned, but inside the momentum.

    Args:
        layers: To train.
        factors: Of these layers.
        settings: What to do.
    """

    def __init__(self, layers: Iterable[Layer], factors: FactorSet, settings: KfacSettings) -> None:
        super().__init__(
            parameters_of(layers),
            lr=settings.lr,
            momentum=settings.momentum,
            dampening=settings.momentum,  # an average of steps: the limit on the change holds for what is applied
            weight_decay=settings.weight_decay,
        )
        self._factors = factors
        self._max_change = settings.max_change

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Precondition the gradients, then update."""
        with torch.no_grad():
            self._factors.precondition(lr=self.param_groups[0]["lr"], max_change=self._max_change)
        loss: float | None = super().step(closure)
        return loss


class Kfac(GradientSubmission):
    """Every few updates one further forward and backward pass gathers the factors; the steps are ordinary ones.

    A layer whose module is never called (its weight is used in another way) is found in the first pass and gets AdamW.

    Args:
        context: What the engine offers.
        settings: What to do.
        schedule: The rate of update ``k``.
        label_smoothing: Given to the loss.
        dropout_rate: Set on the model once.
    """

    def __init__(
        self,
        context: TrainingContext,
        settings: KfacSettings,
        *,
        schedule: Schedule | None = None,
        label_smoothing: float = 0.0,
        dropout_rate: float | None = None,
    ) -> None:
        super().__init__(context, [], schedule=schedule, label_smoothing=label_smoothing, dropout_rate=dropout_rate)
        self.settings = settings
        self._begin(layers_of(context.model, max_dimension=settings.max_dimension))

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step, renewing the factors first where that is due; report how many inverses failed so far."""
        if self.layers and self.num_updates % self.settings.period == 0:
            self._renew_factors(batch)
        report = super().update_params(batch)
        return dataclasses.replace(report, extra={"num_kept_inverses": self.factors.num_kept_inverses.clone()})

    def state_dict(self) -> StateDict:
        """Return which layers are preconditioned, their factors, and the optimizers' states."""
        return {**super().state_dict(), "layers": list(self.layers), "factors": self.factors.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the layers, their factors, and the optimizers' states."""
        every = layers_of(self.context.model, max_dimension=self.settings.max_dimension)
        self._begin({name: every[name] for name in state["layers"]})
        self.factors.load_state_dict(state["factors"])
        super().load_state_dict(state)

    def _begin(self, layers: Mapping[str, Layer]) -> None:
        """Precondition these layers from now on, with nothing seen yet."""
        settings = self.settings
        self.layers = dict(layers)
        self.factors = FactorSet(
            layers,
            decay=settings.statistics_decay,
            damping=settings.damping,
            add_over_ranks=self.context.add_over_ranks,
        )
        preconditioned = {id(parameter) for parameter in parameters_of(layers.values())}
        others = [p for p in self.context.model.parameters() if id(p) not in preconditioned]
        self.optimizers = []
        if layers:
            self.optimizers.append(PreconditionedSGD(layers.values(), self.factors, settings))
        if others:
            group: dict[str, Any] = {"params": others, "lr_scale": settings.adamw_lr / settings.lr}
            decay = settings.weight_decay
            self.optimizers.append(
                torch.optim.AdamW([group], lr=settings.adamw_lr, betas=ADAMW_BETAS, weight_decay=decay, fused=True)
            )

    def _renew_factors(self, batch: Batch) -> None:
        num_valid = self._watch(batch)
        silent = self.factors.silent_layers()
        if silent:
            self._begin({name: layer for name, layer in self.layers.items() if name not in silent})
            num_valid = self._watch(batch)
        if self.layers:
            self.factors.renew(num_valid)

    def _watch(self, batch: Batch) -> Tensor:
        """Make a forward pass and as many backward passes as the output curvature needs, all on this rank alone."""
        context = self.context
        seen: list[Tensor] = []
        handle = context.model.register_forward_hook(lambda _module, _inputs, outputs: seen.append(_first(outputs)))
        context.set_batch_norm(BatchNormMode.FREEZE)
        try:
            with self.factors.watching():
                sums = context.local_loss(batch, label_smoothing=self.label_smoothing)
        finally:
            handle.remove()
            context.set_batch_norm(BatchNormMode.UPDATE)
        outputs = seen[0]
        (gradient,) = torch.autograd.grad(sums.summed, outputs, retain_graph=True)
        vectors = output_vectors(
            context.loss_type,
            outputs.detach(),
            gradient,
            curvature=self.settings.curvature,
            noise=self._noise(outputs),
        )
        weights = [layer.module.weight for layer in self.layers.values()]
        with self.factors.gathering():
            for vector in vectors:
                torch.autograd.grad(outputs, weights, vector, retain_graph=True, allow_unused=True)
        return sums.num_valid.detach()

    def _noise(self, like: Tensor) -> Callable[[tuple[int, ...]], Tensor]:
        """Return a source of uniform numbers: drawn for all ranks and cut, so that their number does not matter."""
        context = self.context
        generator = torch.Generator(like.device).manual_seed((context.seed + self.num_updates) % SEED_BOUND)

        def uniform(shape: tuple[int, ...]) -> Tensor:
            shard = context.shard
            total = (shape[0] * shard.num_ranks, *shape[1:])
            drawn = torch.rand(total, generator=generator, dtype=like.dtype, device=like.device)
            return drawn[shard.part_of(total[0])]

        return uniform


def build(context: TrainingContext, hyperparameters: Hyperparameters, *, options: Options) -> Kfac:
    """Return K-FAC for one point; weight decay acts on every parameter."""
    point, horizon = hyperparameters, context.step_hint
    settings = KfacSettings(
        lr=point.learning_rate,
        adamw_lr=point.adamw_learning_rate,
        momentum=1 - point.one_minus_momentum,
        damping=point.damping,
        weight_decay=point.weight_decay,
        curvature=options.output_curvature,
    )
    return Kfac(
        context,
        settings,
        schedule=WarmupCosine(point.learning_rate, horizon=horizon, warmup=int(point.warmup_factor * horizon)),
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
    )


def _first(outputs: Tensor | tuple[Any, ...]) -> Tensor:
    """Return the model's predictions: its output, or the first of several."""
    if isinstance(outputs, Tensor):
        return outputs
    return next(output for output in outputs if isinstance(output, Tensor) and output.requires_grad)
