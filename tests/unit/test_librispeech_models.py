"""Both families' models against the figures that the reference gave, layer by layer and whole."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perfbench.api.workload import ParameterRole
from perfbench.compose import compose_workload
from perfbench.data.speech.ctc import ctc_losses
from perfbench.data.speech.layers import LayerNorm, MaskedBatchNorm
from perfbench.errors import ConfigError
from perfbench.workloads.librispeech_conformer import model as conformer
from perfbench.workloads.librispeech_conformer.params import Params as ConformerParams
from perfbench.workloads.librispeech_conformer.workload import ConformerWorkload
from perfbench.workloads.librispeech_deepspeech.model import DeepSpeech
from perfbench.workloads.librispeech_deepspeech.params import Params as DeepSpeechParams
from perfbench.workloads.librispeech_deepspeech.workload import DeepSpeechWorkload

VARIANTS = [
    *(f"librispeech_conformer{suffix}" for suffix in ("", "_attention_temperature", "_layernorm", "_gelu")),
    *(f"librispeech_deepspeech{suffix}" for suffix in ("", "_tanh", "_no_resnet", "_norm_and_spec_aug")),
]
TINY = {
    "librispeech_conformer": {"width": 16, "num_heads": 2, "num_blocks": 1},
    "librispeech_deepspeech": {"width": 16, "num_recurrent": 1, "num_feed_forward": 1},
}

NUM_SAMPLES = 24_320
"""Of the check signal: 150 frames, 38 after subsampling."""


class Figures(NamedTuple):
    parameters: int
    eval_first: list[float]
    eval_last: list[float]
    eval_square: float
    train_first: list[float]
    train_square: float
    losses: list[float]
    loss: float
    grad_norm: float


FIGURES = dict(
    zip(
        VARIANTS,
        [
            Figures(14_224, [-0.62128, -0.73769, -0.75737, -0.67748], [-0.74727, -0.76639, -0.68503, -0.51354], 32.152,
                    [-0.69109, -0.83955, -0.87798, -0.80111], 39.978, [64.9599, 40.1149], 15.01069, 14.45986),
            Figures(14_224, [-0.86140, -0.86201, -0.74966, -0.53875], [-0.90463, -0.86178, -0.70602, -0.45738], 77.174,
                    [-0.88829, -0.88931, -0.77382, -0.55662], 82.971, [66.1833, 39.5424], 15.10368, 15.16985),
            Figures(14_192, [0.11024, 0.47096, 0.76927, 0.96634], [0.25178, 0.57333, 0.81911, 0.95716], 77.890,
                    [0.04197, 0.45058, 0.79943, 1.04312], 89.765, [58.9717, 40.6133], 14.22643, 20.51638),
            Figures(14_224, [-0.63752, -0.75851, -0.78006, -0.69907], [-0.74520, -0.76426, -0.68311, -0.51209], 32.343,
                    [-0.73501, -0.88867, -0.92591, -0.84158], 42.072, [65.0763, 40.0729], 15.02132, 14.31439),
            Figures(9_784, [-1.28179, -0.98117, -0.55159, -0.04909], [-0.37273, -0.43671, -0.44276, -0.39009], 19.149,
                    [-0.68323, -0.07014, 0.55306, 1.10507], 37.046, [61.5935, 41.1702], 14.68054, 45.83928),
            Figures(9_784, [-1.91701, -1.56208, -1.00239, -0.31098], [-1.95897, -1.74242, -1.29759, -0.68252], 983.425,
                    [2.07691, 1.66852, 1.04340, 0.28313], 913.702, [65.3220, 33.7428], 14.15212, 160.26005),
            Figures(9_784, [-1.81858, -1.19206, -0.40907, 0.42826], [-2.13202, -1.73807, -1.11642, -0.34816], 1242.695,
                    [-1.01807, -0.23289, 0.58363, 1.32497], 1245.691, [60.5530, 36.1033], 13.80805, 22.65849),
            Figures(9_752, [0.75345, 0.82866, 0.79520, 0.65775], [-0.77589, -0.43411, -0.03626, 0.36608], 19.425,
                    [0.75345, 0.82866, 0.79520, 0.65775], 19.425, [56.4901, 38.4031], 13.55617, 125.01194),
        ],
        strict=True,
    )
)  # fmt: skip
"""AlgoPerf's own modules at width 16 with planted weights (specifications, sections 12 and 11)."""


