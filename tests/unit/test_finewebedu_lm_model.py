"""The language model against the figures of its specification, and its loss in chunks against the plain one."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch.nn import functional

from perfbench.api.workload import ParameterRole
from perfbench.compose import compose_workload
from perfbench.workloads.finewebedu_lm.model import (
    Attention,
    LanguageModel,
    chunked_cross_entropy,
    rotary_angles,
    rotated,
)
from perfbench.workloads.finewebedu_lm.params import Params
from perfbench.workloads.finewebedu_lm.workload import LanguageModelling

VARIANTS = (
    "finewebedu_lm",
    "finewebedu_lm_gelu_layernorm",
    "finewebedu_lm_no_qk_norm",
    "finewebedu_lm_untied",
)
FULL_COUNTS = dict(zip(VARIANTS, (252_815_372, 203_557_900, 252_815_360, 304_278_540), strict=True))
MINI_COUNTS = dict(zip(VARIANTS, (393_858, 345_346, 393_856, 459_394), strict=True))
NUM_TENSORS = dict(zip(VARIANTS, (86, 112, 74, 87), strict=True))

TINY: dict[str, Any] = {
    "vocab_size": 97, "width": 64, "num_heads": 4, "num_layers": 2, "feed_forward_width": 128, "row_length": 32,
}  # fmt: skip
GRADIENT_NORMS = [
    2.84944131, 1.32687568e-4, 2.49385040, 1.13936891, 0.121448188, 1.04246033, 1.03528386, 0.0573260063,
    2.75059562e-3, 0.934873703, 0.515092436, 0.0369229460, 0.586466980, 0.584740338, 0.0315429743, 0.0528748334,
]  # fmt: skip


def params(variant: str = "finewebedu_lm", *, scale: str = "full", **changes: Any) -> Params:
    spec = compose_workload(variant, scale=scale)
    return Params.from_mapping(spec.params | changes)


def with_drawn_weights(model: LanguageModel) -> LanguageModel:
    """Set the weights that the specification's figures belong to; the scales keep what they start with."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            drawn = np.random.RandomState(number).standard_normal(tuple(parameter.shape))
            if parameter.ndim:
                parameter.copy_(torch.as_tensor(0.05 * drawn if parameter.ndim > 1 else 1 + 0.1 * drawn))
    return model


def tiny(*, as_published: bool = True, dtype: torch.dtype = torch.float64) -> LanguageModel:
    return with_drawn_weights(LanguageModel(params(**TINY, as_published=as_published)).to(dtype))


def tiny_rows() -> Tensor:
    places = torch.arange(66)
    return ((7 * places**2 + 3 * places + 5) % 97).view(2, 33)


@pytest.mark.parametrize("variant", VARIANTS)
def test_models_have_so_many_parameters(variant: str) -> None:
    with torch.device("meta"):
        full, mini = (LanguageModel(params(variant, scale=scale)) for scale in ("full", "mini"))

    assert len(list(full.parameters())) == NUM_TENSORS[variant]
    assert sum(p.numel() for p in full.parameters()) == FULL_COUNTS[variant]
    assert sum(p.numel() for p in mini.parameters()) == MINI_COUNTS[variant]


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = LanguageModel(params())
    block: dict[str, tuple[int, ...]] = {
        "attn.attn_scale": (),
        "attn.w_qkv.weight": (3072, 1024),
        "attn.w_out.weight": (1024, 1024),
        "attn_norm.weight": (1024,),
        "mlp.fc1.weight": (8192, 1024),
        "mlp.fc2.weight": (1024, 4096),
        "mlp_norm.weight": (1024,),
    }

    expected: list[tuple[str, tuple[int, ...]]] = [("embed_tokens.weight", (50257, 1024))]
    expected += [(f"layers.{layer}.{name}", shape) for layer in range(12) for name, shape in block.items()]
    expected += [("out_norm.weight", (1024,))]

    assert [(name, tuple(p.shape)) for name, p in model.named_parameters()] == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_role_has_so_many_numbers(variant: str) -> None:
    with torch.device("meta"):
        model = LanguageModel(params(variant))
    roles = LanguageModelling.parameter_roles(cast("LanguageModelling", None), model)

    counts: dict[ParameterRole, int] = {}
    for name, parameter in model.named_parameters():
        counts[roles[name]] = counts.get(roles[name], 0) + parameter.numel()

    is_plain, is_untied = variant.endswith("layernorm"), variant.endswith("untied")
    weights = 100_663_296 if is_plain else 150_994_944
    assert counts == {
        ParameterRole.EMBEDDING: 51_463_168 + (1_048_576 if is_plain else 0),
        ParameterRole.ATTENTION_QKV: 37_748_736,
        ParameterRole.ATTENTION_OUT: 12_582_912,
        ParameterRole.WEIGHT: weights + (0 if "no_qk" in variant else 12) + (51_463_168 if is_untied else 0),
        ParameterRole.LAYER_NORM_SCALE: 25_600,
    } | ({ParameterRole.LAYER_NORM_BIAS: 25_600} if is_plain else {})


