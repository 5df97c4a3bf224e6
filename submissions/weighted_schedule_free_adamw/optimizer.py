"""Schedule-Free AdamW whose iterate is rebuilt from the initial weights and a sum of all steps (dual averaging)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perfbench.api.optim import ScheduleFreeAdamW, with_gradients


class WeightedScheduleFreeAdamW(ScheduleFreeAdamW):
    """Another iterate ``z`` under the same average and gradient point; later steps weigh more in it.

    For gradient ``g`` at ``y`` in update ``t`` (from 1) with rate ``lr``, and ``z1`` the initial weights::

        v = b2 v + (1 - b2) g^2
        s = s + t lr (g / (sqrt(v / (1 - b2^t)) + eps) + weight_decay y)
        z = z1 - s / t
        x = (1 - c) x + c z,  c = w_t / (w_1 + ... + w_t)

    The variant gives ``w_t`` and the dtype of both ``v`` and ``z1``; where the decay is, is fixed. Every weight
    carries the rounding of ``z1``.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, each tensor in its own dtype."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            if "initial" in state:
                state["initial"] = state["initial"].to(self.variant.second_moment_dtype)

    def _update_group(self, group: dict[str, Any]) -> None:
        parameters, gradients = with_gradients(group)
        share = self._share_in_average(group)
        number, decay = group["num_updates"], group["betas"][1]
        step_weight = number * group["lr"]
        sums = self._buffers("step_sum", parameters)
        if parameters:  # still at ``y``
            torch._foreach_add_(sums, parameters, alpha=step_weight * group["weight_decay"])
        self._return_to_average(group)
        if not parameters:
            return
        second = self._renewed_second_moments(parameters, gradients, decay=decay)
        scale = torch._foreach_div(second, 1 - decay**number)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_addcdiv_(sums, gradients, scale, step_weight)
        iterates = self._iterates(parameters)
        torch._foreach_copy_(iterates, self._initial(parameters))
        torch._foreach_add_(iterates, sums, alpha=-1 / number)
        torch._foreach_lerp_(parameters, iterates, share)

    def _initial(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return ``z1`` of each parameter: the iterate as it is before its first step."""
        for parameter in parameters:
            state = self.state[parameter]
            if "initial" not in state:
                state["initial"] = state["iterate"].to(self.variant.second_moment_dtype, copy=True)
        return [self.state[parameter]["initial"] for parameter in parameters]
