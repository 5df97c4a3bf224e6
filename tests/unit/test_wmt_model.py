"""The Transformer against the figures of its specification, and its cached step against the whole sequence."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from perfbench.api.workload import ParameterRole
from perfbench.compose import compose_workload
from perfbench.workloads.wmt.model import KeysValues, Pairs, Side, Step, Transformer, sinusoids
from perfbench.workloads.wmt.packing import filled
from perfbench.workloads.wmt.params import Params
from perfbench.workloads.wmt.workload import WmtWorkload, _cross_entropy

VARIANTS = ("wmt", "wmt_post_ln", "wmt_attention_temp", "wmt_glu_tanh")
FULL_COUNTS = dict(zip(VARIANTS, (133_521_408, 133_517_312, 133_521_408, 146_116_608), strict=True))
SMALL_COUNTS = dict(zip(VARIANTS, (35_392, 35_264, 35_392, 39_616), strict=True))
NUM_TENSORS = dict(zip(VARIANTS, (155, 151, 155, 179), strict=True))
SMALL = {
    "vocab_size": 50, "width": 32, "num_heads": 4, "feed_forward_width": 32, "num_layers": 2, "row_length": 16,
    "dropout_rate": 0.0,
}  # fmt: skip
SOURCES = [[[5, 6, 7, 2]], [[9, 10, 11, 12, 13, 2]]]
TARGETS = [[[8, 9, 2]], [[14, 15, 16, 17, 18, 2]]]


def params(variant: str, **changes: Any) -> Params:
    spec = compose_workload(variant, scale="full")
    return Params.from_mapping(spec.params | changes)


def with_formula_weights(model: Transformer) -> Transformer:
    """Set the weights that the specification's figures belong to."""
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            index = torch.arange(tensor.shape[-1], dtype=torch.float64)
            if "norm" in name:
                value = 1 + 0.1 * index.sin() if name.endswith("weight") else 0.01 * index.cos()
            elif name.endswith("bias"):
                value = 0.01 * index.sin()
            else:
                rows = torch.arange(tensor.shape[0], dtype=torch.float64)
                scale = 2.0 if name == "embedding.weight" else 2 / tensor.shape[1]
                value = scale**0.5 * ((rows[:, None] + 1) * (index + 1)).sin()
            tensor.copy_(value)
    return model.eval()


def side(rows: list[list[list[int]]], length: int) -> Side:
    arrays = filled([[np.asarray(s, dtype=np.uint16) for s in row] for row in rows], row_length=length)
    return Side(*(torch.from_numpy(arrays[name]) for name in ("ids", "positions", "segments")))


def logits_of(model: Transformer, sources: list[list[list[int]]], targets: list[list[list[int]]], n: int) -> Tensor:
    return cast("Tensor", model(Pairs(side(sources, n), side(targets, n)))).detach()