def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    model = LanguageModel(params(num_layers=2, vocab_size=5000, width=256))
    first = cast("Any", model.layers[0])

    for weight in (model.embed_tokens.weight, first.attn.w_qkv.weight, first.mlp.fc1.weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=5e-3)
    for weight in (first.attn.w_out.weight, first.mlp.fc2.weight):
        assert float(weight.detach().std()) == pytest.approx(0.01, rel=1e-2), "0.02 / sqrt(2 x 2 layers)"
    assert float(first.attn.attn_scale) == pytest.approx(19.998590, abs=1e-6)
    assert torch.equal(cast("Tensor", model.out_norm.weight), torch.ones(256))


@pytest.mark.parametrize(
    ("dtype", "total", "absolute", "mean_loss", "smoothed", "norm", "tolerance"),
    [
        (torch.float32, 83.473345, 1986.203100, 4.65947866, 4.65899420, 4.43211839, 2e-6),
        (torch.float64, 83.473356, 1986.203060, 4.65947876, 4.65899445, 4.43211854, 2e-7),
    ],
)
def test_a_tiny_model_gives_the_figures_of_the_specification(
    dtype: torch.dtype,
    total: float,
    absolute: float,
    mean_loss: float,
    smoothed: float,
    norm: float,
    tolerance: float,
) -> None:
    model, rows = tiny(dtype=dtype), tiny_rows()
    inputs, targets = rows[:, :32], rows[:, 1:]

    logits = model(inputs)
    loss = model(inputs, targets).mean()
    loss.backward()

    assert sum(p.numel() for p in model.parameters()) == 137_602
    assert float(logits.sum()) == pytest.approx(total, rel=tolerance)
    assert float(logits.abs().sum()) == pytest.approx(absolute, rel=tolerance)
    assert float(logits.square().mean()) == pytest.approx(0.16073203, rel=1e-6)
    assert logits[0, 0, :5].tolist() == pytest.approx(
        [-0.3291200, 0.7581134, 0.0261978, -0.4992307, -0.4811276], abs=5e-7
    )
    assert logits[1, 31, :5].tolist() == pytest.approx(
        [-0.2415912, 0.4213763, -0.0668580, 0.1086867, 0.0562606], abs=5e-7
    )
    assert float(loss) == pytest.approx(mean_loss, rel=tolerance)
    assert float(model(inputs, targets, label_smoothing=0.1).mean()) == pytest.approx(smoothed, rel=tolerance)
    norms = [float(cast("Tensor", p.grad).norm()) for p in model.parameters()]
    assert math.hypot(*norms) == pytest.approx(norm, rel=tolerance)
    assert norms == pytest.approx(GRADIENT_NORMS, rel=2e-5 if dtype == torch.float64 else 1e-4)


def test_the_right_small_number_moves_logits_by_less_than_2e_5_and_a_zero_query_is_no_fault() -> None:
    inputs = tiny_rows()[:, :32]
    published, right = tiny(as_published=True), tiny(as_published=False)

    assert 1e-7 < float((published(inputs) - right(inputs)).abs().max()) < 2e-5
    for model, is_number in ((published, False), (right, True)):
        with torch.no_grad():
            cast("Attention", cast("Any", model.layers[0]).attn).w_qkv.weight[:64] = 0  # all queries
        assert bool(model(inputs).isfinite().all()) is is_number
    right(inputs).sum().backward()
    assert all(cast("Tensor", p.grad).isfinite().all() for p in right.parameters())


def test_no_position_sees_a_later_one() -> None:
    model, inputs = tiny(), tiny_rows()[:, :32]

    whole, half = model(inputs), model(inputs[:, :16])

    torch.testing.assert_close(whole[:, :16], half, rtol=0, atol=1e-14)


