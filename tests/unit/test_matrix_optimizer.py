"""What optimizers of matrices share, and the choices of the submissions that are built on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from perfbench.api import GradientSubmission, ParameterRole
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyClicks, TinyImages, TinyProblem, TinyText
from perfbench.api.optim import Flattening, Muon, NorMuon, RateFactor, split_matrices
from perfbench.compose import compose_submission
from perfbench.errors import SubmissionError
from perfbench.registry import submission_builder
from submissions.dion2.optimizer import Dion2
from submissions.hyperball.optimizer import SETTINGS, AdamOnSphere, MuonOnSphere, NorMuonOnSphere
from submissions.kl_shampoo.optimizer import KlShampoo, KlSoap
from submissions.kron.optimizer import Kron, update_probability
from submissions.scion.optimizer import Ball, Scion

SHAPES = [(6, 4), (4, 6), (6, 4), (5, 3, 2, 2), (6, 4), (5, 3, 2, 2)]
Make = Callable[[list[nn.Parameter]], Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "Muon": lambda parameters: Muon(parameters, lr=0.1, weight_decay=0.1),
    "NorMuon": lambda parameters: NorMuon(parameters, lr=0.1, weight_decay=0.1),
    "AdamOnSphere": lambda parameters: AdamOnSphere(parameters, lr=0.1),
    "MuonOnSphere": lambda parameters: MuonOnSphere(parameters, lr=0.1, settings=SETTINGS),
    "NorMuonOnSphere": lambda parameters: NorMuonOnSphere(parameters, lr=0.1, settings=SETTINGS),
    "KlShampoo": lambda parameters: KlShampoo(parameters, lr=0.1, period=2),
    "KlSoap": lambda parameters: KlSoap(parameters, lr=0.1, period=2),
    "Dion2": lambda parameters: Dion2(parameters, lr=0.1, fraction=0.5),
    "Scion": lambda parameters: Scion([{"params": parameters, "ball": Ball.SPECTRAL.value, "radius": 2.0}], lr=0.1),
}


def drawn(seed: int, shapes: list[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def trained(make: Make, *, together: bool, num_steps: int = 5) -> list[Tensor]:
    """Return parameters of several shapes after some steps, by one optimizer or by one for each."""
    parameters = [nn.Parameter(tensor) for tensor in drawn(0)]
    optimizers = [make(parameters)] if together else [make([parameter]) for parameter in parameters]
    for step in range(num_steps):
        for parameter, gradient in zip(parameters, drawn(step + 1), strict=True):
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_what_is_worked_on_together_ends_where_it_ends_alone(make: Make) -> None:
    for mine, alone in zip(trained(make, together=True), trained(make, together=False), strict=True):
        torch.testing.assert_close(mine, alone, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [OPTIMIZERS[name] for name in OPTIMIZERS if name.endswith("OnSphere")])
def test_on_a_sphere_norms_stay_and_steps_are_about_as_long_as_the_angle(make: Make) -> None:
    before, after = drawn(0), trained(make, together=True, num_steps=1)

    for start, end in zip(before, after, strict=True):
        assert float(end.norm()) == pytest.approx(float(start.norm()), rel=1e-5)
        cosine = float((start * end).sum() / start.norm() ** 2)
        assert 0.05 < float(torch.tensor(cosine).acos()) < 0.1 + 1e-3  # along the radius no way is made


def test_a_shape_s_parameters_need_a_gradient_in_every_step_or_in_none() -> None:
    parameters = [nn.Parameter(torch.randn(2, 3)) for _ in range(2)]
    optimizer = MuonOnSphere(parameters, lr=0.1, settings=SETTINGS)
    for parameter in parameters:
        parameter.grad = torch.randn(2, 3)
    optimizer.step()
    parameters[1].grad = None

    with pytest.raises(SubmissionError, match=r"2 parameters of shape \[2, 3\] had a gradient before, now 1"):
        optimizer.step()


def test_dion2_leaves_slices_that_are_not_chosen_but_for_decay() -> None:
    weights = nn.Parameter(torch.ones(4, 6))
    optimizer = Dion2([weights], lr=0.1, fraction=0.25, weight_decay=0.5)
    weights.grad = torch.ones(4, 6)
    weights.grad[2] = 3.0
    optimizer.step()

    moved = (weights.detach() != 0.95).any(dim=1)
    assert moved.tolist() == [False, False, True, False]
    momentum = optimizer.state[weights]["momentum"]
    torch.testing.assert_close(momentum[:, 0], torch.tensor([1.0, 1.0, 0.95 * 3, 1.0]))


def test_a_point_of_scion_s_ball_of_kernels_is_divided_by_their_size() -> None:
    kernels = torch.randn(3, 8, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    points = Ball.SPECTRAL.point(kernels, dtype=torch.float32)

    lengths = torch.linalg.svdvals(points.flatten(2)) * 9 / (8 / 4) ** 0.5
    assert bool((lengths > 0.6).all())
    assert bool((lengths < 1.3).all())


@pytest.mark.parametrize(
    ("factor", "value"),
    [
        (RateFactor.AT_LEAST_ONE, 2.0),
        (RateFactor.SPECTRAL, 2.0),
        (RateFactor.MATCH_ADAMW, 0.2 * 8),
        (RateFactor.ONE, 1.0),
    ],
)
def test_factors_of_the_rate(factor: RateFactor, value: float) -> None:
    assert factor.of(Flattening.BY_OUTPUT.sides(torch.Size((64, 16, 3, 3)))) == pytest.approx(value)


def test_a_tied_table_and_a_number_without_dimensions_are_no_matrices() -> None:
    model = TinyText().build_model(seed=0)
    roles = {name: ParameterRole.WEIGHT for name, _ in model.named_parameters()}
    roles["embedding.weight"] = ParameterRole.EMBEDDING

    matrices, others = split_matrices(model, roles)

    names = {parameter: name for name, parameter in model.named_parameters()}
    assert [names[parameter] for parameter in matrices] == ["hidden.weight"]
    assert [names[parameter] for parameter in others] == ["embedding.weight", "attention.scale"]


class ScaledMatrix(TinyImages):
    """Images, whose convolution starts at a given scale."""

    def __init__(self, scale: float) -> None:
        self._scale = scale

    def build_model(self, *, seed: int) -> nn.Module:
        model = super().build_model(seed=seed)
        with torch.no_grad():
            model.get_parameter("0.weight").mul_(self._scale)
        return model


def hyperball_on(problem: TinyProblem) -> Rehearsal:
    return Rehearsal(submission_builder(compose_submission("hyperball"), None), problem, seed=0, step_hint=20)


def test_a_matrix_that_starts_at_zero_is_adamw_s() -> None:
    rehearsal = hyperball_on(ScaledMatrix(0.0))

    on_sphere, others = cast("GradientSubmission", rehearsal.submission).optimizers

    names = {parameter: name for name, parameter in rehearsal.model.named_parameters()}
    assert [names[p] for p in on_sphere.param_groups[0]["params"]] == ["6.weight"]
    assert "0.weight" in [names[p] for p in others.param_groups[0]["params"]]


def test_a_matrix_that_starts_near_zero_is_refused_by_name() -> None:
    with pytest.raises(SubmissionError, match=r"0\.weight starts with entries of root mean square"):
        hyperball_on(ScaledMatrix(1e-9))


def test_kron_fits_seldom_in_the_end_and_draws_from_its_own_generator() -> None:
    parameters = [nn.Parameter(tensor) for tensor in drawn(0, [(4, 3), (3,), ()])]
    optimizer = Kron(parameters, seed=5)
    fits = 0
    for step in range(700):
        for parameter, gradient in zip(parameters, drawn(step, [(4, 3), (3,), ()]), strict=True):
            parameter.grad = gradient
        state = torch.get_rng_state()
        optimizer.step()
        assert torch.equal(state, torch.get_rng_state())
        fits += optimizer._is_fitting

    assert fits == 500 + 100  # a counter has to reach the inverse of the probability: every second update, from 501 on
    assert update_probability(100_000) == 0.03
    assert all(bool(parameter.isfinite().all()) for parameter in parameters)


def test_kron_whitens_the_gradients_of_a_matrix() -> None:
    """Gradients whose entries are far apart in size come out about equal, which a factor per side can do."""
    rows, columns = torch.tensor([1.0, 30.0, 0.1, 3.0]), torch.tensor([10.0, 0.3, 1.0])
    scales = rows[:, None] * columns
    weights = nn.Parameter(torch.zeros(4, 3))
    optimizer = Kron([weights], lr=1.0, momentum=0.0)
    generator = torch.Generator().manual_seed(0)
    updates = []
    for step in range(700):
        before = weights.detach().clone()
        weights.grad = scales * torch.randn(4, 3, generator=generator)
        optimizer.step()
        if step >= 400:
            updates.append(weights.detach() - before)

    sizes = torch.stack(updates).square().mean(dim=0).sqrt()
    assert float(sizes.max() / sizes.min()) < 3  # 2.2 seen: the smallest row is whitened last
    assert float(scales.max() / scales.min()) > 1000


@pytest.mark.parametrize("name", ["normuon", "hyperball", "dion2", "kl_shampoo", "mars", "scion"])
def test_embeddings_keep_out_of_what_is_made_for_matrices(name: str) -> None:
    spec = compose_submission(name)
    if name == "mars":
        spec = spec.model_copy(update={"options": {"base": "muon"}})
    rehearsal = Rehearsal(submission_builder(spec, None), TinyClicks(), seed=0, step_hint=20)
    table = rehearsal.model.get_parameter("0.weight")

    groups = [
        (type(optimizer).__name__, group.get("ball"))
        for optimizer in cast("GradientSubmission", rehearsal.submission).optimizers
        for group in optimizer.param_groups
        if any(parameter is table for parameter in group["params"])
    ]

    assert groups == [("Scion", "sign")] if name == "scion" else [("AdamW", None)]
