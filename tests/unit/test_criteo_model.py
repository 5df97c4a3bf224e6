"""Source of the figures: AlgoPerf criteo1tb specification, sections 4, 6 and 8 (measured on the reference model)."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from perfbench.compose import compose_workload
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.criteo.model import ClickModel
from perfbench.workloads.criteo.params import Params
from perfbench.workloads.criteo.workload import CriteoWorkload, _cross_entropy

VARIANTS = ("criteo", "criteo_layernorm", "criteo_embed_init", "criteo_resnet")


def params_of(variant: str, scale: str = "full", **changes: object) -> Params:
    return Params.from_mapping(compose_workload(variant, scale=scale).params | changes)


def meta_model(params: Params) -> ClickModel:
    with torch.device("meta"):
        return ClickModel(params)


@pytest.mark.parametrize(
    ("variant", "num_parameters", "num_tensors"),
    [
        ("criteo", 539_267_457, 17),
        ("criteo_layernorm", 539_275_137, 33),
        ("criteo_embed_init", 539_267_457, 17),
        ("criteo_resnet", 538_121_473, 17),
    ],
)
def test_parameter_counts_at_full_size(variant: str, num_parameters: int, num_tensors: int) -> None:
    model = meta_model(params_of(variant))

    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    assert len(list(model.parameters())) == num_tensors


def test_the_smoke_test_size_of_the_predecessor() -> None:
    model = meta_model(params_of("criteo", table_rows=65_536))

    assert sum(parameter.numel() for parameter in model.parameters()) == 10_785_153


def test_the_top_reads_506_values_and_the_residual_one_3584() -> None:
    assert next(m for m in meta_model(params_of("criteo")).top if isinstance(m, nn.Linear)).in_features == 506
    assert next(m for m in meta_model(params_of("criteo_resnet")).top if isinstance(m, nn.Linear)).in_features == 3584


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("criteo", {"embedding": 1, "weight": 8, "bias": 8}),
        ("criteo_resnet", {"embedding": 1, "weight": 8, "bias": 8}),
        ("criteo_layernorm", {"embedding": 1, "weight": 8, "bias": 8, "layer_norm_scale": 8, "layer_norm_bias": 8}),
    ],
)
def test_roles(variant: str, expected: dict[str, int]) -> None:
    model = meta_model(params_of(variant))

    roles = CriteoWorkload.parameter_roles(None, model)  # type: ignore[arg-type]  # needs no data

    assert Counter(role.value for role in roles.values()) == expected
    assert set(roles) == {name for name, _ in model.named_parameters()}


def pseudo_random(count: int) -> Tensor:
    """Return the specification's fixed sequence in [-0.5, 0.5)."""
    h = torch.arange(count, dtype=torch.int64) * 2654435761 % 2**32
    h ^= h >> 16
    h = h * 2246822519 % 2**32
    h ^= h >> 13
    return h.double() / 2**32 - 0.5