def build(name: str, scale: str, **changes: Any) -> nn.Module:
    spec = compose_workload(name, scale=scale)
    if spec.family == "librispeech_conformer":
        return conformer.Conformer(ConformerParams.from_mapping(spec.params | changes))
    return DeepSpeech(DeepSpeechParams.from_mapping(spec.params | changes))


def roles_of(name: str, model: nn.Module) -> dict[str, ParameterRole]:
    if "conformer" in name:
        return ConformerWorkload.parameter_roles(object.__new__(ConformerWorkload), model)
    return DeepSpeechWorkload.parameter_roles(object.__new__(DeepSpeechWorkload), model)


def tiny(name: str) -> nn.Module:
    sizes = TINY[compose_workload(name, scale="mini").family]
    quiet = {"time_masks": 0, "frequency_masks": 0, "dropout_rate": 0.0, "num_pieces": 8, "max_samples": NUM_SAMPLES}
    model = build(name, "mini", **sizes, **quiet)
    for number, parameter in enumerate(model.parameters()):
        flat = torch.arange(parameter.numel(), dtype=torch.float64)
        with torch.no_grad():
            parameter.copy_((0.2 * torch.sin(0.37 * flat + number)).reshape(parameter.shape))
    return model


def check_signal() -> tuple[Tensor, Tensor]:
    n = np.arange(NUM_SAMPLES)
    wave = 8000 * np.sin(2 * np.pi * 440 * n / 16000) + 4000 * np.sin(2 * np.pi * 3000 * n / 16000)
    audio = np.zeros((2, NUM_SAMPLES), dtype=np.int16)
    audio[0] = np.round(wave)
    audio[1, :16_000] = audio[0, 1_000:17_000]
    return torch.from_numpy(audio), torch.tensor([NUM_SAMPLES, 16_000], dtype=torch.int32)


