"""Schedule-Free AdamW: an average of the iterates takes the place of a decaying learning rate.

Source: Defazio et al. (2024), "The Road Less Scheduled", arXiv 2405.15682; the competition's entries differ from the
paper and from one another in the choices of ``ScheduleFreeVariant``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.behaviour import Behaviour
from perfbench.api.gradient import GradientSubmission, Schedule
from perfbench.api.optim.group_optimizer import GroupOptimizer, with_gradients
from perfbench.api.optim.moments import renew_second_moments
from perfbench.api.optim.points import AdamPoint
from perfbench.api.schedules import WarmupConstant
from perfbench.api.submission import StepReport, TrainingContext
from perfbench.api.workload import Batch, BatchNormMode
from perfbench.spec.base import Spec

EPSILON = 1e-8
"""Of all entries: added to the root, and the lowest rate."""
_STATISTICS_PERIOD = 3
_SECOND_ENTRY_HORIZON = 0.75
"""Of the entries of AlgoPerf v0.6: the warm-up is the point's part of this part of the step budget."""


class DecayPoint(StrEnum):
    """Which of the sequences weight decay is proportional to."""

    AVERAGE = "average"
    """``x``, the weights that are evaluated."""
    GRADIENT_POINT = "gradient_point"
    """``y``, the weights at which the gradient is taken; as in the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleFreeVariant:
    """In what the entries differ. Defaults are the published package's (``schedulefree`` 1.4)."""

    decay_at: DecayPoint = DecayPoint.GRADIENT_POINT
    decay_is_corrected: bool = False
    """Whether the decay's rate too is multiplied by ``sqrt(1 - b2^t)``."""
    step_power: float = 0.0
    """An iterate's weight in the average grows with this power of its number."""
    uses_highest_rate: bool = True
    """Whether that weight has the square of the highest rate so far, or of the current one."""
    second_moment_dtype: torch.dtype = torch.float32


SECOND_ENTRY = ScheduleFreeVariant(decay_is_corrected=True, uses_highest_rate=False)
"""What ran in AlgoPerf v0.6, with either ruleset."""


class ExtrapolatingOptimizer(GroupOptimizer):
    """An optimizer that wants its gradients elsewhere than where it leaves the parameters."""

    @abstractmethod
    def extrapolate(self) -> None:
        """Move the parameters to where the gradient is taken, before the forward pass; ``step`` brings them back."""