def fill(model: ClickModel) -> None:
    norms = {id(m.weight) for m in model.modules() if isinstance(m, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        u = pseudo_random(parameter.numel()).view(parameter.shape)
        if name == "embedding.weight":
            value = u
        elif id(parameter) in norms:
            value = 1 + 0.2 * u
        elif parameter.dim() == 1:
            value = 0.2 * u
        else:
            value = u * math.sqrt(24 / (parameter.numel() / parameter.shape[0]))
        parameter.data.copy_(value)


def test_the_fixed_sequence() -> None:
    expected = [-0.5, 0.3072537314, 0.3237782551, 0.3617832647, -0.3292478235, -0.3738212732]

    assert pseudo_random(6).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("variant", "logits", "loss", "gradient_norm"),
    [
        ("criteo", [-42.329595, -68.620139, -84.503277], 42.277624, 1500.110529),
        ("criteo_layernorm", [3.770032, 2.072925, 2.971039], 0.754735, 27.955950),
        ("criteo_resnet", [-31.222806, -38.363232, -44.769474], 25.330760, 419.250663),
    ],
)
def test_deterministic_forward_and_backward(
    variant: str, logits: list[float], loss: float, gradient_norm: float
) -> None:
    model = ClickModel(params_of(variant, table_rows=4096)).double()
    fill(model)
    b, j, c = torch.arange(3)[:, None], torch.arange(13)[None], torch.arange(26)[None]
    integers = (j * (b + 1)).int()
    ids = (1009 * (b + 1) * (c + 1) % 100_000).int()

    actual = model(integers, ids)
    mean = nn.functional.binary_cross_entropy_with_logits(actual, torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    mean.backward()

    assert actual.tolist() == pytest.approx(logits, abs=1e-5)
    assert float(mean.detach()) == pytest.approx(loss, abs=1e-5)
    squares = [float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None]
    assert math.sqrt(sum(squares)) == pytest.approx(gradient_norm, abs=1e-4)


def test_the_interaction_by_hand() -> None:
    model = ClickModel(params_of("criteo", table_rows=16))

    ones = model._joined(torch.ones(1, 128), torch.full((1, 26, 128), 0.5))
    first, columns = torch.zeros(1, 128), torch.zeros(1, 26, 128)
    first[0, 0] = 1
    columns[0, :, 0] = torch.arange(2, 28)
    joined = model._joined(first, columns)[0]
    ordered = joined[128:]

    assert ones.shape == (1, 506)
    assert float(ones.sum()) == 13_152
    assert ones[0, 128:156].tolist() == [128.0, *[64.0] * 26, 32.0]
    assert ordered[:28].tolist() == [*range(1, 28), 4]
    assert float(ordered[-1]) == 729
    assert float(ordered.double().sum()) == 74_907
    assert float(joined.double().sum()) == 74_908


def test_the_loss_by_hand() -> None:
    batch = {"targets": torch.tensor([1.0, 0.0, 1.0]), "weights": torch.tensor([1.0, 1.0, 0.0])}

    per_example = _cross_entropy(torch.tensor([0.0, 2.0, -3.0]), batch)

    assert per_example.tolist() == pytest.approx([0.693147, 2.126928, 0.0], abs=1e-6)
    assert float(per_example.sum()) == pytest.approx(2.820075, abs=1e-5)
    assert float(per_example.sum() / batch["weights"].sum()) == pytest.approx(1.410038, abs=1e-5)
    whole = _cross_entropy(torch.tensor([0.0, 2.0, -3.0]), batch | {"weights": torch.ones(3)})
    assert float(whole[2]) == pytest.approx(3.048587, abs=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_initialisation(variant: str) -> None:
    torch.manual_seed(0)
    params = params_of(variant, table_rows=4096)

    model = ClickModel(params)

    table = model.embedding.weight
    upper = 1.0 if variant == "criteo_embed_init" else 1 / 64
    assert float(table.min()) >= 0
    assert upper * 0.99 < float(table.max()) < upper
    for layer in [m for m in model.bottom.modules() if isinstance(m, nn.Linear)]:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert bound * 0.98 < float(layer.weight.abs().max()) <= bound
    for layer in [m for m in model.top.modules() if isinstance(m, nn.Linear)]:
        std = math.sqrt(2 / (layer.in_features + layer.out_features))
        assert float(layer.weight.std()) == pytest.approx(std, rel=0.03)
        assert float(layer.bias.std()) == pytest.approx(math.sqrt(1 / layer.out_features), rel=0.15)


def test_bounds_and_deviations_of_the_published_widths() -> None:
    bounds = [math.sqrt(6 / (a + b)) for a, b in ((13, 512), (512, 256), (256, 128))]
    deviations = [math.sqrt(2 / (a + b)) for a, b in ((506, 1024), (1024, 1024), (1024, 512), (512, 256), (256, 1))]

    assert bounds == pytest.approx([0.1069, 0.08839, 0.125], abs=1e-4)
    assert deviations == pytest.approx([0.03616, 0.03125, 0.03608, 0.05103, 0.08822], abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_composes_at_both_scales(variant: str) -> None:
    for scale in ("full", "mini"):
        spec: WorkloadSpec = compose_workload(variant, scale=scale)
        Params.from_mapping(spec.params)
        assert spec.family == "criteo"
        assert spec.is_variant() == (variant != "criteo")


def test_published_targets_and_budget() -> None:
    thresholds = {name: compose_workload(name, scale="full").targets for name in VARIANTS}
    base = compose_workload("criteo", scale="full")

    assert {name: next(iter(targets.values())).threshold for name, targets in thresholds.items()} == {
        "criteo": 0.123735,
        "criteo_layernorm": 0.123757,
        "criteo_embed_init": 0.129657,
        "criteo_resnet": 0.12415,
    }
    assert (base.max_submission_time_s, base.step_hint, base.eval_period_s) == (7703.0, 10666, 120.0)
    assert base.reference_batch_size == 262144
    assert -(-83_274_637 // 8_192) * 8_192 == 83_279_872, "the published size, at the published batch size"
    assert base.params["eval_train_examples"] == -(-83_274_637 // base.eval_batch_size) * base.eval_batch_size
    assert base.params["expected_examples"] == {"train": 4195197692, "validation": 83274637, "test": 95000000}
