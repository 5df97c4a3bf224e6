"""The split of a model into hidden matrices and all else, and the submission that trains each its own way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim.optimizer import Optimizer

from perfbench.api.gradient import GradientSubmission
from perfbench.api.optim.points import RateAndDecay
from perfbench.api.schedules import WarmupCosine, WarmupLinear
from perfbench.api.submission import TrainingContext
from perfbench.api.workload import ParameterRole

Parameters = list[nn.Parameter]


def split_matrices(model: nn.Module, roles: Mapping[str, ParameterRole]) -> tuple[Parameters, Parameters]:
    """Return the matrices (two or more dimensions, no embedding) and all else, such as gains, biases and numbers.

    A table that is input and output of a model is an embedding. Output layers of their own are matrices, as in the
    entries of the competition: no role tells them from others.
    """
    matrices: Parameters = []
    others: Parameters = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() > 1 and roles[name] is not ParameterRole.EMBEDDING
        (matrices if is_matrix else others).append(parameter)
    return matrices, others


def initial_scales(parameters: Parameters) -> list[float]:
    """Return the root mean square of each parameter's entries, read from the device at once: not for a step.

    Tensors without content, which checks use, are said to be 1.
    """
    if not parameters or isinstance(parameters[0], FakeTensor):
        return [1.0] * len(parameters)
    scales: list[float] = torch.stack([p.detach().square().mean().sqrt() for p in parameters]).tolist()
    return scales


def optimizers_of_split(
    split: tuple[Parameters, Parameters],
    matrices: Callable[[Parameters], Optimizer],
    others: Callable[[Parameters], Optimizer],
) -> list[Optimizer]:
    """Return the optimizer of each part of a split; a model may lack either part."""
    return [optimizer(part) for part, optimizer in zip(split, (matrices, others), strict=True) if part]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRecipe:
    """What is fixed besides the rate and the decay of the matrices.

    Where a method's authors have no AdamW for nine different workloads, that of the best Muon entry is as good as any:
    the defaults (AlgoPerf v1.0, self-tuning, ``muon_torch``).

    Args:
        point: The recipe's own.
        others_rate: Of AdamW, for all that is no matrix, at that point; when the rate of the matrices is tuned the two
            keep their ratio.
        others_betas: Decay of AdamW's moments.
        warmup_factor: Of the step hint.
        is_linear: Whether the rate then falls along a line instead of a cosine; both end at zero with the step hint.
    """

    point: RateAndDecay
    others_rate: float = 0.01
    others_betas: tuple[float, float] = (0.9, 0.999)
    warmup_factor: float = 0.05
    is_linear: bool = False

    def submission(
        self,
        context: TrainingContext,
        point: RateAndDecay,
        matrix_optimizer: Callable[[Parameters], Optimizer],
        *,
        split: tuple[Parameters, Parameters] | None = None,
        others_weight_decay: float = 0.0,
    ) -> GradientSubmission:
        """Return the submission that trains matrices with one optimizer and all else with AdamW.

        Args:
            context: What the engine offers.
            point: The rate of the matrices; their decay is the optimizer's.
            matrix_optimizer: Of the matrices.
            split: Of the parameters, if another than ``split_matrices``.
            others_weight_decay: AdamW's.
        """
        scale = self.others_rate / self.point.learning_rate
        optimizers = optimizers_of_split(
            split or split_matrices(context.model, context.roles),
            matrix_optimizer,
            lambda others: torch.optim.AdamW(
                [{"params": others, "lr_scale": scale}],
                betas=self.others_betas,
                weight_decay=others_weight_decay,
                fused=True,
            ),
        )
        horizon, warmup = context.step_hint, int(self.warmup_factor * context.step_hint)
        peak = point.learning_rate
        schedule = (
            WarmupLinear(peak, warmup=warmup, decay=horizon - warmup, end_factor=0.0)
            if self.is_linear
            else WarmupCosine(peak, horizon=horizon, warmup=warmup)
        )
        return GradientSubmission(context, optimizers, schedule=schedule)
