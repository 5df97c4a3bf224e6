"""The hyperparameters that many search spaces share, named as in the competition."""

from __future__ import annotations

from pydantic import Field

from perfbench.spec.base import Spec


class WarmupPoint(Spec):
    """A point of a method with momentum whose rate warms up; subclasses add their own."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)


class AdamPoint(WarmupPoint):
    """A point of a method of Adam's kind."""

    beta2: float = Field(ge=0, lt=1)

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of the first and second moment."""
        return 1 - self.one_minus_beta1, self.beta2