class ScheduleFreeAdamW(ExtrapolatingOptimizer):
    """Three sequences: ``z`` takes the steps, ``x`` averages it, ``y`` between them is where the gradient is taken.

    Between steps the parameters hold ``x``. ``extrapolate``, before the forward pass, moves all of them to ``y``;
    ``step``, after the backward pass, brings all of them to the new ``x``. With rate ``lr`` of update ``t`` (from 1)
    and ``a = lr sqrt(1 - b2^t)``::

        y = b1 x + (1 - b1) z;  g = gradient at y
        v = b2 v + (1 - b2) g^2
        z = z - a (g / (sqrt(v) + eps)) - decay
        x = (1 - c) x + c z,  c = w_t / (w_1 + ... + w_t),  w_t = t^step_power lr^2

    State: ``z``, and ``v`` in the variant's dtype. ``x`` is recovered from ``y`` and ``z``, so ``b1`` must not be 0.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        betas: Interpolation towards ``x``, decay of the second moment.
        eps: Added to the root.
        weight_decay: Decoupled: multiplied by the learning rate.
        variant: In what the entries differ.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        variant: ScheduleFreeVariant | None = None,
    ) -> None:
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0 and 0 < betas[0] < 1 and 0 <= betas[1] < 1):
            msg = f"out of range: {lr=}, {betas=}, {eps=}, {weight_decay=}"
            raise ValueError(msg)
        counters = {"num_updates": 0, "weight_sum": 0.0, "highest_rate": 0.0}
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **counters})
        self.variant = variant or ScheduleFreeVariant()

    @torch.no_grad()
    def extrapolate(self) -> None:
        """Move the parameters from ``x`` to ``y``."""
        for group in self.param_groups:
            parameters = list(group["params"])
            torch._foreach_lerp_(parameters, self._iterates(parameters), 1 - group["betas"][0])

    @torch.no_grad()
    def restart_from(self, initial: Sequence[Tensor]) -> None:
        """Start again from these weights, in the order of the parameters: moments, average and counters forgotten."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for parameter, weights in zip(parameters, initial, strict=True):
            parameter.copy_(weights)
        for group in self.param_groups:
            group.update(num_updates=0, weight_sum=0.0, highest_rate=0.0)
        self.state.clear()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, each tensor in its own dtype: torch would cast all of it to the parameters'."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            if "second_moment" in state:
                state["second_moment"] = state["second_moment"].to(self.variant.second_moment_dtype)

    def _update_group(self, group: dict[str, Any]) -> None:
        variant, rate = self.variant, group["lr"]
        parameters, gradients = with_gradients(group)
        averaged = self._share_in_average(group)
        corrected_rate = rate * (1 - group["betas"][1] ** group["num_updates"]) ** 0.5
        decay_rate = -group["weight_decay"] * (corrected_rate if variant.decay_is_corrected else rate)

        # ``x`` is recovered with the old ``z``, also where there is no gradient; the decay waits until then.
        is_at_y = variant.decay_at is DecayPoint.GRADIENT_POINT
        decay = torch._foreach_mul(parameters, decay_rate) if parameters and is_at_y else ()
        self._return_to_average(group)
        if not parameters:
            return
        if not is_at_y:
            decay = torch._foreach_mul(parameters, decay_rate)
        iterates = self._iterates(parameters)
        scale = torch._foreach_sqrt(self._renewed_second_moments(parameters, gradients, decay=group["betas"][1]))
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_addcdiv_(iterates, gradients, scale, -corrected_rate)
        torch._foreach_add_(iterates, decay)
        torch._foreach_lerp_(parameters, iterates, averaged)

    def _return_to_average(self, group: dict[str, Any]) -> None:
        """Move all parameters of a group from ``y`` back to ``x``."""
        everything = list(group["params"])
        torch._foreach_lerp_(everything, self._iterates(everything), 1 - 1 / group["betas"][0])

    def _renewed_second_moments(
        self, parameters: list[Tensor], gradients: list[Tensor], *, decay: float
    ) -> list[Tensor]:
        """Fold the gradients into ``v`` of each parameter and return it."""
        second = self._second_moments(parameters)
        if self.variant.second_moment_dtype is torch.float32:
            renew_second_moments(second, gradients, decay=decay)
            return second
        for moment in second:
            moment.mul_(decay)  # the same call over a list rounds the number to the moment's dtype first
        torch._foreach_addcmul_(second, gradients, gradients, 1 - decay)
        return second

    def _share_in_average(self, group: dict[str, Any]) -> float:
        """Count the update and return ``c``, the newest iterate's share in the average."""
        group["num_updates"] += 1
        group["highest_rate"] = max(group["highest_rate"], group["lr"])
        rate = group["highest_rate"] if self.variant.uses_highest_rate else group["lr"]
        weight = group["num_updates"] ** self.variant.step_power * rate**2
        group["weight_sum"] += weight
        return float(weight / group["weight_sum"]) if group["weight_sum"] else 0.0

    def _iterates(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return ``z`` of each parameter."""
        return self._starting_from("iterate", parameters)

    def _second_moments(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        for parameter in parameters:
            if "second_moment" not in self.state[parameter]:
                dtype = self.variant.second_moment_dtype
                self.state[parameter]["second_moment"] = torch.zeros_like(parameter, dtype=dtype)
        return [self.state[parameter]["second_moment"] for parameter in parameters]


class StatisticsPass(StrEnum):
    """On which steps batch-norm statistics are collected by an extra forward pass at the average."""

    AS_RUN = "as_run"
    """On two steps of three, as in both entries of AlgoPerf v0.6 with external tuning."""
    ONE_OF_THREE = "one_step_of_three"
    """On one step of three, as in the self-tuning entry."""
    EVERY_STEP = "every_step"
    """So that the average's statistics are always its own."""
    NEVER = "never"
    """No extra pass: statistics come from the gradient pass."""

    def is_due(self, step: int) -> bool:
        """Tell whether the pass is made in a step, counted from 0."""
        is_third = step % _STATISTICS_PERIOD == 0
        due = {
            StatisticsPass.AS_RUN: not is_third,
            StatisticsPass.ONE_OF_THREE: is_third,
            StatisticsPass.EVERY_STEP: True,
            StatisticsPass.NEVER: False,
        }
        return due[self]


class ScheduleFreeSubmission(GradientSubmission):
    """One step of a Schedule-Free optimizer; the model holds the average between steps.

    Args:
        context: What the engine offers.
        optimizer: Moves the weights to the gradient point and back.
        schedule: The rate of update ``k``.
        label_smoothing: Given to the loss.
        dropout_rate: Set on the model once; ``None`` keeps the workload's default.
        statistics_pass: On which steps batch-norm statistics are updated by a forward pass of its own at the average;
            the gradient pass then never updates them. Without effect for models that have no batch norm.
    """

    def __init__(
        self,
        context: TrainingContext,
        optimizer: ExtrapolatingOptimizer,
        *,
        schedule: Schedule,
        label_smoothing: float = 0.0,
        dropout_rate: float | None = None,
        statistics_pass: StatisticsPass = StatisticsPass.NEVER,
    ) -> None:
        super().__init__(
            context, [optimizer], schedule=schedule, label_smoothing=label_smoothing, dropout_rate=dropout_rate
        )
        self.optimizer = optimizer
        has_batch_norm = any(name.endswith("running_mean") for name, _ in context.model.named_buffers())
        self._statistics_pass = statistics_pass if has_batch_norm else StatisticsPass.NEVER

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step on the gradient at the extrapolated weights."""
        if self._statistics_pass is StatisticsPass.NEVER:
            self.optimizer.extrapolate()
            return super().update_params(batch)
        if self._statistics_pass.is_due(self.num_updates):
            with torch.no_grad():
                self.context.loss(batch, label_smoothing=self.label_smoothing)
        self.context.set_batch_norm(BatchNormMode.FREEZE)
        self.optimizer.extrapolate()
        report = super().update_params(batch)
        self.context.set_batch_norm(BatchNormMode.UPDATE)
        return report


class ScheduleFreePoint(AdamPoint):
    """A point of Schedule-Free AdamW: the average must be recoverable, so the interpolation towards it is not 0."""

    one_minus_beta1: float = Field(gt=0, lt=1)


class FirstEntryOptions(Spec):
    """What ran in AlgoPerf v0.5, with either ruleset, or what the paper has."""

    decay: Behaviour
    """As run: proportional to the average, with the bias-corrected rate. As intended: to the gradient point, with the
    plain rate."""
    second_moment: Behaviour
    """As run: bfloat16. As intended: float32."""
    average: Literal["as_run", "authors"] = "as_run"
    """As run, an iterate's weight in the average grows with its number to the power of 0.75. The authors' package has a
    power of 0."""
    batch_norm: Behaviour
    """As run: statistics are collected at the gradient point. As intended: at the average that is evaluated, by a
    forward pass of its own in every step."""

    def statistics_pass(self) -> StatisticsPass:
        """Return in which steps a forward pass of its own collects batch-norm statistics."""
        return StatisticsPass.NEVER if self.batch_norm is Behaviour.AS_RUN else StatisticsPass.EVERY_STEP

    def variant(self) -> ScheduleFreeVariant:
        """Return the entry's choices."""
        is_decay_as_run = self.decay is Behaviour.AS_RUN
        is_moment_as_run = self.second_moment is Behaviour.AS_RUN
        return ScheduleFreeVariant(
            decay_at=DecayPoint.AVERAGE if is_decay_as_run else DecayPoint.GRADIENT_POINT,
            decay_is_corrected=is_decay_as_run,
            step_power=0.75 if self.average == "as_run" else 0.0,
            second_moment_dtype=torch.bfloat16 if is_moment_as_run else torch.float32,
        )


class SecondEntryOptions(Spec):
    """What the entries of AlgoPerf v0.6 with external tuning leave open."""

    statistics_pass: StatisticsPass


def tuned_schedule_free(
    context: TrainingContext,
    point: ScheduleFreePoint,
    variant: ScheduleFreeVariant,
    *,
    horizon: float,
    statistics_pass: StatisticsPass = StatisticsPass.NEVER,
    optimizer_type: type[ScheduleFreeAdamW] = ScheduleFreeAdamW,
) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW at a point; weight decay acts on every parameter.

    Args:
        context: What the engine offers.
        point: Of the search space.
        variant: In what the entries differ.
        horizon: Updates of which the warm-up is a part.
        statistics_pass: As for the submission.
        optimizer_type: One with another step, where an entry has it.
    """
    optimizer = optimizer_type(
        context.model.parameters(),
        lr=point.learning_rate,
        betas=point.betas,
        eps=EPSILON,
        weight_decay=point.weight_decay,
        variant=variant,
    )
    return ScheduleFreeSubmission(
        context,
        optimizer,
        schedule=WarmupConstant(peak=point.learning_rate, warmup=int(point.warmup_factor * horizon), lowest=EPSILON),
        label_smoothing=point.label_smoothing,
        dropout_rate=point.dropout_rate,
        statistics_pass=statistics_pass,
    )


def second_entry_schedule_free(
    context: TrainingContext,
    point: ScheduleFreePoint,
    variant: ScheduleFreeVariant,
    *,
    options: SecondEntryOptions,
    optimizer_type: type[ScheduleFreeAdamW] = ScheduleFreeAdamW,
) -> ScheduleFreeSubmission:
    """Return Schedule-Free AdamW at a point, with the warm-up of the entries of AlgoPerf v0.6."""
    return tuned_schedule_free(
        context,
        point,
        variant,
        horizon=context.step_hint * _SECOND_ENTRY_HORIZON,
        statistics_pass=options.statistics_pass,
        optimizer_type=optimizer_type,
    )
