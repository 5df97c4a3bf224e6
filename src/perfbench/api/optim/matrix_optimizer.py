"""What optimizers of matrices share: one update for all matrices of a shape, momentum, and the step itself."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from perfbench.api.optim.group_optimizer import GroupOptimizer, with_gradients
from perfbench.errors import SubmissionError


class Momentum(StrEnum):
    """What a gradient ``g`` makes of the momentum ``m`` with decay ``b``, and what is used of it."""

    AVERAGE = "average"
    """``m = b m + (1 - b) g``."""
    NESTEROV = "nesterov"
    """The same; used is ``b m + (1 - b) g``, one step ahead."""
    SUM = "sum"
    """``m = b m + g``."""

    def filtered(self, momenta: list[Tensor], gradients: list[Tensor], decay: float) -> list[Tensor]:
        """Renew the momenta in place; return what is used: they themselves, or new tensors."""
        if self is Momentum.SUM:
            torch._foreach_mul_(momenta, decay)
            torch._foreach_add_(momenta, gradients)
            return momenta
        return averaged(momenta, gradients, decay, is_nesterov=self is Momentum.NESTEROV)


def averaged(momenta: list[Tensor], gradients: list[Tensor], decay: float, *, is_nesterov: bool) -> list[Tensor]:
    """Renew averages of gradients in place; return them, or new tensors that are one step ahead (Nesterov).

    A function of its own: torch 2.11 cannot trace a method of an enumeration.
    """
    torch._foreach_lerp_(momenta, gradients, 1 - decay)
    return list(torch._foreach_lerp(gradients, momenta, decay)) if is_nesterov else momenta


class MatrixOptimizer(GroupOptimizer):
    """Updates tensors of two or more dimensions, those of one shape together.

    A subclass says what is made of the gradients one by one (``_filtered``, a few kernels over all), then of all
    tensors of a shape (``_directions``, a few kernels per shape), and may change the step (``_move``). Groups need
    ``lr`` and ``weight_decay``.
    """

    def _filtered(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:  # noqa: ARG002 - subclasses use both
        """Return what directions are made of: the gradients, unless a subclass filters them."""
        return gradients

    @abstractmethod
    def _directions(self, group: dict[str, Any], alike: list[Tensor], filtered: Tensor) -> Tensor:
        """Return the directions of parameters of one shape, to be multiplied by the rate and subtracted.

        Args:
            group: Of the parameters.
            alike: The parameters.
            filtered: What ``_filtered`` made of their gradients, shape ``[len(alike), *shape]``.
        """

    def _move(self, group: dict[str, Any], alike: list[Tensor], directions: Tensor) -> None:
        """Take the step, after decoupled weight decay."""
        torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(alike, list(directions.unbind()), alpha=-group["lr"])

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        filtered = self._filtered(group, parameters, gradients)
        for members in alike_in_shape(parameters):
            alike = [parameters[index] for index in members]
            stacked = torch.stack([filtered[index] for index in members])
            self._move(group, alike, self._directions(group, alike, stacked))

    def _stacked_state(self, alike: Sequence[Tensor]) -> dict[str, Any]:
        """Return the state that parameters of one shape have in common, kept as the first one's.

        Raises:
            SubmissionError: If it was of another number of parameters before: one has a gradient in some steps only.
        """
        state: dict[str, Any] = self.state[alike[0]]
        if state.setdefault("num_alike", len(alike)) != len(alike):
            raise SubmissionError(
                f"{state['num_alike']} parameters of shape {list(alike[0].shape)} had a gradient before, now "
                f"{len(alike)} have",
                where=type(self).__name__,
                hint="matrices of a shape are updated together: each needs a gradient in every step, or in none",
            )
        return state


def alike_in_shape(tensors: Iterable[Tensor]) -> list[list[int]]:
    """Return the numbers of tensors of one shape, shape by shape in the order of the first ones.

    >>> alike_in_shape([torch.zeros(2, 3), torch.zeros(3), torch.zeros(2, 3)])
    [[0, 2], [1]]
    """
    found: dict[torch.Size, list[int]] = defaultdict(list)
    for index, tensor in enumerate(tensors):
        found[tensor.shape].append(index)
    return list(found.values())


def norms_of(tensors: Tensor) -> Tensor:
    """Return the Frobenius norm of each tensor of a batch, shape ``[batch, 1, ...]``."""
    norms: Tensor = torch.linalg.vector_norm(tensors, dim=tuple(range(1, tensors.dim())), keepdim=True)
    return norms
