"""Random numbers on several ranks: what a submission draws is the same on all of them, what the model draws is not.

AlgoPerf seeds every rank alike, and an optimizer that draws (vectors that probe a matrix, say) relies on it: other ones
would drive the ranks apart. Dropout shall differ all the same, as it does under any submission here. So the model draws
from generators of the rank's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RankDraws:
    """Torch's generators as the engine seeded this rank's, for the model alone.

    Args:
        device: Where the model is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.states = self._captured()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let what is drawn within come from the rank's own generators."""
        shared = self._captured()
        self._restore(self.states)
        try:
            yield
        finally:
            self.states = self._captured()
            self._restore(shared)

    def _captured(self) -> list[Tensor]:
        """Return the states of the host's generator and the device's; they lie in host memory: nothing waits."""
        states = [torch.get_rng_state()]
        return [*states, torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else states

    def _restore(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)
