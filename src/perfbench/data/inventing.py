"""Random values for invented batches: seeded, from a generator of their own, and as unequal as real data."""

from __future__ import annotations

import torch
from torch import Tensor

from perfbench.spec.workload import Split

_TRAIN = 0
_PATCH_SIDE = 4
"""Pixels."""
_NOISE = 48
"""Levels of brightness."""


class Inventor:
    """Draws the values of one invented batch; the same seed and split give the same bits.

    Args:
        seed: Any integer.
        split: Whose batch; ``None``: of training.
    """

    def __init__(self, seed: int, split: Split | None) -> None:
        number = _TRAIN if split is None else 1 + list(Split).index(split)
        self.generator = torch.Generator().manual_seed((seed * (1 + len(Split)) + number) % (1 << 63))

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        """Return integers from ``low`` up to and without ``high``, all equally likely."""
        return torch.randint(low, high, shape, generator=self.generator, dtype=dtype)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return float32 numbers between ``low`` and ``high``."""
        return torch.rand(shape, generator=self.generator) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Return float32 numbers of mean 0 and deviation 1."""
        return torch.randn(shape, generator=self.generator)

    def ranks(self, count: int, *shape: int) -> Tensor:
        """Return integers int64 from 0 to ``count - 1`` of which each is about as likely as its inverse (Zipf's law).

        Words, items and kinds of atoms are so distributed: a few rows of a table get most of its gradient.
        """
        share = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return ((count + 1.0) ** share - 1.0).to(torch.int64).clamp(max=count - 1)

    def images(self, num_images: int, num_channels: int, side: int) -> Tensor:
        """Return uint8 ``[n, channels, side, side]``: noise over patches of random brightness."""
        num_patches = -(-side // _PATCH_SIDE)
        patches = self.integers(0, 256 - _NOISE, num_images, num_channels, num_patches, num_patches, dtype=torch.uint8)
        patches = patches.repeat_interleave(_PATCH_SIDE, dim=2).repeat_interleave(_PATCH_SIDE, dim=3)
        images = self.integers(0, _NOISE, num_images, num_channels, side, side, dtype=torch.uint8)
        return images.add_(patches[:, :, :side, :side])
