"""Source of the figures: AlgoPerf imagenet_vit specification, sections 2, 4, 5 and 7."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.vision_transformer import EncoderBlock

from benchmarks.library_parts.images import copy_weights
from perfbench.compose import compose_workload
from perfbench.data.classification import softmax_loss
from perfbench.errors import ConfigError
from perfbench.workloads.imagenet_vit.model import AttentionPooling, Block, VisionTransformer, positions
from perfbench.workloads.imagenet_vit.params import Params
from perfbench.workloads.imagenet_vit.workload import VitWorkload

BASE, GLU, POST_LN, MAP = VARIANTS = ("imagenet_vit", "imagenet_vit_glu", "imagenet_vit_post_ln", "imagenet_vit_map")
TINY: dict[str, Any] = {
    "crop_side": 8,
    "patch_side": 4,
    "width": 8,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_width": 16,
    "num_classes": 5,
}


def params_of(variant: str, scale: str = "full", **changes: object) -> Params:
    return Params.from_mapping(compose_workload(variant, scale=scale).params | changes, where="workload.params")


def workload_of(variant: str, scale: str = "full") -> VitWorkload:
    """Return a workload without data."""
    workload = VitWorkload.__new__(VitWorkload)
    workload.params = params_of(variant, scale)
    workload._num_classes = workload.params.num_classes
    return workload


@pytest.fixture(scope="module", params=VARIANTS)
def at_full_size(request: pytest.FixtureRequest) -> tuple[str, VisionTransformer]:
    torch.manual_seed(0)
    return request.param, VisionTransformer(params_of(request.param))


COUNTS = {
    BASE: (22_122_472, 200),
    GLU: (50_452_456, 224),
    POST_LN: (22_121_704, 198),
    MAP: (23_896_552, 213),
}
ROLES = {  # conv weight, norm scales (and as many biases), q, k, v, kv, out, attention biases, weights, biases
    BASE: (1, 25, 12, 12, 12, 0, 12, 48, 26, 27),
    GLU: (1, 25, 12, 12, 12, 0, 12, 48, 38, 39),
    POST_LN: (1, 24, 12, 12, 12, 0, 12, 48, 26, 27),
    MAP: (1, 26, 13, 12, 12, 1, 13, 51, 29, 29),
}


def test_parameters_and_roles_at_full_size(at_full_size: tuple[str, VisionTransformer]) -> None:
    variant, model = at_full_size
    roles = workload_of(variant).parameter_roles(model)
    counts = Counter(role.value for role in roles.values())

    assert (sum(p.numel() for p in model.parameters()), len(list(model.parameters()))) == COUNTS[variant]
    assert set(roles) == {name for name, _ in model.named_parameters()}
    assert set(model.state_dict()) == set(roles), "position codes are neither parameters nor state"
    names = "conv_weight layer_norm_scale attention_q attention_k attention_v attention_kv attention_out attention_bias"
    assert tuple(counts[name] for name in [*names.split(), "weight", "bias"]) == ROLES[variant]
    assert counts["layer_norm_bias"] == counts["layer_norm_scale"]
    assert roles["patches.bias"].value == "bias"


@pytest.mark.parametrize(
    ("variant", "num_parameters"), [(BASE, 167_242), (GLU, 364_618), (POST_LN, 167_114), (MAP, 217_162)]
)
def test_parameters_at_the_specification_s_reduced_size(variant: str, num_parameters: int) -> None:
    sizes: dict[str, Any] = {
        "crop_side": 32,
        "patch_side": 8,
        "width": 64,
        "num_blocks": 3,
        "num_heads": 4,
        "mlp_width": 256,
    }
    model = VisionTransformer(params_of(variant, num_classes=10, **sizes))

    assert sum(p.numel() for p in model.parameters()) == num_parameters


def test_a_blank_start(at_full_size: tuple[str, VisionTransformer]) -> None:
    """The head is 0: logits are 0, the loss ln 1000, and only the head has a gradient that is not 0."""
    variant, model = at_full_size
    batch = {
        "inputs": torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8),
        "targets": torch.tensor([3]),
        "weights": torch.ones(1),
    }

    loss = workload_of(variant).loss(model.train(), batch, label_smoothing=0.2)
    loss.summed.backward()
    with torch.no_grad():
        logits = model.eval()(batch["inputs"])

    moved = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert moved == {"head.weight", "head.bias"}
    assert float(loss.summed.detach()) == pytest.approx(math.log(1000), abs=1e-6)
    assert float(softmax_loss(logits, batch["targets"], batch["weights"]).summed) == pytest.approx(6.907755, abs=1e-6)
    assert torch.count_nonzero(logits) == 0
    assert int(logits.argmax(dim=1)) == 0, "a tie is class 0: 50 of 50,000 validation images"


def values_of(model: VisionTransformer, ending: str) -> list[Tensor]:
    found = [p.detach() for name, p in model.named_parameters() if name.endswith(ending)]
    assert found
    return found


def test_initialisation_of_weights(at_full_size: tuple[str, VisionTransformer]) -> None:
    """Bounds are those of uniform distributions (deviation: a bound by the root of 3) or of cut normal ones."""
    variant, model = at_full_size
    expected = {f"attention.{name}.weight": (0.088388, 0.0510) for name in ("query", "key", "value", "out")}
    expected |= {f"mlp.{name}.weight": (0.055902, 0.0323) for name in ("inner", "outer")}
    expected["patches.weight"] = (2 * math.sqrt(1 / 768) / 0.8796, 0.0361)
    expected["pre_logits.weight"] = (2 * math.sqrt(1 / 384) / 0.8796, math.sqrt(1 / 384))
    if variant == GLU:
        expected["gate.weight"] = (0.044194, 0.0255)
    if variant == MAP:
        expected["key_value.weight"] = (0.072169, 0.0417)
        expected["probe"] = (0.088388, 0.0510)

    for ending, (bound, std) in expected.items():
        for value in values_of(model, ending):
            assert float(value.abs().max()) <= bound + 1e-6  # bounds are rounded
            assert float(value.std()) == pytest.approx(std, rel=0.1 if ending == "probe" else 0.03)
    if variant == MAP:
        assert float(values_of(model, "key_value.weight")[0].max()) == pytest.approx(0.07217, abs=1e-5)


def test_initialisation_of_biases_norms_and_head(at_full_size: tuple[str, VisionTransformer]) -> None:
    variant, model = at_full_size
    tiny = ["mlp.inner.bias", "mlp.outer.bias"]
    tiny += {GLU: ["mlp.gate.bias"], MAP: ["pooling.attention.query.bias", "key_value.bias"]}.get(variant, [])

    for ending in tiny:
        for value in values_of(model, ending):
            assert float(value.std()) == pytest.approx(1e-6, rel=0.2)
    for block in model.blocks:
        assert all(not v.detach().any() for n, v in block.named_parameters() if re.search(r"attention\..*bias", n))
    for name in ("patches.bias", "pre_logits.bias", "head.weight", "head.bias"):
        assert float(values_of(model, name)[0].abs().max()) == 0
    for norm in (m for m in model.modules() if isinstance(m, nn.LayerNorm)):
        assert norm.eps == 1e-6
        assert (set(norm.weight.tolist()), set(norm.bias.tolist())) == ({1.0}, {0.0})


def test_position_codes() -> None:
    codes = positions(14, 384)

    assert codes.shape == (196, 384)
    assert float(codes.abs().max()) == 1
    assert codes.square().sum(dim=1).tolist() == pytest.approx([192.0] * 196, rel=1e-5)
    assert float(codes.sum(dtype=torch.float64)) == pytest.approx(34_742.77, abs=0.05)
    assert codes[0].tolist() == [0.0] * 96 + [1.0] * 96 + [0.0] * 96 + [1.0] * 96
    assert codes[1, :3].tolist() == pytest.approx([0.8415, 0.7880, 0.7337], abs=5e-5)
    assert torch.count_nonzero(codes[14, :96]) == 0
    assert codes[14, 192:195].tolist() == pytest.approx([0.8415, 0.7880, 0.7337], abs=5e-5)
    assert codes[17, [0, 96, 192, 288]].tolist() == pytest.approx([0.14112, -0.98999, 0.84147, 0.54030], abs=1e-5)


def filled(params: Params) -> VisionTransformer:
    """Return a float64 model whose tensors, in order, are sines of their places."""
    model = VisionTransformer(params).double().eval()
    model.positions = model.positions.float()
    norms = {name for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
    for k, (name, parameter) in enumerate(model.named_parameters()):
        places = torch.arange(parameter.numel(), dtype=torch.float64).view_as(parameter)
        offset = 1.0 if name.rpartition(".")[0] in norms and name.endswith("weight") else 0.0
        parameter.data = 0.3 * torch.sin(0.7 * places + k) + offset
    return model


@pytest.mark.parametrize(
    ("variant", "count", "logits"),
    [
        (
            BASE,
            (40, 1725),
            [
                [1.266913, 1.100450, 0.434183, -0.429721, -1.099086],
                [1.326299, 1.146977, 0.446965, -0.456420, -1.153283],
            ],
        ),
        (
            GLU,
            (44, 2269),
            [
                [0.362892, -0.039855, -0.422920, -0.618760, -0.542643],
                [0.497593, 0.113033, -0.320472, -0.612737, -0.635749],
            ],
        ),
        (
            POST_LN,
            (38, 1709),
            [
                [-0.388349, -0.250795, -0.000672, 0.245602, 0.375292],
                [-0.451402, -0.336354, -0.070334, 0.223108, 0.410062],
            ],
        ),
        (
            MAP,
            (53, 2317),
            [
                [-0.491037, 0.017334, 0.513745, 0.779506, 0.699482],
                [-0.594797, -0.090322, 0.450515, 0.789086, 0.777570],
            ],
        ),
    ],
)
def test_a_forward_of_known_weights(variant: str, count: tuple[int, int], logits: list[list[float]]) -> None:
    model = filled(params_of(variant, **TINY))
    pixels = torch.sin(0.01 * torch.arange(2 * 3 * 8 * 8, dtype=torch.float64)).view(2, 3, 8, 8)

    with torch.no_grad():
        found = model.logits(pixels)

    assert (len(list(model.parameters())), sum(p.numel() for p in model.parameters())) == count
    for row, expected in zip(found.tolist(), logits, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)


def test_a_block_is_torchvision_s_with_the_other_gelu() -> None:
    torch.manual_seed(0)
    block = Block(params_of(BASE)).eval()
    oracle = EncoderBlock(6, 384, 1536, 0.0, 0.0, lambda width: nn.LayerNorm(width, eps=1e-6)).eval()
    oracle.mlp[1] = nn.GELU(approximate="tanh")
    copy_weights(block, oracle)
    x = torch.randn(2, 196, 384)

    with torch.no_grad():
        difference = (block(x) - oracle(x)).abs().max()

    assert float(difference) < 5e-6


def test_gelu_is_the_tanh_form() -> None:
    values = functional.gelu(torch.tensor([-3.0, -1, -0.5, 0.5, 1, 3]), approximate="tanh")

    assert values.tolist() == pytest.approx([-0.003637, -0.158808, -0.154286, 0.345714, 0.841192, 2.996363], abs=1e-6)


def slow_mlp(x: Tensor, block: Block) -> Tensor:
    mlp = block.mlp
    assert mlp.gate is not None
    inner = x @ mlp.inner.weight.T + mlp.inner.bias
    hidden = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
    gate = hidden @ mlp.gate.weight.T + mlp.gate.bias
    return (hidden * gate) @ mlp.outer.weight.T + mlp.outer.bias


def test_the_gate_is_a_linear_function_of_the_activated_hidden_layer() -> None:
    torch.manual_seed(0)
    block = Block(params_of(GLU, **TINY))
    x = torch.randn(3, 4, 8)

    assert torch.allclose(block.mlp(x), slow_mlp(x, block), atol=1e-6)


def test_pooling_attends_with_one_query_and_adds_nothing_to_it() -> None:
    """Against a loop over heads."""
    torch.manual_seed(0)
    pooling = AttentionPooling(params_of(MAP, **TINY)).eval()
    x = torch.randn(2, 4, 8)
    attention = pooling.attention
    query = attention.query(pooling.probe.view(8))
    keys, values = attention.key_value(x)[..., :8], attention.key_value(x)[..., 8:]
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        shares = torch.softmax(keys[..., head] @ query[head] / 2, dim=1)
        heads.append((shares[..., None] * values[..., head]).sum(dim=1))
    attended = attention.out(torch.cat(heads, dim=-1))

    expected = attended + pooling.mlp(pooling.norm(attended))

    assert torch.allclose(pooling(x), expected, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_is_settable_between_calls_and_off_in_evaluation(variant: str) -> None:
    torch.manual_seed(0)
    workload = workload_of(variant, "mini")
    model = filled(params_of(variant, **TINY))
    pixels = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    evaluated = model.logits(pixels)

    workload.set_dropout(model.train(), 0.0)
    assert torch.allclose(model.logits(pixels), evaluated)
    workload.set_dropout(model, 0.5)
    assert not torch.allclose(model.logits(pixels), model.logits(pixels))
    assert torch.allclose(model.eval().logits(pixels), evaluated)
    workload.set_dropout(model.train(), 0.0)
    assert torch.allclose(model.logits(pixels), evaluated)


@pytest.mark.parametrize(("variant", "per_block", "others"), [(BASE, 3, 1), (GLU, 3, 1), (POST_LN, 3, 1), (MAP, 3, 3)])
def test_every_published_place_has_its_dropout(variant: str, per_block: int, others: int) -> None:
    """A block has one more use than modules: the one on sub-layer outputs serves attention and MLP."""
    model = filled(params_of(variant, **TINY)).train()
    pixels = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    plain = model.logits(pixels)

    assert len(dropouts) == 2 * per_block + others
    for dropout in dropouts:
        dropout.p = 0.5
        assert not torch.allclose(model.logits(pixels), plain)
        dropout.p = 0.0


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_training_step_and_one_evaluation_batch_at_full_size(variant: str) -> None:
    torch.manual_seed(0)
    workload = workload_of(variant)
    model = workload.make_model().train()
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    batch = {"inputs": images, "targets": torch.tensor([1, 2]), "weights": torch.ones(2)}
    partners = {
        "partners": images.flip(0),
        "partner_targets": torch.tensor([2, 1]),
        "mix_weights": torch.full((2,), 0.4),
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    losses = []
    for _ in range(2):  # the first step moves the head only
        optimizer.zero_grad()
        sums = workload.loss(model, batch | partners)
        sums.summed.backward()
        optimizer.step()
        losses.append(float(sums.summed.detach()) / 2)
    with torch.no_grad():
        found = workload.eval_sums(model.eval(), batch, split=None)  # type: ignore[arg-type]  # no split differs

    assert losses[0] == pytest.approx(math.log(1000), abs=1e-5)
    assert losses[1] < losses[0]
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    assert float(found["num_examples"]) == 2


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="crop_side 224 must be a multiple of patch_side 15"):
        params_of(BASE, patch_side=15)
    with pytest.raises(ConfigError, match="width 384 must be a multiple of 4 and of num_heads 7"):
        params_of(BASE, num_heads=7)


def test_published_targets_and_budget() -> None:
    specs = {name: compose_workload(name, scale="full") for name in VARIANTS}

    assert [next(iter(spec.targets.values())).threshold for spec in specs.values()] == [
        *(0.77309, 0.75738, 0.75312, 0.77113)
    ]
    test_targets = [spec.test_target for spec in specs.values()]
    assert [target.threshold for target in test_targets if target is not None] == [0.6519, 0.6359, 0.6286, 0.6523]
    assert [spec.reference_batch_size for spec in specs.values()] == [1024, 512, 1024, 1024]
    assert {(s.max_submission_time_s, s.step_hint, s.eval_period_s, s.eval_batch_size) for s in specs.values()} == {
        (77520.0, 186666, 420.0, 2048)
    }
    params = params_of(BASE)
    assert params.eval_train_examples == 51_200 == 25 * 2048
    assert (params.rand_augment_operations, params.mixup_alpha, params.dropout_rate) == (2, 0.2, 0.0)
    assert [divmod(params.expected_examples[split], 2048) for split in ("validation", "test")] == [(24, 848), (4, 1808)]
