"""Source of the figures: AlgoPerf fastMRI specification, sections 1, 4, 6 and 8 (measured on the reference models)."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn

from perfbench.compose import compose_workload
from perfbench.workloads.fastmri.model import UNet
from perfbench.workloads.fastmri.workload import FastMriWorkload, _absolute_error
from tests.unit.fastmri_figures import params_of, pseudo_random

VARIANTS = ("fastmri", "fastmri_model_size", "fastmri_tanh", "fastmri_layernorm")


def filled(model: UNet) -> UNet:
    norms = {id(m.weight) for m in model.modules() if isinstance(m, nn.GroupNorm)}
    for parameter in model.parameters():
        u = torch.from_numpy(pseudo_random(parameter.numel())).view(parameter.shape)
        if id(parameter) in norms:
            value = 1 + 0.2 * u
        elif parameter.dim() == 1:
            value = 0.2 * u
        else:
            value = u * math.sqrt(24 / (parameter.numel() / parameter.shape[0]))
        parameter.data.copy_(value)
    return model


@pytest.mark.parametrize(
    ("variant", "num_parameters", "num_tensors"),
    [
        ("fastmri", 7_756_097, 24),
        ("fastmri_model_size", 7_692_929, 19),
        ("fastmri_tanh", 7_756_097, 24),
        ("fastmri_layernorm", 7_761_985, 60),
    ],
)
def test_parameter_counts_at_full_size(variant: str, num_parameters: int, num_tensors: int) -> None:
    with torch.device("meta"):
        model = UNet(params_of(variant))

    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters
    assert len(list(model.parameters())) == num_tensors


def test_names_and_shapes_are_those_of_the_library_model() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in UNet(params_of()).named_parameters()}

    assert shapes["down_sample_layers.0.conv_layers.0.weight"] == (32, 1, 3, 3)
    assert shapes["down_sample_layers.3.conv_layers.4.weight"] == (256, 256, 3, 3)
    assert shapes["conv.conv_layers.0.weight"] == (512, 256, 3, 3)
    assert shapes["up_conv.0.conv_layers.0.weight"] == (256, 512, 3, 3)
    assert shapes["up_conv.3.0.conv_layers.0.weight"] == (32, 64, 3, 3)
    assert shapes["up_conv.3.1.weight"] == (1, 32, 1, 1)
    assert shapes["up_conv.3.1.bias"] == (1,)
    assert shapes["up_transpose_conv.0.layers.0.weight"] == (512, 256, 2, 2)


def test_the_mini_model_and_its_wider_variant_are_about_as_large() -> None:
    counts = [
        sum(p.numel() for p in UNet(params_of(variant, "mini")).parameters())
        for variant in ("fastmri", "fastmri_model_size", "fastmri_layernorm")
    ]

    assert counts == [120_273, 116_385, 120_977]


@pytest.mark.parametrize(
    ("variant", "changes", "expected"),
    [
        ("fastmri", {}, [-0.625316, 1.041657, -0.914414, -1.409326, -0.558104, 1.151188, 6.985932]),
        ("fastmri_model_size", {}, [-0.404987, 0.966646, -1.019723, 0.716240, -0.209416, 1.416486, 9.635935]),
        ("fastmri_tanh", {}, [-0.095730, 0.813974, -0.487704, 0.540438, -0.847775, 0.976661, 8.334206]),
        ("fastmri_layernorm", {}, [-0.489273, 0.718641, -0.034906, -0.736328, -0.590142, 0.950019, 5.779379]),
        (
            "fastmri",
            {"channels": 8, "num_pools": 3},
            [-0.040310, 1.171621, 2.108788, -0.097408, -0.619331, 1.258497, 3.432174],
        ),
    ],
)
def test_deterministic_forward_and_backward(variant: str, changes: dict[str, int], expected: list[float]) -> None:
    model = filled(UNet(params_of(variant, **changes)).double())
    line = torch.arange(32, dtype=torch.float64)
    x = (torch.sin(0.3 * line)[:, None] + torch.cos(0.2 * line)[None])[None]

    out = model(x)
    loss = (out - x).abs().mean()
    loss.backward()

    y = out.detach()[0]
    squares = sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None)
    actual = [y.mean(), y.std(correction=0), y[0, 0], y[5, 7], y[31, 31], loss.detach(), math.sqrt(squares)]
    assert [float(value) for value in actual] == pytest.approx(expected, abs=2e-6)


def test_odd_sizes_are_reflected() -> None:
    model = filled(UNet(params_of(channels=8, num_pools=3)).double())
    rows, columns = torch.arange(35, dtype=torch.float64), torch.arange(37, dtype=torch.float64)

    with torch.no_grad():
        y = model((torch.sin(0.3 * rows)[:, None] + torch.cos(0.2 * columns)[None])[None])[0]

    assert y.shape == (35, 37)
    actual = [float(value) for value in (y.mean(), y.std(correction=0), y[0, 0], y[34, 36])]
    assert actual == pytest.approx([-0.050183, 1.171889, 2.058993, 0.606375], abs=2e-6)


def test_initial_weights_have_the_published_deviations() -> None:
    torch.manual_seed(0)
    weights = dict(UNet(params_of()).named_parameters())

    for name, std in [
        ("down_sample_layers.0.conv_layers.0.weight", 1 / 3),
        ("down_sample_layers.0.conv_layers.4.weight", 0.0589),
        ("conv.conv_layers.4.weight", 0.01473),
        ("up_transpose_conv.0.layers.0.weight", 0.03125),
        ("up_transpose_conv.3.layers.0.weight", 0.0884),
        ("up_conv.3.1.weight", 0.177),
    ]:
        weight = weights[name]
        assert float(weight.detach().std()) == pytest.approx(std, rel=4 / math.sqrt(2 * weight.numel()) + 0.002)
        assert float(weight.detach().abs().max()) <= 2.274 * math.sqrt(1 / weight[0].numel())
    assert float(weights["up_conv.3.1.bias"].detach()) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_untrained_model_is_finite_and_of_the_target_s_size(variant: str) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        error = (UNet(params_of(variant))(torch.randn(1, 320, 320)) - torch.randn(1, 320, 320)).abs().mean()

    assert 0.3 < float(error) < 2


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("fastmri", {"conv_weight": 23, "bias": 1}),
        ("fastmri_tanh", {"conv_weight": 23, "bias": 1}),
        ("fastmri_model_size", {"conv_weight": 18, "bias": 1}),
        ("fastmri_layernorm", {"conv_weight": 23, "bias": 1, "layer_norm_scale": 18, "layer_norm_bias": 18}),
    ],
)
def test_roles(variant: str, expected: dict[str, int]) -> None:
    with torch.device("meta"):
        model = UNet(params_of(variant))

    roles = FastMriWorkload.parameter_roles(None, model)  # type: ignore[arg-type]  # needs no data

    assert Counter(role.value for role in roles.values()) == expected
    assert set(roles) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(("variant", "sites"), [("fastmri", 18), ("fastmri_model_size", 14)])
def test_dropout_takes_whole_feature_maps_at_every_site(variant: str, sites: int) -> None:
    model = UNet(params_of(variant, channels=4)).train()
    x = torch.randn(1, 32, 32)
    torch.manual_seed(0)

    FastMriWorkload.set_dropout(None, model, 0.5)  # type: ignore[arg-type]  # needs no data
    dropped = model.down_sample_layers[0](x[:, None])
    FastMriWorkload.set_dropout(None, model, 0.0)  # type: ignore[arg-type]
    kept = model.down_sample_layers[0](x[:, None])

    assert sum(isinstance(module, nn.Dropout2d) for module in model.modules()) == sites
    is_blank = (dropped == 0).all(dim=(2, 3))
    assert is_blank.any()
    assert not (dropped == 0)[~is_blank].any(dim=-1).all()
    assert not (kept == 0).all(dim=(2, 3)).any()


def test_the_loss_by_hand() -> None:
    targets = torch.tensor([[[1.0, -1.0], [3.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]])

    counted = _absolute_error(torch.zeros(2, 2, 2), {"targets": targets, "weights": torch.ones(2)})
    weighted = _absolute_error(torch.zeros(2, 2, 2), {"targets": targets, "weights": torch.tensor([1.0, 0.0])})

    assert counted.tolist() == [1.5, 2.0]
    assert weighted.tolist() == [1.5, 0.0]


def test_published_targets_budget_and_counts() -> None:
    specs = {name: compose_workload(name, scale="full") for name in VARIANTS}
    base = specs["fastmri"]

    validation = {name: next(iter(spec.targets.values())).threshold for name, spec in specs.items()}
    test = {name: spec.test_target.threshold for name, spec in specs.items() if spec.test_target}
    assert list(validation.values()) == [0.723653, 0.723559, 0.717840, 0.723284]
    assert list(test.values()) == [0.740633, 0.740726, 0.734505, 0.739996]
    assert (base.max_submission_time_s, base.step_hint, base.eval_period_s) == (8859.0, 36189, 80.0)
    assert (base.reference_batch_size, base.eval_batch_size) == (32, 256)
    assert base.params["expected_examples"] == {"train": 34742, "validation": 3554, "test": 3581}
    assert base.params["expected_volumes"] == {"train": 973, "validation": 100, "test": 99}
    assert base.params["eval_train_examples"] == 3584
