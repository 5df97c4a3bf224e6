"""Random numbers on several ranks: what a submission draws is the same on all of them, what the model draws is not.

AlgoPerf seeds every rank alike, and an optimizer that draws (vectors that probe a matrix, say) relies on it: other ones
would drive the ranks apart. Dropout shall differ all the same, as it does under any submission here. So the model draws
from a generator of the rank's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class RankDraws:
    """The device's generator as the engine seeded this rank's, for the model alone.

    Args:
        device: Where the model is.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.state = self._captured()
        """It lies in host memory, wherever the device is: nothing waits."""

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let what is drawn within come from the rank's own generator."""
        shared = self._captured()
        self._restore(self.state)
        try:
            yield
        finally:
            self.state = self._captured()
            self._restore(shared)

    def _captured(self) -> Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _restore(self, state: Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)