@pytest.mark.parametrize("variant", VARIANTS)
def test_full_models_have_the_published_numbers_of_parameters(variant: str) -> None:
    with torch.device("meta"):
        model = Transformer(params(variant))

    parameters = list(model.parameters())
    assert len(parameters) == NUM_TENSORS[variant]
    assert sum(p.numel() for p in parameters) == FULL_COUNTS[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_small_models_have_the_published_numbers_of_parameters(variant: str) -> None:
    model = Transformer(params(variant, **SMALL))

    assert sum(p.numel() for p in model.parameters()) == SMALL_COUNTS[variant]


def test_every_role_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = Transformer(params("wmt"))
    roles = WmtWorkload.parameter_roles(cast("WmtWorkload", None), model)

    counts: dict[ParameterRole, int] = {}
    for name, parameter in model.named_parameters():
        counts[roles[name]] = counts.get(roles[name], 0) + parameter.numel()

    assert counts == {
        ParameterRole.EMBEDDING: 32_768_000,
        ParameterRole.ATTENTION_QKV: 37_748_736,
        ParameterRole.ATTENTION_Q: 6_291_456,
        ParameterRole.ATTENTION_KV: 12_582_912,
        ParameterRole.ATTENTION_OUT: 18_874_368,
        ParameterRole.WEIGHT: 25_165_824,
        ParameterRole.BIAS: 24_576,
        ParameterRole.LAYER_NORM_SCALE: 32_768,
        ParameterRole.LAYER_NORM_BIAS: 32_768,
    }


def test_sinusoids_are_those_of_the_specification() -> None:
    table = sinusoids(256, 1024)

    figures = {(0, 0): 0, (0, 512): 1, (1, 0): 0.841471, (1, 1): 0.831686, (1, 511): 0.0001, (1, 512): 0.540302,
               (10, 100): 0.996944, (255, 0): -0.506392, (255, 511): 0.025497, (255, 512): -0.862304,
               (255, 1023): 0.999675}  # fmt: skip
    assert [float(table[at]) for at in figures] == pytest.approx(list(figures.values()), abs=1e-6)
    narrow = [0.841471, 0.046399, 0.002154, 0.0001, 0.540302, 0.998923, 0.999998, 1.0,
              0.909297, 0.092699, 0.004309, 0.0002, -0.416147, 0.995694, 0.999991, 1.0]  # fmt: skip
    assert sinusoids(3, 8)[1:].flatten().tolist() == pytest.approx(narrow, abs=1e-6)


def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    model = Transformer(params("wmt", width=256, num_heads=4, feed_forward_width=256, num_layers=1, vocab_size=1000))
    first = model.encoder[0]

    weight = cast("Tensor", first.attention.qkv.weight)  # type: ignore[union-attr]
    bias = cast("Tensor", first.feed_forward.inner.bias)  # type: ignore[union-attr]
    assert float(weight.detach().abs().max()) == pytest.approx((6 / 1024) ** 0.5, rel=1e-3)
    assert float(model.embedding.weight.detach().std()) == pytest.approx(1, rel=0.01)
    assert float(bias.detach().std()) == pytest.approx(1e-6, rel=0.2)


FIGURES = {
    "wmt": ([3.57650, -0.68724, 0.01930, 1.95606], [0.32311, 0.63748, 0.18835, 2.25420], 4.92484, 4.90530),
    "wmt_post_ln": ([2.00085, -0.67198, 0.41714, 1.34106], [0.48215, 0.10836, 0.54528, 1.77914], 4.55439, 4.57057),
    "wmt_attention_temp": ([3.25812, -0.82338, 0.04126, 1.48367],
                           [0.77113, 0.98565, 0.51619, 2.75014], 4.87619, 4.86065),
    "wmt_glu_tanh": ([4.51697, -0.40529, 0.01180, 2.05314], [0.29192, 0.93641, 0.32862, 3.17326], 4.81351, 4.81851),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_losses_are_those_of_the_specification(variant: str) -> None:
    model = with_formula_weights(Transformer(params(variant, **SMALL)))
    first, last, loss, smoothed = FIGURES[variant]

    logits = logits_of(model, SOURCES, TARGETS, 6)

    assert logits[0, 0, :4].tolist() == pytest.approx(first, abs=2e-5)
    assert logits[1, 5, :4].tolist() == pytest.approx(last, abs=2e-5)
    targets = side(TARGETS, 6)
    batch = {"target_ids": targets.ids}
    for smoothing, expected in ((0.0, loss), (0.1, smoothed)):
        losses = _cross_entropy(logits, batch, label_smoothing=smoothing)[targets.segments > 0]
        assert len(losses) == 9
        assert float(losses.mean()) == pytest.approx(expected, abs=2e-5)


def test_cross_entropy_is_that_of_the_specification() -> None:
    logits = torch.tensor([[[2.0, 1.0, 0.0, -1.0]]])
    batch = {"target_ids": torch.tensor([[0]])}

    for smoothing, expected in ((0.0, 0.440190), (0.1, 0.590190), (0.2, 0.740190)):
        assert float(_cross_entropy(logits, batch, label_smoothing=smoothing)) == pytest.approx(expected, abs=1e-6)


def test_a_packed_sentence_has_the_logits_that_it_has_alone() -> None:
    model = with_formula_weights(Transformer(params("wmt", **SMALL)))

    packed = logits_of(model, [[[5, 6, 7, 2], [9, 10, 2]]], [[[8, 9, 2], [14, 15, 2]]], 8)
    alone = logits_of(model, [[[9, 10, 2]]], [[[14, 15, 2]]], 8)

    assert packed[0, 3, :4].tolist() == pytest.approx([2.65571, -0.04181, -0.16354, 2.51093], abs=2e-5)
    assert packed[0, 4, :4].tolist() == pytest.approx([0.33001, -0.21912, -0.65055, 2.29288], abs=2e-5)
    assert torch.allclose(packed[0, 3:6], alone[0, :3], atol=1e-5)


def test_the_published_form_lets_a_packed_sentence_see_the_end_of_the_one_before() -> None:
    model = with_formula_weights(Transformer(params("wmt", **SMALL, as_published=True)))

    packed = logits_of(model, [[[5, 6, 7, 2], [9, 10, 2]]], [[[8, 9, 2], [14, 15, 2]]], 8)

    assert packed[0, 3, :4].tolist() == pytest.approx([0.05612, 1.09493, 2.27039, 0.92920], abs=2e-5)
    assert packed[0, 4, :4].tolist() == pytest.approx([-0.13306, 0.16932, -0.07793, 1.31483], abs=2e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_changes_nothing_and_gives_no_nan(variant: str) -> None:
    model = with_formula_weights(Transformer(params(variant, **SMALL)))

    short, long = (logits_of(model, SOURCES, TARGETS, n) for n in (6, 16))

    assert torch.allclose(short[0, :3], long[0, :3], atol=1e-5)
    assert torch.allclose(short[1], long[1, :6], atol=1e-5)
    assert not long.isnan().any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_of_one_beam_give_the_logits_of_the_whole_sequence(variant: str) -> None:
    model = with_formula_weights(Transformer(params(variant, **SMALL))).double()
    whole = logits_of(model, SOURCES, TARGETS, 6)
    sources = side(SOURCES, 6)
    memory = cast("tuple[KeysValues, ...]", model(sources))
    b, heads, _, channels = memory[0].keys.shape
    cache = tuple(KeysValues(*(layer.keys.new_zeros(b, heads, 16, channels) for _ in range(2))) for layer in memory)
    inputs = torch.tensor([[0, *TARGETS[0][0][:2], 0, 0, 0], [0, *TARGETS[1][0][:5]]])

    with torch.no_grad():
        for index in range(6):
            step = Step(
                inputs[:, index : index + 1],
                torch.tensor(index),
                torch.zeros(b, 1, 16, dtype=torch.int64),
                memory,
                sources.segments > 0,
                cache,
            )
            logits = cast("Tensor", model(step))[:, 0]
            rows = [0, 1] if index < 3 else [1]
            assert torch.allclose(logits[rows], whole[rows, index], atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_training_step_and_one_evaluation_at_full_size(variant: str) -> None:
    torch.manual_seed(0)
    model = Transformer(params(variant)).train()
    generator = np.random.Generator(np.random.PCG64(1))
    rows = [
        [generator.integers(3, 32_000, size=length).tolist() for length in lengths] for lengths in ((9, 200), (64,))
    ]
    batch = {
        f"{name}_{part}": tensor
        for name in ("source", "target")
        for part, tensor in zip(("ids", "positions", "segments"), side(rows, 256), strict=True)
    }
    workload = cast("WmtWorkload", None)  # the loss needs no data

    sums = WmtWorkload.loss(workload, model, batch)
    (sums.summed / sums.num_valid).backward()
    gradients = [p.grad for p in model.parameters()]
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    with torch.no_grad():
        after = WmtWorkload.loss(workload, model.eval(), batch)

    before_mean = float(sums.summed.detach() / sums.num_valid)
    assert float(sums.num_valid) == 273
    assert 10.4 < before_mean < 17, "above ln 32,000: through the one table an untrained model expects the last token"
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    assert float(after.summed / after.num_valid) < before_mean
