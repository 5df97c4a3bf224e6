"""Optimizers that several submissions share."""

from perfbench.api.optim.nadamw import NAdamW

__all__ = ["NAdamW"]