def square(logits: Tensor) -> float:
    return float(logits[0].square().sum() + logits[1, :25].square().sum())


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_losses_and_gradients_are_those_of_the_reference(name: str) -> None:
    model, figures, batch = tiny(name), FIGURES[name], check_signal()

    with torch.no_grad():
        evaluated = model.eval()(*batch)
    trained = model.train()(*batch)
    losses = ctc_losses(
        trained, torch.tensor([[3, 4, 5, 2], [6, 6, 2, 0]]), torch.tensor([38, 25]), torch.tensor([4, 3])
    )
    (losses.sum() / 7).backward()

    assert sum(parameter.numel() for parameter in model.parameters()) == figures.parameters
    assert evaluated[0, 0, :4].tolist() == pytest.approx(figures.eval_first, abs=1e-4)
    assert evaluated[1, 24, :4].tolist() == pytest.approx(figures.eval_last, abs=1e-4)
    assert square(evaluated) == pytest.approx(figures.eval_square, rel=1e-4)
    assert trained[0, 0, :4].tolist() == pytest.approx(figures.train_first, abs=1e-4)
    assert square(trained.detach()) == pytest.approx(figures.train_square, rel=1e-4)
    assert losses.tolist() == pytest.approx(figures.losses, rel=1e-4)
    assert float(losses.detach().sum()) / 7 == pytest.approx(figures.loss, rel=1e-4)
    norm = torch.stack([p.grad.square().sum() for p in model.parameters() if p.grad is not None]).sum().sqrt()
    assert float(norm) == pytest.approx(figures.grad_norm, rel=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_more_padding_changes_nothing(name: str) -> None:
    """A third, silent example and half a second of silence: logits, statistics and gradients stay as they were."""
    audio, num_samples = check_signal()[0], torch.tensor([23_000, 16_000], dtype=torch.int32)
    more = torch.zeros(3, NUM_SAMPLES + 7_680, dtype=torch.int16)
    more[:2, :NUM_SAMPLES] = audio
    models = [tiny(name).train(), tiny(name).train()]
    if "conformer" in name:
        # longer input, longer table
        models[1].register_buffer("positions", conformer.positions(50, 16), persistent=False)

    plain = models[0](audio, num_samples)
    padded = models[1](more, torch.cat([num_samples, torch.zeros(1, dtype=torch.int32)]))
    for logits in (plain, padded):
        (logits[0, :36].square().sum() + logits[1, :25].square().sum()).backward()

    assert torch.allclose(padded[0, :36], plain[0, :36], atol=1e-5)
    assert torch.allclose(padded[1, :25], plain[1, :25], atol=1e-5)
    assert bool(padded.isfinite().all())
    for (buffer_name, one), other in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), buffer_name
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [
        ("librispeech_conformer", 32_321_792, 138),
        ("librispeech_conformer_attention_temperature", 32_321_792, 138),
        ("librispeech_conformer_gelu", 32_321_792, 138),
        ("librispeech_conformer_layernorm", 32_317_696, 130),
        ("librispeech_deepspeech", 18_393_600, 82),
        ("librispeech_deepspeech_tanh", 18_393_600, 82),
        ("librispeech_deepspeech_no_resnet", 18_393_600, 82),
        ("librispeech_deepspeech_norm_and_spec_aug", 18_392_576, 80),
    ],
)
def test_full_models_have_the_published_parameters(name: str, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        found = list(build(name, "full").parameters())

    assert (sum(parameter.numel() for parameter in found), len(found)) == (parameters, tensors)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (
            "librispeech_conformer",
            {"weight": 22, "bias": 32, "conv_weight": 18, "layer_norm_scale": 21, "layer_norm_bias": 21,
             "attention_qkv": 4, "attention_out": 4, "attention_bias": 8, "batch_norm_scale": 4, "batch_norm_bias": 4},
        ),
        (
            "librispeech_deepspeech",
            {"conv_weight": 2, "weight": 29, "bias": 31, "batch_norm_scale": 9, "batch_norm_bias": 9,
             "layer_norm_scale": 1, "layer_norm_bias": 1},
        ),
        (
            "librispeech_deepspeech_norm_and_spec_aug",
            {"conv_weight": 2, "weight": 29, "bias": 31, "layer_norm_scale": 9, "layer_norm_bias": 9},
        ),
    ],
)  # fmt: skip
def test_full_models_have_the_published_roles(name: str, counts: dict[str, int]) -> None:
    with torch.device("meta"):
        model = build(name, "full")

    assert Counter(role.value for role in roles_of(name, model).values()) == counts


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        (
            "librispeech_conformer",
            {"weight": 22_544_640, "conv_weight": 5_519_872, "attention_qkv": 3_145_728, "attention_out": 1_048_576,
             "bias": 29_184},
        ),
        ("librispeech_deepspeech", {"weight": 15_990_784, "conv_weight": 2_363_904, "bias": 28_672}),
    ],
)  # fmt: skip
def test_roles_of_full_models_have_the_published_elements(name: str, elements: dict[str, int]) -> None:
    with torch.device("meta"):
        model = build(name, "full")

    found: Counter[str] = Counter()
    for parameter, role in roles_of(name, model).items():
        found[role.value] += model.get_parameter(parameter).numel()
    assert {role: found[role] for role in elements} == elements


def test_initial_weights_of_a_conformer_block_have_the_published_bounds() -> None:
    torch.manual_seed(0)
    model = build("librispeech_conformer", "full", num_blocks=1)
    shapes = {(2048, 512): 0.04841, (1536, 512): 0.05413, (512, 1, 5): 0.04837, (1024, 512): 0.06250}
    found = {tuple(p.shape): float(p.detach().abs().max()) for p in model.parameters() if tuple(p.shape) in shapes}

    assert found == {shape: pytest.approx(bound, rel=0.01) for shape, bound in shapes.items()}


def test_initial_weights_have_the_published_bounds() -> None:
    torch.manual_seed(0)
    model = build("librispeech_deepspeech", "full", num_recurrent=1, num_feed_forward=1)
    bounds = {"subsample.conv1.weight": 0.03604, "subsample.conv2.weight": 0.02552, "subsample.linear.weight": 0.02362,
              "ffns.0.lin.weight": 0.07655, "lin.weight": 0.06250, "lstms.0.lstm.back.bias_hh": 0.0625}  # fmt: skip

    for name, bound in bounds.items():
        assert float(model.get_parameter(name).detach().abs().max()) == pytest.approx(bound, rel=0.01), name
    assert float(model.get_parameter("lin.bias").detach().abs().max()) == 0.0


