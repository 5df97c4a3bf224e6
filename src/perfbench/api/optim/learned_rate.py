"""A learned optimizer that learned one thing: the learning rate, one for all tensors.

A small recurrent network sees how far training is and how the loss has moved on ten time scales; all else is Adam
without bias correction, relative to the size of each tensor. The network is of the VeLO family (Metz et al., 2022,
arXiv 2211.09760), reduced to what reaches the update (specification, 2.3.4).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from perfbench.api.gradient import GradientSubmission
from perfbench.api.optim.group_optimizer import GroupOptimizer, with_gradients
from perfbench.api.optim.rate_weights import RateWeights
from perfbench.api.submission import StateDict, StepReport, TrainingContext
from perfbench.api.workload import Batch

NUM_TIME_SCALES = 10
MILESTONES = (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
"""Parts of the horizon that progress is measured against."""

_SHORTEST_TIME = 10.0
"""In updates: the first time scale."""
_NO_MINIMUM_YET = 999_999_999_999.0
_SMALLEST_RANGE = 1e-8
_UPDATES_WITHOUT_LOSS_FEATURES = 2
_RATE_UNIT = 0.001
_SMALLEST_MULTIPLIER, _LARGEST_MULTIPLIER = 1e-5, 1000.0
_LARGEST_GRADIENT = 1000.0
_BETAS = (0.9, 0.999)


class LossHistory:
    """Moving averages of the loss on ten time scales, and their smallest values so far; nothing waits for the device.

    Args:
        horizon: In updates; the longest time scale, may be fractional.
        like: Gives dtype and device.
    """

    def __init__(self, horizon: float, *, like: Tensor) -> None:
        exponents = (math.log10(_SHORTEST_TIME), math.log10(horizon))
        times = torch.logspace(*exponents, NUM_TIME_SCALES, dtype=torch.float64)
        self._decays = torch.exp(-1 / times).to(like)
        self.means = torch.zeros_like(self._decays)
        self.minima = torch.full_like(self._decays, _NO_MINIMUM_YET)

    def features(self, loss: Tensor, *, num_updates: int) -> Tensor:
        """Take in a loss (a scalar) and return nine features in [-1, 1].

        Args:
            loss: Of this update, over all ranks. It counts for at most twice the largest average so far.
            num_updates: Made before this one.
        """
        correction = 1 - self._decays ** (num_updates + 1)
        reference = (self.means / correction).max() if num_updates else loss
        loss = torch.minimum(2 * reference.abs(), loss)
        self.means.lerp_(loss.expand_as(self.means), 1 - self._decays)
        corrected = self.means / correction
        torch.minimum(self.minima, corrected, out=self.minima)
        if num_updates < _UPDATES_WITHOUT_LOSS_FEATURES:
            return torch.zeros_like(corrected[1:])
        spread = (corrected[1:] - self.minima[:-1]).clamp(min=_SMALLEST_RANGE)
        return ((corrected[:-1] - self.minima[:-1]) / spread - 1).clamp(-1, 1)


class RatePredictor:
    """The network and its recurrent state.

    Args:
        weights: On the device that is trained on.
        horizon: In updates, may be fractional; training may go on after it.
    """

    def __init__(self, weights: RateWeights, *, horizon: float) -> None:
        self._weights = weights
        self._horizon = horizon
        self._milestones = weights.hidden.new_tensor(MILESTONES)
        self._history = LossHistory(horizon, like=weights.hidden)
        self._hidden, self._cell = weights.hidden.clone(), weights.cell.clone()
        self._num_updates = 0

    def next_rate(self, loss: Tensor) -> Tensor:
        """Return the learning rate of the next update, a scalar, after the loss at the present weights."""
        # The entries keep the horizon as a whole number here, and only here.
        progress = torch.tanh(10 * (self._num_updates / int(self._horizon) - self._milestones))
        features = torch.cat([progress, self._history.features(loss, num_updates=self._num_updates)])
        self._num_updates += 1
        return _RATE_UNIT * self._multiplier(features[None]).clamp(_SMALLEST_MULTIPLIER, _LARGEST_MULTIPLIER)

    def state_dict(self) -> StateDict:
        """Return the recurrent state and the history of the loss; the weights are the file's."""
        return {
            "num_updates": self._num_updates,
            "hidden": self._hidden,
            "cell": self._cell,
            "means": self._history.means,
            "minima": self._history.minima,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore a state in place."""
        own = self.state_dict()
        for name, saved in state.items():
            if isinstance(saved, Tensor):
                own[name].copy_(saved)
        self._num_updates = state["num_updates"]

    def _multiplier(self, features: Tensor) -> Tensor:
        """Advance the recurrent state by features of shape ``[1, 18]``; return a scalar."""
        w = self._weights
        # In the entries every tensor has a row of its own; all rows are equal, and so is their maximum.
        shared = torch.relu(features @ w.shared_w + w.shared_b)
        inputs = features @ w.own_w + w.own_b + shared
        gates = torch.cat([inputs, self._hidden], dim=1) @ w.gates_w + w.gates_b
        enter, new, keep, show = gates.chunk(4, dim=1)
        self._cell.copy_(torch.sigmoid(keep + 1) * self._cell + torch.sigmoid(enter) * torch.tanh(new))
        self._hidden.copy_(torch.sigmoid(show) * torch.tanh(self._cell))
        return (self._hidden @ w.rate_w + w.rate_b).squeeze()


class RelativeAdam(GroupOptimizer):
    """Adam without bias correction whose steps are relative to the root mean square of each tensor.

    For gradient ``g``, clamped to +-1000, with ``m`` and ``v`` starting at zero::

        m = 0.9 m + 0.1 g;  v = 0.999 v + 0.001 g^2
        w = w - lr sqrt(mean(w^2) + 1e-9) m / (1e-8 + sqrt(v + 1e-10))

    ``lr`` of a group may be a scalar tensor: nothing waits for the device. State: 8 bytes per parameter.

    Args:
        params: Parameters or groups.
    """

    def __init__(self, params: ParamsT) -> None:
        super().__init__(params, {"lr": 0.0})

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        if not parameters:
            return
        torch._foreach_clamp_min_(gradients, -_LARGEST_GRADIENT)
        torch._foreach_clamp_max_(gradients, _LARGEST_GRADIENT)
        first, second = self._buffers("first_moment", parameters), self._buffers("second_moment", parameters)
        torch._foreach_lerp_(first, gradients, 1 - _BETAS[0])
        torch._foreach_mul_(second, _BETAS[1])
        torch._foreach_addcmul_(second, gradients, gradients, 1 - _BETAS[1])
        scale = list(torch._foreach_add(second, 1e-10))
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, 1e-8)
        sizes = torch._foreach_norm(parameters)
        torch._foreach_div_(sizes, [math.sqrt(parameter.numel()) for parameter in parameters])
        lengths = group["lr"] * (torch.stack(sizes).square() + 1e-9).sqrt()
        steps = list(torch._foreach_div(first, scale))
        torch._foreach_mul_(steps, list(lengths.unbind()))
        torch._foreach_sub_(parameters, steps)


class LearnedRateSubmission(GradientSubmission):
    """Ordinary gradient steps at predicted rates; the loss over all ranks is the network's input.

    Args:
        context: What the engine offers.
        weights: Of the network.
        horizon: In updates.
    """

    def __init__(self, context: TrainingContext, weights: RateWeights, *, horizon: float) -> None:
        self._optimizer = RelativeAdam(context.model.parameters())
        super().__init__(context, [self._optimizer])
        self._predictor = RatePredictor(weights.to(context.device), horizon=horizon)

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step on the gradient of the global mean loss."""
        context, optimizer = self.context, self._optimizer
        loss = self._backward(batch)
        with torch.no_grad():
            over_ranks = context.add_over_ranks(loss) / context.shard.num_ranks
            rate = self._predictor.next_rate(over_ranks)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        self.num_updates += 1
        return StepReport(loss=loss, extra={"predicted_rate": rate})

    def state_dict(self) -> StateDict:
        """Return the moments and the predictor's state."""
        return {**super().state_dict(), "predictor": self._predictor.state_dict()}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the moments and the predictor's state."""
        super().load_state_dict(state)
        self._predictor.load_state_dict(state["predictor"])
