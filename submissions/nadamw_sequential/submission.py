"""Three NAdamW points, one after the other, each from the same initial weights and over a horizon of its own."""

from __future__ import annotations

import math
from typing import Literal

import torch

from perfbench.api import Batch, GradientSubmission, StateDict, StepReport, TrainingComplete, TrainingContext
from perfbench.api.optim import AdamPoint, FirstMoment, MomentCorrection, nadamw_at
from perfbench.api.schedules import WarmupCosine
from perfbench.spec.base import Spec


class Point(AdamPoint):
    """One of the sequence; ``label_smoothing`` is what the entry lists, which is not what it ran with."""

    horizon_factor: float
    """Of the step hint."""


_NAMES = (
    *("learning_rate", "one_minus_beta1", "beta2", "weight_decay"),
    *("warmup_factor", "label_smoothing", "dropout_rate", "horizon_factor"),
)
_VALUES = (
    (0.0014271957958295392, 0.03380478752, 0.9957304053273589, 0.09153141484048229, 0.01, 0.1, 0.0, 1.0),
    (0.001768509931943289, 0.05850208614, 0.9768053375036079, 0.0279513959224539, 0.02, 0.2, 0.0, 1.0),
    (0.0023792566965593815, 0.01990335215, 0.9632738717172477, 0.3417568278549717, 0.01, 0.0, 0.0, 0.75),
)
POINTS = tuple(Point.from_mapping(dict(zip(_NAMES, values, strict=True))) for values in _VALUES)


class Options(Spec):
    """What is fixed, but not by the method."""

    label_smoothing: Literal["none", "listed"] = "none"
    """Without, as run (the entry asked a dictionary for an attribute), or what its points list."""
    first_moment: MomentCorrection = MomentCorrection.AS_RUN


class Sequential(GradientSubmission):
    """Restarts at fixed steps; buffers such as batch-norm statistics are carried over, as in the entry.

    Args:
        context: What the engine offers.
        options: As run or as listed.
    """

    def __init__(self, context: TrainingContext, options: Options) -> None:
        super().__init__(context, [])
        self._options = options
        self._lengths = [math.ceil(point.horizon_factor * context.step_hint) for point in POINTS]
        # On the host: read again only at a restart. A copy even there, or training would change it.
        self._initial_weights = [parameter.detach().to("cpu", copy=True) for parameter in context.model.parameters()]
        self._begin(0)

    def update_params(self, batch: Batch) -> StepReport:
        """Do one step, restarting first where a point's horizon has ended.

        Raises:
            TrainingComplete: After the last point's horizon.
        """
        if self.num_updates == sum(self._lengths[: self._current + 1]):
            if self._current + 1 == len(POINTS):
                raise TrainingComplete
            self._begin(self._current + 1)
            with torch.no_grad():
                for parameter, initial in zip(self.context.model.parameters(), self._initial_weights, strict=True):
                    parameter.copy_(initial)
        return super().update_params(batch)

    def state_dict(self) -> StateDict:
        """Return, besides the optimizer's state, where in the sequence it is and the weights it restarts from."""
        return {**super().state_dict(), "current": self._current, "initial_weights": self._initial_weights}

    def load_state_dict(self, state: StateDict) -> None:
        """Restore the place in the sequence, the initial weights and the optimizer's state."""
        self._begin(state["current"])
        for initial, saved in zip(self._initial_weights, state["initial_weights"], strict=True):
            initial.copy_(saved)
        super().load_state_dict(state)

    def _begin(self, number: int) -> None:
        point, length = POINTS[number], self._lengths[number]
        first_update = sum(self._lengths[:number])
        cosine = WarmupCosine(point.learning_rate, horizon=length, warmup=int(point.warmup_factor * length))
        self._current = number
        first_moment = FirstMoment(correction=self._options.first_moment)
        self.optimizers = [nadamw_at(point, self.context.model.parameters(), first_moment=first_moment)]
        self.schedule = lambda k: cosine(k - first_update)
        self.label_smoothing = point.label_smoothing if self._options.label_smoothing == "listed" else 0.0


def build(context: TrainingContext, *, options: Options) -> Sequential:
    """Return the sequence; weight decay acts on every parameter, as in the competition."""
    return Sequential(context, options)
