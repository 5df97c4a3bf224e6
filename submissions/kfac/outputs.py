"""The curvature of the loss in the model's outputs, as vectors whose outer products add up to it.

For most losses it does not depend on the targets: it is that of the model's own predictive distribution. Which outputs
count (padding, labels that are not known) is read off the gradient of the real loss: where that is zero, so are they.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum

import torch
from torch import Tensor

from perfbench.api import LossType

Noise = Callable[[tuple[int, ...]], Tensor]
"""Uniform random numbers in [0, 1) of a shape whose first dimension is this rank's part."""


class OutputCurvature(StrEnum):
    """How the output curvature is made."""

    SAMPLED = "sampled"
    """One vector for each row, drawn so that its outer product is right on average."""
    EXACT = "exact"
    """As many backward passes as the model has outputs for a row."""


def output_vectors(
    loss_type: LossType, outputs: Tensor, gradient: Tensor, *, curvature: OutputCurvature, noise: Noise
) -> Iterator[Tensor]:
    """Yield vectors, each of the outputs' shape, to propagate back.

    The squared error is taken as the mean over an example's outputs, cross entropies as sums. The absolute error has
    no curvature; its vectors are the gradient with random signs (Laplace distribution). That of CTC depends on the
    targets: its vector is the gradient itself (empirical Fisher).

    Args:
        loss_type: Of the workload.
        outputs: First dimension examples; for classes the last dimension is the classes.
        gradient: Of the summed loss in the outputs.
        curvature: Exact is possible for cross entropies and the squared error; for the others it changes nothing.
        noise: Uniform random numbers.
    """
    exact = curvature is OutputCurvature.EXACT
    match loss_type:
        case LossType.SOFTMAX_CROSS_ENTROPY:
            counts = (gradient != 0).any(dim=-1, keepdim=True)
            yield from (vector * counts for vector in _of_classes(outputs.softmax(dim=-1), noise, exact=exact))
        case LossType.SIGMOID_CROSS_ENTROPY:
            yield from (vector * (gradient != 0) for vector in _of_labels(outputs.sigmoid(), noise, exact=exact))
        case LossType.MEAN_SQUARED_ERROR:
            counts = (gradient != 0).flatten(1).any(dim=1).reshape(-1, *[1] * (outputs.dim() - 1))
            scale = (2 / outputs[0].numel()) ** 0.5
            yield from (scale * vector * counts for vector in _of_values(outputs, noise, exact=exact))
        case LossType.MEAN_ABSOLUTE_ERROR:
            yield gradient * _signs(noise(tuple(gradient.shape)))
        case LossType.CTC:
            yield gradient


def _of_classes(probabilities: Tensor, noise: Noise, *, exact: bool) -> Iterator[Tensor]:
    num_classes = probabilities.shape[-1]
    classes = torch.arange(num_classes, device=probabilities.device)  # ``one_hot`` would look at the values
    if exact:
        for index in range(num_classes):
            chosen = (classes == index).to(probabilities)
            yield probabilities[..., index : index + 1].sqrt() * (probabilities - chosen)
        return
    drawn = noise((*probabilities.shape[:-1], 1))
    sampled = (probabilities.cumsum(dim=-1) <= drawn).sum(dim=-1, keepdim=True).clamp(max=num_classes - 1)
    yield probabilities - (classes == sampled).to(probabilities)


def _of_labels(probabilities: Tensor, noise: Noise, *, exact: bool) -> Iterator[Tensor]:
    if not exact:
        yield probabilities - (noise(tuple(probabilities.shape)) < probabilities).to(probabilities)
        return
    deviations = (probabilities * (1 - probabilities)).sqrt()
    if probabilities.dim() == 1:
        yield deviations
        return
    yield from _one_by_one(deviations)


def _of_values(outputs: Tensor, noise: Noise, *, exact: bool) -> Iterator[Tensor]:
    if exact:
        yield from _one_by_one(torch.ones_like(outputs))
    else:
        yield _signs(noise(tuple(outputs.shape)))


def _one_by_one(values: Tensor) -> Iterator[Tensor]:
    """Yield one vector for each output of an example: its value there, zero elsewhere."""
    flat = values.flatten(1)
    for index in range(flat.shape[1]):
        alone = torch.zeros_like(flat)
        alone[:, index] = flat[:, index]
        yield alone.reshape(values.shape)


def _signs(uniform: Tensor) -> Tensor:
    return torch.where(uniform < 0.5, -1.0, 1.0).to(uniform.dtype)  # noqa: PLR2004 - a fair coin
