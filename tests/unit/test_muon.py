"""Muon against check figures C32 to C34 and C51 of the specification and against torch, and its three entries."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import nn

from perfbench.api import GradientSubmission
from perfbench.api.contracts.rehearsal import Rehearsal, differences, read_back
from perfbench.api.contracts.tiny_problems import TinyImages
from perfbench.api.optim import (
    NEWTON_SCHULZ,
    Flattening,
    Momentum,
    Muon,
    MuonSettings,
    NAdamW,
    RateFactor,
    split_matrices,
)
from perfbench.compose import compose_submission, compose_workload
from perfbench.registry import submission_builder
from perfbench.workloads.criteo.model import ClickModel
from perfbench.workloads.criteo.params import Params as CriteoParams
from perfbench.workloads.criteo.workload import CriteoWorkload
from perfbench.workloads.fastmri.model import UNet
from perfbench.workloads.fastmri.params import Params as FastMriParams
from perfbench.workloads.fastmri.workload import FastMriWorkload
from perfbench.workloads.ogbg.model import GraphNetwork
from perfbench.workloads.ogbg.params import Params as OgbgParams
from perfbench.workloads.ogbg.workload import OgbgWorkload
from perfbench.workloads.wmt.model import Transformer
from perfbench.workloads.wmt.params import Params as WmtParams
from perfbench.workloads.wmt.workload import WmtWorkload
from tests.unit.check_problems import matrix_problem, trajectory

FAMILIES: dict[str, tuple[Any, Any, Any]] = {
    "criteo": (ClickModel, CriteoParams, CriteoWorkload),
    "wmt": (Transformer, WmtParams, WmtWorkload),
    "fastmri": (UNet, FastMriParams, FastMriWorkload),
    "ogbg": (GraphNetwork, OgbgParams, OgbgWorkload),
}
C32_NESTEROV = [
    [0.447491, -0.173133, 0.999939, 0.731073, 0.288985, -0.522217],
    [0.384134, -0.088300, 1.003720, 0.709414, 0.280074, -0.444914],
    [0.325168, -0.017032, 1.003005, 0.688791, 0.267943, -0.370098],
    [0.277442, 0.034952, 0.995335, 0.670861, 0.251172, -0.298227],
    [0.222075, 0.087794, 0.988482, 0.650955, 0.234682, -0.227266],
]
C33_WITHOUT_NESTEROV = [
    [0.447491, -0.173133, 0.999939, 0.731073, 0.288985, -0.522217],
    [0.385870, -0.088592, 1.003474, 0.709874, 0.280042, -0.444816],
    [0.322672, -0.008722, 1.005913, 0.688259, 0.270106, -0.368972],
    [0.271710, 0.049914, 1.000720, 0.669610, 0.255078, -0.296252],
    [0.221035, 0.101688, 0.993362, 0.650975, 0.238452, -0.225222],
]
C34_MORE_OUTPUTS_THAN_INPUTS = [
    [0.436814, -0.156419, 1.002173, 0.728505, 0.287183, -0.506085],
    [0.360889, -0.053071, 1.008966, 0.703793, 0.276963, -0.412690],
    [0.288259, 0.035755, 1.011061, 0.679809, 0.263307, -0.322137],
    [0.230184, 0.098384, 1.003664, 0.659297, 0.243290, -0.235499],
    [0.161435, 0.159956, 0.996457, 0.636019, 0.223028, -0.150253],
]
C51_ORTHOGONALIZED = [[0.395232, -0.238186, 0.916683], [0.585335, 0.261181, -0.552414]]
C51_SINGULAR_VALUES = [1.123247, 0.712432]


def muon_of(weights: nn.Parameter, dtype: torch.dtype, *, nesterov: bool) -> Muon:
    momentum = Momentum.NESTEROV if nesterov else Momentum.AVERAGE
    settings = MuonSettings(momentum=momentum, dtype=dtype)
    return Muon([weights], lr=0.1, momentum=0.95, weight_decay=0.1, settings=settings)


@pytest.mark.parametrize(("nesterov", "expected"), [(True, C32_NESTEROV), (False, C33_WITHOUT_NESTEROV)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_takes_the_steps_of_the_entry(nesterov: bool, expected: list[list[float]], dtype: torch.dtype) -> None:
    weights, gradient = matrix_problem(dtype)

    visited = trajectory(muon_of(weights, dtype, nesterov=nesterov), weights, gradient, num_steps=5)

    torch.testing.assert_close(torch.tensor(visited), torch.tensor(expected), atol=2e-6, rtol=0)


def test_a_jax_kernel_of_inputs_by_outputs_is_the_transpose_of_a_linear_layer() -> None:
    kernel, gradient = matrix_problem(torch.float64)
    weights = nn.Parameter(kernel.detach().T.contiguous())
    optimizer = muon_of(weights, torch.float64, nesterov=False)
    for expected in C34_MORE_OUTPUTS_THAN_INPUTS:
        weights.grad = gradient(weights.detach().T).T
        optimizer.step()

        actual = weights.detach().T.flatten().float()
        torch.testing.assert_close(actual, torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize("is_tall", [False, True])
def test_five_iterations_bring_singular_values_near_one(is_tall: bool) -> None:
    matrix, _ = matrix_problem(torch.float64)
    given = matrix.detach().T if is_tall else matrix.detach()

    result = NEWTON_SCHULZ.orthogonalized(given[None])[0]

    expected = torch.tensor(C51_ORTHOGONALIZED, dtype=torch.float64)
    torch.testing.assert_close(result, expected.T if is_tall else expected, atol=1e-6, rtol=0)
    values = torch.linalg.svdvals(result)
    torch.testing.assert_close(values, torch.tensor(C51_SINGULAR_VALUES).double(), atol=1e-6, rtol=0)


def test_matrices_worked_on_together_are_those_worked_on_alone() -> None:
    matrices = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    together = NEWTON_SCHULZ.orthogonalized(matrices)

    alone = torch.stack([NEWTON_SCHULZ.orthogonalized(matrix[None])[0] for matrix in matrices])
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=0)


def test_a_gradient_of_zero_leaves_only_weight_decay() -> None:
    weights = nn.Parameter(torch.ones(3, 2))
    optimizer = Muon([weights], lr=0.1, weight_decay=0.5)
    weights.grad = torch.zeros(3, 2)

    optimizer.step()

    assert torch.equal(weights, torch.full((3, 2), 0.95))


def test_for_matrices_it_is_torchs_muon_up_to_the_rounding_of_bfloat16() -> None:
    shapes = [(6, 4), (4, 6), (6, 4)]
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs = [nn.Parameter(parameter.detach().clone()) for parameter in ours]
    muon = Muon(ours, lr=0.1, momentum=0.9, weight_decay=0.2)
    torchs = torch.optim.Muon(theirs, lr=0.1, momentum=0.9, weight_decay=0.2)
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        muon.step()
        torchs.step()

    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.detach(), other.detach(), atol=5 * 0.1 * 1e-2, rtol=0)


@pytest.mark.parametrize("shape", [(5, 3, 2, 4), (5, 3, 2), (5, 3)])
@pytest.mark.parametrize("flattening", list(Flattening))
def test_flattening_a_tensor_can_be_undone(flattening: Flattening, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape)

    pair = torch.stack([tensor, -tensor])

    matrices = flattening.matrices(pair)

    assert matrices.dim() == 3
    assert torch.equal(flattening.tensors(matrices, tensor.shape), pair)


def test_flattening_by_height_is_what_reshaping_a_jax_kernel_gives() -> None:
    outputs, inputs, height, width = 5, 3, 2, 4
    kernel = torch.randn(height, width, inputs, outputs)
    weights = kernel.permute(3, 2, 0, 1)

    assert torch.equal(Flattening.BY_HEIGHT.matrices(weights[None])[0].T, kernel.reshape(height, -1))
    assert Flattening.BY_HEIGHT.sides(weights.shape) == (width * inputs * outputs, height)
    assert Flattening.BY_OUTPUT.sides(weights.shape) == (outputs, inputs)
    assert RateFactor.AT_LEAST_ONE.of((5, 3)) == pytest.approx((5 / 3) ** 0.5)
    assert RateFactor.AT_LEAST_ONE.of((3, 5)) == 1


def rehearsal_of(options: dict[str, Any]) -> Rehearsal:
    """Return a run of 20 updates on a problem that has a convolution."""
    spec = compose_submission("muon").model_copy(update={"options": options})
    return Rehearsal(submission_builder(spec, None), TinyImages(), seed=0, step_hint=20)


def started(options: dict[str, Any]) -> GradientSubmission:
    return cast("GradientSubmission", rehearsal_of(options).submission)


def rates(submission: GradientSubmission, k: int) -> list[float]:
    """Return Muon's rate and the other optimizer's in update ``k``, counted from 0."""
    assert submission.schedule is not None
    return [
        submission.schedule(k) * group.get("lr_scale", 1.0)
        for optimizer in submission.optimizers
        for group in optimizer.param_groups
    ]


JAX_RATES = [0.0001357495179 * 28.61130298, 0.0001357495179]


@pytest.mark.parametrize(
    ("options", "others", "first", "at_peak"),
    [
        ({}, torch.optim.AdamW, [1e-12, 1e-12], [0.01, 0.01]),
        ({"entry": "torch_at_jax_point"}, torch.optim.NAdam, [1e-10 * r for r in JAX_RATES], None),
        ({"entry": "torch_at_jax_point", "no_warmup": "as_intended"}, torch.optim.NAdam, JAX_RATES, None),
        ({"entry": "torch_at_jax_point", "others": "as_intended"}, NAdamW, [1e-10 * r for r in JAX_RATES], None),
        ({"entry": "jax"}, NAdamW, JAX_RATES, None),
    ],
)
def test_each_entry_has_its_optimizers_and_rates(
    options: dict[str, Any], others: type, first: list[float], at_peak: list[float] | None
) -> None:
    submission = started(options)

    muon, other = submission.optimizers
    assert type(muon) is Muon
    assert type(other) is others
    assert rates(submission, 0) == pytest.approx(first)
    if at_peak is not None:
        assert rates(submission, 1) == pytest.approx(at_peak)  # 5 % of 20 updates


def test_as_run_a_warm_up_of_no_updates_trains_nothing() -> None:
    as_run = rehearsal_of({"entry": "torch_at_jax_point"})
    as_intended = rehearsal_of({"entry": "torch_at_jax_point", "no_warmup": "as_intended"})
    before = as_run.weights()["0.weight"]
    for rehearsal in (as_run, as_intended):
        rehearsal.train(until=20)

    torch.testing.assert_close(as_run.weights()["0.weight"], before, atol=1e-7, rtol=0)
    assert float((as_intended.weights()["0.weight"] - before).abs().max()) > 1e-3


@pytest.mark.parametrize(("entry", "num_steps"), [("torch", 20), ("torch_at_jax_point", 20), ("jax", 25)])
def test_the_entries_in_pytorch_end_training_at_the_step_hint(entry: str, num_steps: int) -> None:
    rehearsal = rehearsal_of({"entry": entry})
    rehearsal.train(until=25)

    assert rehearsal.num_steps == num_steps
    assert rehearsal.is_complete is (entry != "jax")
    assert rehearsal.num_batches == (21 if rehearsal.is_complete else 25)


@pytest.mark.parametrize("options", [{"entry": "jax"}, {"entry": "torch_at_jax_point", "no_warmup": "as_intended"}])
def test_the_other_entries_too_resume_bit_for_bit(options: dict[str, Any]) -> None:
    rehearsal = rehearsal_of(options)
    rehearsal.train(until=7)
    saved = rehearsal.saved()
    rehearsal.train(until=15)
    resumed = rehearsal_of(options)
    resumed.restore(saved)
    resumed.train(until=15)

    assert differences(read_back(rehearsal.saved()), read_back(resumed.saved())) == []


@pytest.mark.parametrize(("convolutions", "is_by_height"), [("as_run", True), ("as_intended", False)])
def test_the_jax_entry_reshaped_convolutions_by_the_height_of_their_kernel(
    convolutions: str, is_by_height: bool
) -> None:
    """A first step without momentum is one orthogonalised gradient."""
    rehearsal = rehearsal_of({"entry": "jax", "convolutions": convolutions})
    weights = rehearsal.model.get_parameter("0.weight")
    before = weights.detach().clone()
    rehearsal.train(until=1)
    assert weights.grad is not None
    flattening = Flattening.BY_HEIGHT if is_by_height else Flattening.BY_OUTPUT
    direction = NEWTON_SCHULZ.orthogonalized(flattening.matrices(weights.grad[None]))
    rate = JAX_RATES[0] * RateFactor.AT_LEAST_ONE.of(flattening.sides(weights.shape))
    expected = before * (1 - JAX_RATES[0] * 0.02397563985)
    expected -= rate * flattening.tensors(direction, weights.shape)[0]

    torch.testing.assert_close(weights.detach(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("family", "num_matrices", "num_others"),
    [
        ("criteo", 8, 9),  # the entry's 12 others hold the table in four pieces
        ("wmt", 66, 89),
        ("fastmri", 23, 1),
        ("ogbg", 16, 50),  # the entry, which went by names, gave two encoders of nodes and edges to Muon
    ],
)
def test_muon_trains_the_matrices_that_it_trained_in_the_entry(family: str, num_matrices: int, num_others: int) -> None:
    model_type, params_type, workload_type = FAMILIES[family]
    with torch.device("meta"):
        model = model_type(params_type.from_mapping(compose_workload(family, scale="full").params))
    roles = workload_type.parameter_roles(object.__new__(workload_type), model)  # needs no data

    matrices, others = split_matrices(model, roles)

    assert (len(matrices), len(others)) == (num_matrices, num_others)
