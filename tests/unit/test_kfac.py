"""K-FAC against check figure C42 of the specification, its factors against slow obvious code, and its fall-backs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from perfbench.api import Batch, LossType, TrainingContext
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyClicks, TinyImages, TinyProblem, TinyRegression
from submissions.kfac.factors import Factors
from submissions.kfac.layers import Layer, layers_of
from submissions.kfac.outputs import OutputCurvature, output_vectors
from submissions.kfac.submission import Kfac, KfacSettings
from tests.unit.check_problems import M_START

C42 = [  # loss before; w after
    [1.463984, 0.506290, -0.108228, 0.714076, 0.656340, 0.346039, -0.398929],
    [0.862323, 0.484904, 0.009322, 0.504458, 0.595001, 0.380404, -0.261761],
    [0.572326, 0.447440, 0.106717, 0.348322, 0.555226, 0.406151, -0.168024],
    [0.429115, 0.401511, 0.187411, 0.230012, 0.529786, 0.425507, -0.103825],
    [0.355922, 0.352044, 0.254308, 0.138746, 0.513830, 0.440101, -0.059734],
]
PLAIN: dict[str, Any] = {"momentum": 0.0, "weight_decay": 0.0, "statistics_decay": 0.0, "period": 1, "max_change": None}


class FourExamples(TinyRegression):
    """The problem of C42: one dense layer of shape (2, 3), squared error."""

    def build_model(self, *, seed: int) -> nn.Module:
        model = nn.Linear(3, 2, bias=False)
        model.weight.data = torch.tensor(M_START)
        return model

    def batch(self, number: int) -> Batch:
        inputs = torch.tensor([[1, 0, -1], [0.5, 1, 0], [-1, 0.5, 2], [0, -0.5, 1]])
        targets = torch.tensor([[1, 0], [0, 1], [0.5, -0.5], [-1, 0]])
        return {"inputs": inputs, "targets": targets, "weights": torch.ones(4)}


def builder(**settings: Any) -> Callable[[TrainingContext], Kfac]:
    chosen: dict[str, Any] = {"lr": 0.5, "adamw_lr": 0.01, "damping": 0.1, "curvature": OutputCurvature.EXACT}
    return lambda context: Kfac(context, KfacSettings(**(chosen | PLAIN | settings)))


def started(problem: TinyProblem, **settings: Any) -> tuple[Rehearsal, Kfac]:
    rehearsal = Rehearsal(builder(**settings), problem, seed=0, step_hint=100)
    return rehearsal, cast("Kfac", rehearsal.submission)


def test_it_takes_the_steps_of_the_published_packages() -> None:  # C42
    rehearsal, kfac = started(FourExamples())

    for step, (loss, *after) in enumerate(C42, start=1):
        report = rehearsal.train(until=step)
        assert report is not None
        assert float(report.loss) == pytest.approx(loss, abs=2e-6)
        torch.testing.assert_close(rehearsal.weights()["weight"].flatten(), torch.tensor(after), atol=2e-6, rtol=0)
    (factors,) = kfac.factors._factors.values()
    torch.testing.assert_close(
        factors.inputs, torch.tensor([[0.5625, 0, -0.75], [0, 0.375, 0.125], [-0.75, 0.125, 1.5]])
    )
    torch.testing.assert_close(factors.outputs, torch.eye(2))