def test_layer_norm_of_a_small_vector() -> None:
    assert LayerNorm(4)(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == pytest.approx(
        [-1.341640, -0.447214, 0.447214, 1.341640], abs=1e-6
    )


def test_batch_norm_sees_valid_frames_only() -> None:
    norm = MaskedBatchNorm(2, momentum=0.001, group_examples=None).train()
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])

    out = norm(x, torch.tensor([[True, True, False]]))

    assert out[0].tolist() == [pytest.approx([-0.9995004] * 2), pytest.approx([0.9995004] * 2), [0.0, 0.0]]
    assert norm.running_mean.tolist() == pytest.approx([0.002, 0.003])
    assert norm.running_variance.tolist() == pytest.approx([1.0, 1.0])


def test_batch_norm_in_groups_is_batch_norm_of_each_group() -> None:
    torch.manual_seed(0)
    x, valid = torch.randn(6, 5, 3), torch.rand(6, 5) < 0.7
    grouped = MaskedBatchNorm(3, momentum=0.1, group_examples=2).train()
    alone = [MaskedBatchNorm(3, momentum=0.1, group_examples=None).train() for _ in range(3)]

    out = grouped(x, valid)

    expected = [norm(x[2 * i : 2 * i + 2], valid[2 * i : 2 * i + 2]) for i, norm in enumerate(alone)]
    assert torch.allclose(out, torch.cat(expected), atol=1e-6)
    assert torch.allclose(grouped.running_mean, torch.stack([norm.running_mean for norm in alone]).mean(0), atol=1e-6)


@pytest.mark.parametrize("num_examples", [1, 5])
def test_batch_norm_in_groups_evaluates_a_batch_of_any_size(num_examples: int) -> None:
    """A rank's part of an evaluation batch, or of a picture, need not be a multiple of the group."""
    torch.manual_seed(0)
    x, valid = torch.randn(num_examples, 4, 3), torch.ones(num_examples, 4, dtype=torch.bool)
    grouped = MaskedBatchNorm(3, momentum=0.1, group_examples=32).eval()

    assert torch.equal(grouped(x, valid), MaskedBatchNorm(3, momentum=0.1, group_examples=None).eval()(x, valid))


def test_positions_of_the_full_model() -> None:
    table = conformer.positions(500, 512)

    assert table[1, [0, 1, 255, 256, 257, 511]].tolist() == pytest.approx(
        [0.841471, 0.821779, 0.0001, 0.540302, 0.569807, 1.0], abs=1e-6
    )
    assert table[499, [0, 1, 255, 256, 257, 511]].tolist() == pytest.approx(
        [0.490995, -0.592833, 0.049879, -0.871162, -0.805325, 0.998755], abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_one_full_size_step_in_one_graph(name: str) -> None:
    spec = compose_workload(name, scale="full")
    model = (
        build(name, "full", batch_norm_examples=None, num_blocks=1)
        if "conformer" in name
        else build(name, "full", num_recurrent=1)
    )

    def loss(audio: Tensor, num_samples: Tensor, labels: Tensor) -> Tensor:
        return ctc_losses(model(audio, num_samples), labels, torch.tensor([400]), torch.tensor([60])).sum()

    compiled = torch.compile(loss, fullgraph=True, dynamic=False, backend="aot_eager")
    audio = torch.randint(-3000, 3000, (1, spec.params["max_samples"]), dtype=torch.int16)  # type: ignore[arg-type]
    value = compiled(audio, torch.tensor([255_000]), torch.randint(1, 1024, (1, 256)))
    value.backward()

    assert bool(value.isfinite())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "librispeech_conformer",
            {"max_samples": 24_000},
            r"give 148 frames; the number must leave 2 when divided by 4",
        ),
        ("librispeech_conformer", {"width": 50}, r"width 50 must be even and a multiple of num_heads 4"),
        ("librispeech_conformer", {"kernel_frames": 4}, r"kernel_frames 4 must be odd"),
        ("librispeech_deepspeech", {"width": 47}, r"width 47 must be even"),
        ("librispeech_deepspeech", {"archive_utterances": {}}, r"archive_utterances needs the folders train-clean-100"),
    ],
)
def test_impossible_parameters_are_named(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, "mini", **changes)


def test_full_scale_shapes_are_the_published_ones() -> None:
    params = ConformerParams.from_mapping(compose_workload("librispeech_conformer", scale="full").params)

    assert (params.num_frames, params.num_encoder_frames) == (1998, 500)
