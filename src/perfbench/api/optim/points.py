"""The hyperparameters that many search spaces share."""

from __future__ import annotations

from pydantic import Field

from perfbench.spec.base import Spec


class AdamPoint(Spec):
    """A point of a method of Adam's kind under a warm-up, named as in the competition; subclasses add their own."""

    learning_rate: float = Field(gt=0)
    one_minus_beta1: float = Field(gt=0, le=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup_factor: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    dropout_rate: float = Field(ge=0, lt=1)

    @property
    def betas(self) -> tuple[float, float]:
        """Decay of the first and second moment."""
        return 1 - self.one_minus_beta1, self.beta2
