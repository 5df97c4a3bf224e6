"""Source of the figures: AlgoPerf imagenet_resnet specification, sections 2, 5 and 8."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck, ResNet

from perfbench.api.workload import BatchNormMode
from perfbench.compose import compose_workload
from perfbench.data.classification import softmax_loss
from perfbench.data.images.transforms import normalised
from perfbench.workloads.imagenet_resnet.model import ImageModel
from perfbench.workloads.imagenet_resnet.params import Params
from perfbench.workloads.imagenet_resnet.workload import ResnetWorkload

VARIANTS = ("imagenet_resnet", "imagenet_resnet_silu", "imagenet_resnet_gelu", "imagenet_resnet_large_bn_init")


def params_of(variant: str, scale: str = "full") -> Params:
    return Params.from_mapping(compose_workload(variant, scale=scale).params)


@pytest.mark.parametrize("variant", VARIANTS)
def test_parameters_and_roles_at_full_size(variant: str) -> None:
    with torch.device("meta"):
        model = ImageModel(params_of(variant))

    roles = ResnetWorkload.parameter_roles(None, model)  # type: ignore[arg-type]  # needs no data

    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    assert len(list(model.buffers())) == 159
    assert sum(b.numel() for b in model.buffers()) == 53_173
    assert set(roles) == {name for name, _ in model.named_parameters()}
    assert Counter(role.value for role in roles.values()) == {
        "conv_weight": 53, "batch_norm_scale": 53, "batch_norm_bias": 53, "weight": 1, "bias": 1
    }  # fmt: skip
    elements: Counter[str] = Counter()
    for name, role in roles.items():
        elements[role.value] += model.get_parameter(name).numel()
    assert elements == {
        "conv_weight": 23_454_912, "batch_norm_scale": 26_560, "batch_norm_bias": 26_560, "weight": 2_048_000,
        "bias": 1_000,
    }  # fmt: skip


def test_the_mini_model_has_half_a_million_parameters() -> None:
    assert sum(p.numel() for p in ImageModel(params_of("imagenet_resnet", "mini")).parameters()) == 511_514


@pytest.mark.parametrize(
    ("variant", "activation"),
    [
        ("imagenet_resnet", nn.ReLU()),
        ("imagenet_resnet_silu", nn.SiLU()),
        ("imagenet_resnet_gelu", nn.GELU(approximate="tanh")),
    ],
)
def test_outputs_are_torchvision_s_bit_for_bit(variant: str, activation: nn.Module) -> None:
    torch.manual_seed(0)
    model = ImageModel(params_of(variant)).eval()
    oracle = resnet50().eval()
    for module in list(oracle.modules()):
        if isinstance(module, ResNet | Bottleneck):
            module.relu = activation
    oracle.load_state_dict(model.resnet.state_dict())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)

    with torch.no_grad():
        assert torch.equal(model(images), oracle(normalised(images, torch.float32)))


@pytest.mark.parametrize(
    ("variant", "branch_scale"), [("imagenet_resnet", 0.0), ("imagenet_resnet_large_bn_init", 8.0)]
)
def test_initialisation(variant: str, branch_scale: float) -> None:
    torch.manual_seed(0)
    resnet = ImageModel(params_of(variant)).resnet
    convolutions = [m for m in resnet.modules() if isinstance(m, nn.Conv2d)]
    norms = {name: m for name, m in resnet.named_modules() if isinstance(m, nn.BatchNorm2d)}
    last = {name for name in norms if name.endswith("bn3")}

    assert len(convolutions) == 53
    for convolution in convolutions:
        weight = convolution.weight.detach()
        std = math.sqrt(1 / weight[0].numel())
        assert float(weight.std()) == pytest.approx(std, rel=0.05)
        assert float(weight.abs().max()) <= 2 * std / 0.8796
    assert float(resnet.conv1.weight.detach().std()) == pytest.approx(0.0825, rel=0.03)
    assert len(last) == 16
    for name, norm in norms.items():
        assert set(norm.weight.tolist()) == {branch_scale if name in last else 1.0}
        assert set(norm.bias.tolist()) == {0.0}
    assert float(resnet.fc.weight.detach().std()) == pytest.approx(0.01, rel=0.01)
    assert float(resnet.fc.bias.detach().abs().max()) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "low", "high"),
    [(VARIANTS[0], 6.85, 7.2), (VARIANTS[1], 6.85, 7.2), (VARIANTS[2], 6.85, 7.2), (VARIANTS[3], 10.0, 17.0)],
)
def test_one_training_step_and_one_evaluation_batch_at_full_size(variant: str, low: float, high: float) -> None:
    """The variant with large scales does not start at ln 1000."""
    torch.manual_seed(0)
    model = ImageModel(params_of(variant)).train()
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    targets, weights = torch.tensor([1, 2]), torch.ones(2)

    sums = softmax_loss(model(images), targets, weights)
    sums.summed.backward()
    before = model.resnet.fc.weight.detach().clone()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    with torch.no_grad():
        logits = model.eval()(images)

    assert low < float(sums.summed.detach()) / 2 < high
    assert not torch.equal(before, model.resnet.fc.weight.detach())
    assert logits.shape == (2, 1000)


def test_frozen_batch_norm_uses_batch_statistics_and_keeps_the_running_ones() -> None:
    torch.manual_seed(0)
    model = ImageModel(params_of("imagenet_resnet", "mini")).train()
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    norm = model.resnet.bn1

    ResnetWorkload.set_batch_norm(None, model, BatchNormMode.FREEZE)  # type: ignore[arg-type]  # needs no data
    before = norm.running_mean.clone() if norm.running_mean is not None else None
    frozen = model(images)
    assert before is not None
    assert norm.running_mean is not None
    assert torch.equal(norm.running_mean, before)
    ResnetWorkload.set_batch_norm(None, model, BatchNormMode.UPDATE)  # type: ignore[arg-type]
    updated = model(images)

    assert torch.equal(frozen, updated)
    assert not torch.equal(norm.running_mean, before)
    assert norm.momentum == 0.1


def test_published_targets_and_budget() -> None:
    specs = {name: compose_workload(name, scale="full") for name in VARIANTS}

    assert {name: next(iter(spec.targets.values())).threshold for name, spec in specs.items()} == dict(
        zip(VARIANTS, (0.77431, 0.75445, 0.76765, 0.76526), strict=True)
    )
    assert [spec.reference_batch_size for spec in specs.values()] == [1024, 512, 512, 1024]
    assert {(s.max_submission_time_s, s.step_hint, s.eval_period_s) for s in specs.values()} == {
        (63008.0, 186666, 510.0)
    }
    assert 1_281_167 // 1024 == 1251
    assert specs["imagenet_resnet"].params["eval_train_examples"] == 49 * 1024
