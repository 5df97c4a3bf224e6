"""Problems of a few hundred parameters on which a submission shows within a second whether it keeps the contract.

Together they have every kind of layer that submissions treat differently: linear, convolution, embedding, batch
norm, layer norm, dropout, biases, a table that is input and output, a parameter of size one and one without
dimensions; padded examples; and three families of loss.
Nothing here is a benchmark: no problem is meant to tell a good submission from a poor one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from perfbench.api.workload import Batch, LossSums, LossType, ParameterRole
from perfbench.spec.workload import Split

BATCH_SIZE = 16
NUM_PADDED = 3
"""The last examples of every batch carry weight zero: dividing by the batch size would be wrong."""
_INITIAL_SCALE = 0.1
_FIRST_INVENTED = -1
"""Invented batches have negative numbers."""


class TinyProblem(ABC):
    """A model, its loss and batches that are a pure function of their number."""

    name: ClassVar[str]
    loss_type: ClassVar[LossType]

    @abstractmethod
    def build_model(self, *, seed: int) -> nn.Module:
        """Return the initialised model; the same seed gives the same bits."""

    @abstractmethod
    def examples(self, generator: torch.Generator) -> Batch:
        """Return ``inputs`` and ``targets`` of ``BATCH_SIZE`` random examples that a good model can predict."""

    @abstractmethod
    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the loss of every example, shape ``[BATCH_SIZE]``."""

    def batch(self, number: int) -> Batch:
        """Return batch ``number`` (from 0) with its ``weights``, shape ``[BATCH_SIZE]``; the caller may change it."""
        return {name: tensor.clone() for name, tensor in _drawn(self, number).items()}

    def synthetic_batch(self, *, batch_size: int, seed: int, split: Split | None = None, num_ranks: int = 1) -> Batch:  # noqa: ARG002
        """Return an invented batch, as a workload does: of the same form as the problem's own, and none of them."""
        first = _FIRST_INVENTED - (1 + list(Split).index(split) if split else 0)
        numbers = [
            first - (1 + len(Split)) * (seed * batch_size + part) for part in range(-(-batch_size // BATCH_SIZE))
        ]
        drawn = [_drawn(self, number) for number in numbers]
        return {name: torch.cat([batch[name] for batch in drawn])[:batch_size] for name in drawn[0]}

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the loss sums of a batch."""
        outputs = model(batch["inputs"])
        losses = self.per_example_loss(outputs, batch["targets"], label_smoothing=label_smoothing) * batch["weights"]
        return LossSums(summed=losses.sum(), num_valid=batch["weights"].sum(), per_example=losses)


@lru_cache(maxsize=512)  # a check trains on the same batches again and again
def _drawn(problem: TinyProblem, number: int) -> Batch:
    weights = torch.ones(BATCH_SIZE)
    weights[-NUM_PADDED:] = 0
    return {**problem.examples(torch.Generator().manual_seed(number)), "weights": weights}


class TinyRegression(TinyProblem):
    """Mean squared error: linear layers, layer norm, dropout and a learned scale of shape ``[1]``.

    The scale starts small, so that curvature is low and plain gradient steps with large rates stay stable.
    """

    name = "regression"
    loss_type = LossType.MEAN_SQUARED_ERROR

    def build_model(self, *, seed: int) -> nn.Module:
        """Return a perceptron from 12 inputs to 4 outputs."""
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            return nn.Sequential(
                nn.Linear(12, 40), nn.LayerNorm(40), nn.Tanh(), nn.Dropout(0.1), nn.Linear(40, 4), _Scale()
            )

    def examples(self, generator: torch.Generator) -> Batch:
        """Return inputs of shape ``[BATCH_SIZE, 12]`` and a linear function of them."""
        inputs = torch.randn(BATCH_SIZE, 12, generator=generator)
        planted = torch.linspace(-1, 1, 48).reshape(12, 4)
        return {"inputs": inputs, "targets": _INITIAL_SCALE * (inputs @ planted + 0.5)}

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:  # noqa: ARG002
        """Return the mean squared error; there is nothing to smooth."""
        return (outputs - targets).square().mean(dim=1)


class TinyClicks(TinyProblem):
    """Sigmoid cross entropy: an embedding whose gradient is zero in most rows, and dense layers."""

    name = "clicks"
    loss_type = LossType.SIGMOID_CROSS_ENTROPY

    def build_model(self, *, seed: int) -> nn.Module:
        """Return a model from three ids below 50 to one logit."""
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            return nn.Sequential(
                nn.Embedding(50, 6), nn.Flatten(), nn.Linear(18, 10), nn.ReLU(), nn.Dropout(0.1), nn.Linear(10, 1)
            )

    def examples(self, generator: torch.Generator) -> Batch:
        """Return ids of shape ``[BATCH_SIZE, 3]`` and whether their sum is large."""
        ids = torch.randint(50, (BATCH_SIZE, 3), generator=generator)
        return {"inputs": ids, "targets": (ids.sum(dim=1) > 75).float()}  # noqa: PLR2004 - the middle

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the binary cross entropy against labels pulled towards one half."""
        smoothed = targets * (1 - label_smoothing) + 0.5 * label_smoothing
        return F.binary_cross_entropy_with_logits(outputs[:, 0], smoothed, reduction="none")


class TinyImages(TinyProblem):
    """Softmax cross entropy: convolution and batch norm, whose statistics are buffers."""

    name = "images"
    loss_type = LossType.SOFTMAX_CROSS_ENTROPY

    def build_model(self, *, seed: int) -> nn.Module:
        """Return a convolutional model from 8 x 8 pixels to 3 classes."""
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, 6, 3, bias=False),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                nn.MaxPool2d(3),
                nn.Flatten(),
                nn.Dropout(0.1),
                nn.Linear(24, 3),
            )

    def examples(self, generator: torch.Generator) -> Batch:
        """Return images of shape ``[BATCH_SIZE, 1, 8, 8]`` with a bright stripe, and where it is."""
        targets = torch.randint(3, (BATCH_SIZE,), generator=generator)
        images = 0.5 * torch.randn(BATCH_SIZE, 1, 8, 8, generator=generator)
        images[torch.arange(BATCH_SIZE), 0, :, 2 * targets + 1] += 2.0
        return {"inputs": images, "targets": targets}

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the cross entropy against smoothed labels."""
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)


class TinyText(TinyProblem):
    """Softmax cross entropy: a table that is input and output, and a learned scale without dimensions."""

    name = "text"
    loss_type = LossType.SOFTMAX_CROSS_ENTROPY

    def build_model(self, *, seed: int) -> nn.Module:
        """Return a model from two ids below 12 to one id."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return _TiedTable(num_ids=12, width=8)

    def examples(self, generator: torch.Generator) -> Batch:
        """Return ids of shape ``[BATCH_SIZE, 2]`` and the one that follows the second."""
        ids = torch.randint(12, (BATCH_SIZE, 2), generator=generator)
        return {"inputs": ids, "targets": (ids[:, 1] + 1) % 12}

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the cross entropy against smoothed labels."""
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=label_smoothing)


TINY_PROBLEMS: tuple[TinyProblem, ...] = (TinyRegression(), TinyClicks(), TinyImages(), TinyText())


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), _INITIAL_SCALE))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.weight


class _TiedTable(nn.Module):
    def __init__(self, num_ids: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_ids, width)
        nn.init.normal_(self.embedding.weight, std=0.3)
        self.hidden = nn.Linear(2 * width, width, bias=False)
        self.attention = _Temperature()

    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(self.embedding(ids).flatten(1)))
        return F.linear(self.attention(hidden), self.embedding.weight)


class _Temperature(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(_INITIAL_SCALE))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale


def parameter_roles(model: nn.Module) -> dict[str, ParameterRole]:
    """Return the role of every named parameter of a tiny model."""
    roles = {}
    for module_name, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            roles[f"{module_name}.{name}"] = _role(module, is_bias=name == "bias")
    return roles


def _role(module: nn.Module, *, is_bias: bool) -> ParameterRole:
    match module:
        case nn.Embedding():
            return ParameterRole.EMBEDDING
        case nn.BatchNorm2d():
            return ParameterRole.BATCH_NORM_BIAS if is_bias else ParameterRole.BATCH_NORM_SCALE
        case nn.LayerNorm():
            return ParameterRole.LAYER_NORM_BIAS if is_bias else ParameterRole.LAYER_NORM_SCALE
        case nn.Conv2d():
            return ParameterRole.CONV_WEIGHT
        case _:
            return ParameterRole.BIAS if is_bias else ParameterRole.WEIGHT