def test_rotating_gives_scores_that_know_distances_only() -> None:
    angles = rotary_angles(64, 8)
    query, key = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def score(first: int, second: int) -> float:
        sides = [rotated(x, angles[place].cos(), angles[place].sin()) for x, place in ((query, first), (key, second))]
        return float(sides[0] @ sides[1])

    assert score(5, 2) == pytest.approx(score(63, 60), abs=1e-12)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-3)
    turned = rotated(torch.tensor([1.0, 0.0, 1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert turned.tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk_tokens", [7, 16, 100])
def test_the_loss_in_chunks_is_the_plain_loss_and_so_is_its_gradient(chunk_tokens: int, label_smoothing: float) -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, table = (torch.randn(n, 8, generator=generator, dtype=torch.float64).requires_grad_() for n in (32, 97))
    targets = torch.randint(97, (32,), generator=generator)
    weights = torch.rand(32, generator=generator, dtype=torch.float64)

    logits = functional.linear(hidden, table)
    plain = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    expected = torch.autograd.grad((plain * weights).sum(), (hidden, table))
    losses = chunked_cross_entropy(hidden, table, targets, label_smoothing=label_smoothing, chunk_tokens=chunk_tokens)
    found = torch.autograd.grad((losses * weights).sum(), (hidden, table))

    torch.testing.assert_close(losses, plain, rtol=0, atol=1e-12)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_what_is_kept_for_the_gradient_holds_no_logits() -> None:
    hidden, table = torch.randn(64, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    targets = torch.zeros(64, dtype=torch.int64)
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        chunked_cross_entropy(hidden, table, targets, label_smoothing=0.0, chunk_tokens=16)

    assert max(kept, default=0) <= table.numel() < 16 * 1000


def test_a_compiled_loss_in_chunks_keeps_no_logits_either() -> None:
    torch._dynamo.reset()
    kept: list[int] = []

    def note(graph: torch.fx.GraphModule, _inputs: object) -> Any:
        outputs = next(node for node in graph.graph.nodes if node.op == "output").args[0]
        kept.extend(output.meta["val"].numel() for output in outputs if isinstance(output, torch.fx.Node))
        return make_boxed_func(graph.forward)

    backend = aot_autograd(
        fw_compiler=note,
        bw_compiler=lambda graph, _inputs: make_boxed_func(graph.forward),
        partition_fn=min_cut_rematerialization_partition,  # as inductor does
    )
    loss = torch.compile(partial(chunked_cross_entropy, label_smoothing=0.1), backend=backend, fullgraph=True)
    hidden, table = torch.randn(64, 8, requires_grad=True), torch.randn(1000, 8, requires_grad=True)
    targets = torch.zeros(64, dtype=torch.int64)

    loss(hidden, table, targets, chunk_tokens=16).sum().backward()
    assert 0 < max(kept) <= table.numel() < 16 * 1000
    loss(hidden, table, targets, chunk_tokens=64).sum().backward()
    assert max(kept) == 64 * 1000, "the plain loss keeps them, so that this test would see it"


@pytest.mark.slow
def test_the_loss_in_chunks_compiles_into_one_graph_of_the_same_numbers() -> None:
    torch._dynamo.reset()
    model, rows = tiny(dtype=torch.float32), tiny_rows()
    in_chunks = LanguageModel(params(**TINY, as_published=True, loss_chunk_tokens=16))
    in_chunks.load_state_dict(model.state_dict())
    compiled = cast("nn.Module", torch.compile(in_chunks, fullgraph=True, dynamic=False, backend="aot_eager"))

    for either in (model, compiled):
        either(rows[:, :32], rows[:, 1:], label_smoothing=0.1).sum().backward()

    for ours, theirs in zip(in_chunks.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=5e-5)


@pytest.mark.slow
def test_the_full_model_gives_the_figures_of_the_specification() -> None:
    with torch.random.fork_rng():
        model = with_drawn_weights(LanguageModel(params(as_published=True)))
    places = torch.arange(129)
    ids = (7 * places**2 + 3 * places + 5) % 50257
    inputs, targets = ids[None, :128], ids[None, 1:]

    with torch.no_grad():
        logits = model(inputs)
    loss = model(inputs, targets).mean()
    loss.backward()
    norms = {name: float(cast("Tensor", p.grad).double().norm()) for name, p in model.named_parameters()}

    assert ids[:6].tolist() == [5, 15, 39, 77, 129, 195]
    assert float(logits.sum(dtype=torch.float64)) == pytest.approx(-20444.45, abs=0.5)
    assert float(logits.abs().sum(dtype=torch.float64)) == pytest.approx(8232174.9, abs=5)
    assert float(logits.square().mean()) == pytest.approx(2.572299, rel=1e-5)
    assert logits[0, 0, :5].tolist() == pytest.approx(
        [0.1567824, -1.3464003, -0.1689043, -0.0013920, -1.5242467], abs=5e-5
    )
    assert logits[0, 127, :5].tolist() == pytest.approx(
        [0.7529523, -0.6811422, 2.7538002, 3.5483186, 1.4550949], abs=5e-5
    )
    assert float(loss) == pytest.approx(11.869910, abs=1e-5)
    assert float(model(inputs, targets, label_smoothing=0.1).mean()) == pytest.approx(11.893730, abs=1e-5)
    assert math.hypot(*norms.values()) == pytest.approx(17.582557, rel=1e-5)
    first = {"attn.attn_scale": 0.01322500, "attn.w_qkv.weight": 9.317213, "attn.w_out.weight": 4.820097,
             "attn_norm.weight": 0.4799489, "mlp.fc1.weight": 4.479209, "mlp.fc2.weight": 4.029645,
             "mlp_norm.weight": 0.2300816}  # fmt: skip
    expected = {"embed_tokens.weight": 9.741018, "out_norm.weight": 0.1550657}
    expected |= {f"layers.0.{name}": norm for name, norm in first.items()}
    assert {name: norms[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_the_untrained_model_knows_next_to_nothing() -> None:
    torch.manual_seed(0)
    model = LanguageModel(params("finewebedu_lm", num_layers=1))
    ids = torch.randint(50257, (1, 65))

    with torch.no_grad():
        loss = float(model(ids[:, :-1], ids[:, 1:]).mean())

    assert loss == pytest.approx(11.0126, abs=0.1)
