"""Initialisers that several families share and torch does not have."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a standard normal variable cut at two."""


def lecun_normal_(weight: Tensor) -> None:
    """Fill in place with a normal distribution cut at two deviations, of variance ``1 / fan_in`` after the cut.

    The first dimension of ``weight`` is the output. Source: ``jax.nn.initializers.lecun_normal``.
    """
    fan_in = math.prod(weight.shape[1:])
    std = math.sqrt(1 / fan_in) / _TRUNCATED_STD
    with torch.no_grad():
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)
