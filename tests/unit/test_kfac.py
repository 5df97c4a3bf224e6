"""K-FAC against check figure C42 of the specification, its factors against slow obvious code, and its fall-backs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from perfbench.api import Batch, LossType, Shard, TrainingContext
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import NUM_PADDED, TinyClicks, TinyImages, TinyProblem, TinyRegression
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
    return lambda context: Kfac(context, KfacSettings(**(chosen | PLAIN | settings)), dropout_rate=0.0)


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


def test_the_first_direction_under_exact_damping_follows_from_the_same_factors() -> None:  # C42, its last line
    rehearsal, kfac = started(FourExamples())
    weights = torch.tensor(M_START)
    batch = rehearsal.problem.batch(0)
    errors = batch["inputs"] @ weights.T - batch["targets"]
    gradient = 2 * errors.T @ batch["inputs"] / errors.numel()
    rehearsal.train(until=1)
    (factors,) = kfac.factors._factors.values()

    curvature = torch.kron(factors.outputs, factors.inputs) + 0.1 * torch.eye(6)

    expected = torch.tensor([0.227414, -0.590145, 0.992549, 0.258350, -0.157643, -0.600958])
    torch.testing.assert_close(torch.linalg.solve(curvature, gradient.flatten()), expected, atol=2e-6, rtol=0)


def test_factors_are_those_of_one_example_after_another() -> None:
    """Each valid example by itself: what enters a layer, and the derivative of the logit in what leaves it."""
    rehearsal, kfac = started(TinyClicks())
    model, batch = rehearsal.model, rehearsal.problem.batch(0)
    expected: dict[str, list[tuple[Tensor, Tensor]]] = {"2": [], "5": []}
    for example in batch["inputs"][:-NUM_PADDED]:
        entered = {"2": model[:2](example[None])}  # type: ignore[index]  # a sequence of layers
        left = {"2": model[2](entered["2"])}  # type: ignore[index]  # a sequence of layers
        entered["5"] = left["2"].relu()
        logit = left["5"] = model[5](entered["5"])  # type: ignore[index]  # a sequence of layers
        derivatives = torch.autograd.grad(logit, [left[name] for name in expected])
        deviation = (logit.sigmoid() * (1 - logit.sigmoid())).sqrt()[0, 0].detach()
        for name, derivative in zip(expected, derivatives, strict=True):
            row = torch.cat([entered[name][0].detach(), torch.ones(1)])
            expected[name].append((row, deviation * derivative[0]))

    rehearsal.train(until=1)

    assert set(kfac.layers) == set(expected)
    for name, rows in expected.items():
        factors = kfac.factors._factors[name]
        inputs = torch.stack([torch.outer(a, a) for a, _ in rows]).mean(dim=0)
        outputs = torch.stack([torch.outer(b, b) for _, b in rows]).mean(dim=0)
        torch.testing.assert_close(factors.inputs, inputs)
        torch.testing.assert_close(factors.outputs, outputs)


class OtherPadding(TinyRegression):
    def batch(self, number: int) -> Batch:
        batch = super().batch(number)
        batch["inputs"][-NUM_PADDED:] = 100.0
        return batch


@pytest.mark.parametrize("curvature", list(OutputCurvature))
def test_padded_examples_change_nothing(curvature: OutputCurvature) -> None:
    sets = []
    for problem in (TinyRegression(), OtherPadding()):
        rehearsal, kfac = started(problem, curvature=curvature)
        rehearsal.train(until=1)
        sets.append(kfac.factors.state_dict()["factors"])

    for name, factors in sets[0].items():
        for key, tensor in factors.items():
            torch.testing.assert_close(tensor, sets[1][name][key], msg=f"{name} {key}")


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(4, 3),
        nn.Linear(4, 3, bias=False),
        nn.Conv2d(4, 3, (2, 3), stride=2, padding=(1, 0), dilation=(1, 2)),
        nn.Conv2d(4, 3, 1, bias=False),
    ],
)
def test_a_layer_is_its_rows_times_its_matrix(module: nn.Linear | nn.Conv2d) -> None:
    layer = Layer(module)
    inputs = torch.randn(2, 4, 6, 7) if isinstance(module, nn.Conv2d) else torch.randn(2, 5, 4)
    parts = [module.weight.flatten(1)] + ([] if module.bias is None else [module.bias[:, None]])
    matrix = torch.cat(parts, dim=1)

    rows = layer.input_rows(inputs)

    assert tuple(matrix.shape) == (layer.num_outputs, layer.num_inputs)
    torch.testing.assert_close(layer.output_rows(module(inputs)), rows @ matrix.T)
    module(inputs).square().sum().backward()
    gradient = layer.gradient()
    assert gradient is not None
    torch.testing.assert_close(gradient, 2 * (rows @ matrix.T).T @ rows)
    layer.set_gradient(2 * gradient)
    doubled = layer.gradient()
    assert doubled is not None
    torch.testing.assert_close(doubled, 2 * gradient)


LOSSES: dict[LossType, Callable[[Tensor, Tensor], Tensor]] = {
    LossType.SOFTMAX_CROSS_ENTROPY: lambda z, y: -(y.softmax(0) * z.log_softmax(0)).sum(),
    LossType.SIGMOID_CROSS_ENTROPY: lambda z, y: F.binary_cross_entropy_with_logits(z, y.sigmoid(), reduction="sum"),
    LossType.MEAN_SQUARED_ERROR: lambda z, y: (z - y).square().mean(),
}


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize(("curvature", "num_rows", "tolerance"), [("exact", 1, 1e-6), ("sampled", 60_000, 0.01)])
def test_outer_products_add_up_to_the_hessian_in_the_outputs(
    loss_type: LossType, curvature: str, num_rows: int, tolerance: float
) -> None:
    row, target = torch.tensor([0.5, -1.0, 0.2]), torch.tensor([0.3, 0.1, 1.0])
    generator = torch.Generator().manual_seed(0)
    outputs, gradient = row.expand(num_rows + 1, 3), torch.ones(num_rows + 1, 3)
    gradient[-1] = 0  # a row that does not count

    vectors = list(
        output_vectors(
            loss_type,
            outputs,
            gradient,
            curvature=OutputCurvature(curvature),
            noise=lambda shape: torch.rand(shape, generator=generator),
        )
    )

    actual = sum((vector.T @ vector for vector in vectors), torch.zeros(3, 3)) / num_rows
    hessian = cast("Tensor", torch.autograd.functional.hessian(lambda z: LOSSES[loss_type](z, target), row))
    torch.testing.assert_close(actual, hessian, atol=tolerance, rtol=0)
    assert all(torch.equal(vector[-1], torch.zeros(3)) for vector in vectors)
    assert len(vectors) == (3 if curvature == "exact" else 1)


def test_losses_without_such_a_hessian_use_the_gradient() -> None:
    gradient = torch.tensor([[0.5, -0.5], [0.0, 0.25]])

    def vector(loss_type: LossType) -> Tensor:
        (only,) = output_vectors(
            loss_type,
            torch.zeros(2, 2),
            gradient,
            curvature=OutputCurvature.EXACT,
            noise=lambda shape: torch.tensor([[0.9, 0.9], [0.1, 0.1]]),
        )
        return only

    assert torch.equal(vector(LossType.CTC), gradient)
    assert torch.equal(vector(LossType.MEAN_ABSOLUTE_ERROR), gradient * torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))


def test_the_random_numbers_of_two_ranks_are_those_of_one() -> None:
    _, kfac = started(TinyRegression())
    context = kfac.context
    alone = kfac._noise(torch.zeros(1))((6, 2))
    parts = []
    for rank in range(2):
        kfac.context = dataclasses.replace(context, shard=Shard(rank=rank, num_ranks=2))
        parts.append(kfac._noise(torch.zeros(1))((3, 2)))

    assert torch.equal(torch.cat(parts), alone)
    kfac.num_updates += 1
    assert not torch.equal(kfac._noise(torch.zeros(1))((3, 2)), parts[1])


def test_two_ranks_gather_the_factors_of_one() -> None:
    _, alone = started(TinyRegression(), curvature=OutputCurvature.SAMPLED)
    batch = TinyRegression().batch(0)
    alone._renew_factors(batch)
    sent: list[Tensor] = []

    def add_over_ranks(tensor: Tensor) -> Tensor:
        sent.append(tensor)
        return torch.stack(sent).sum(dim=0)

    for rank in (1, 0):  # the last one receives what both have sent
        _, kfac = started(TinyRegression(), curvature=OutputCurvature.SAMPLED)
        shard = Shard(rank=rank, num_ranks=2)
        kfac.context = dataclasses.replace(kfac.context, shard=shard, add_over_ranks=add_over_ranks)
        kfac._begin(kfac.layers)
        kfac._renew_factors({name: tensor[shard.part_of(len(tensor))] for name, tensor in batch.items()})

    assert set(kfac.layers) == {"0", "4"}
    for name, factors in alone.factors._factors.items():
        actual = kfac.factors._factors[name]
        torch.testing.assert_close(actual.inputs, factors.inputs)
        torch.testing.assert_close(actual.outputs, factors.outputs)


class Zoo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 4)
        self.image = nn.Conv2d(2, 3, 3)
        self.grouped = nn.Conv2d(2, 2, 3, groups=2)
        self.circular = nn.Conv2d(2, 3, 3, padding_mode="circular")
        self.same = nn.Conv2d(2, 3, 3, padding="same")
        self.large = nn.Linear(3, 11)
        self.table = nn.Embedding(5, 4)
        self.tied = nn.Linear(4, 5)
        self.tied.weight = self.table.weight
        self.attention = nn.MultiheadAttention(4, 2)


def test_layers_that_cannot_be_treated_are_left_out() -> None:
    assert set(layers_of(Zoo(), max_dimension=20)) == {"dense", "image", "large"}
    assert set(layers_of(Zoo(), max_dimension=10)) == {"dense"}


class Functional(TinyRegression):
    """Its second layer is never called: the weight is used directly."""

    def build_model(self, *, seed: int) -> nn.Module:
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 4)

            def forward(self, inputs: Tensor) -> Tensor:
                return F.linear(self.first(inputs).tanh(), self.second.weight, self.second.bias)

        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return Model()


def test_a_layer_that_is_never_called_gets_adamw_and_stays_there_after_a_resume() -> None:
    rehearsal, kfac = started(Functional())
    before = rehearsal.weights()
    assert set(kfac.layers) == {"first", "second"}

    rehearsal.train(until=1)

    assert set(kfac.layers) == {"first"}
    step = (rehearsal.weights()["second.weight"] - before["second.weight"]).abs()
    torch.testing.assert_close(step, torch.full_like(step, 0.01), rtol=1e-3, atol=0, msg="Adam's first step")
    saved = rehearsal.saved()
    resumed, other = started(Functional())
    resumed.restore(saved)
    assert set(other.layers) == {"first"}


def test_an_inverse_that_cannot_be_computed_stays_and_is_counted() -> None:
    factors = Factors.start(Layer(nn.Linear(2, 2)))
    factors.inputs.copy_(torch.eye(3))
    factors.outputs.copy_(torch.tensor([[1.0, 2.0], [2.0, 1.0]]))  # not positive definite

    assert int(factors.invert(1e-6)) == 1
    assert torch.equal(factors.inverse_outputs, torch.eye(2))
    assert not torch.equal(factors.inverse_inputs, torch.eye(3))


@pytest.mark.parametrize(("max_change", "is_limited"), [(1e-6, True), (1e6, False)])
def test_steps_are_scaled_down_together_to_the_largest_change(max_change: float, is_limited: bool) -> None:
    rehearsal, kfac = started(TinyImages(), period=1000)
    rehearsal.train(until=1)
    loss = kfac.context.global_mean(kfac.context.loss(rehearsal.problem.batch(1)))
    rehearsal.model.zero_grad()
    loss.backward()
    gradients = {name: cast("Tensor", layer.gradient()).clone() for name, layer in kfac.layers.items()}
    free = {name: kfac.factors._factors[name].preconditioned(gradient) for name, gradient in gradients.items()}

    kfac.factors.precondition(lr=0.3, max_change=max_change)

    steps = {name: cast("Tensor", layer.gradient()) for name, layer in kfac.layers.items()}
    ratios = torch.cat([(steps[name] / free[name]).flatten() for name in steps])
    unlimited = 0.3**2 * sum(float((free[name] * gradients[name]).sum()) for name in steps)
    expected = (max_change / unlimited) ** 0.5 if is_limited else 1.0
    assert (unlimited > max_change) is is_limited
    assert len(steps) == 2
    torch.testing.assert_close(ratios, torch.full_like(ratios, expected), rtol=1e-3, atol=0)


def test_only_every_tenth_update_gathers_factors() -> None:
    rehearsal, kfac = started(TinyRegression(), period=10)

    counts = [cast("int", rehearsal.train(until=step) and kfac.factors._num_observed) for step in (1, 10, 11, 21)]

    assert counts == [1, 1, 2, 3]
