"""Targets, budgets and sizes of every workload at full scale are the published ones.

Source: the numbers of AlgoPerf's first competition (version 0.5), as the specification of each workload gives them.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from perfbench.compose import compose_workload
from perfbench.config_files import choices
from perfbench.spec.workload import TargetKind


class Budget(NamedTuple):
    seconds: float
    steps: int
    period_s: float
    eval_batch_size: int


LANGUAGE = Budget(31_967, 72_000, 2_571, 256)
CRITEO = Budget(7_703, 10_666, 120, 131_072)
FASTMRI = Budget(8_859, 36_189, 80, 256)
RESNET = Budget(63_008, 186_666, 510, 1_024)
VIT = Budget(77_520, 186_666, 420, 2_048)
CONFORMER = Budget(61_068, 80_000, 1_440, 256)
DEEPSPEECH = Budget(55_506, 48_000, 1_440, 256)
MNIST = Budget(60, 7_813, 10, 10_000)
OGBG = Budget(18_477, 80_000, 240, 16_384)
WMT = Budget(48_151, 133_333, 840, 128)

PUBLISHED = {
    "criteo": ("loss", 0.123735, 0.126041, 262_144, CRITEO),
    "criteo_layernorm": ("loss", 0.123757, 0.126152, 262_144, CRITEO),
    "criteo_embed_init": ("loss", 0.129657, 0.131967, 262_144, CRITEO),
    "criteo_resnet": ("loss", 0.12415, 0.12648, 262_144, CRITEO),
    "fastmri": ("ssim", 0.723653, 0.740633, 32, FASTMRI),
    "fastmri_model_size": ("ssim", 0.723559, 0.740726, 32, FASTMRI),
    "fastmri_tanh": ("ssim", 0.717840, 0.734505, 32, FASTMRI),
    "fastmri_layernorm": ("ssim", 0.723284, 0.739996, 32, FASTMRI),
    "finewebedu_lm": ("perplexity", 22.2995, None, 64, LANGUAGE),
    "imagenet_resnet": ("accuracy", 1 - 0.22569, 1 - 0.3440, 1_024, RESNET),
    "imagenet_resnet_silu": ("accuracy", 0.75445, 0.6323, 512, RESNET),
    "imagenet_resnet_gelu": ("accuracy", 0.76765, 0.6519, 512, RESNET),
    "imagenet_resnet_large_bn_init": ("accuracy", 0.76526, 0.6423, 1_024, RESNET),
    "imagenet_vit": ("accuracy", 1 - 0.22691, 1 - 0.3481, 1_024, VIT),
    "imagenet_vit_glu": ("accuracy", 0.75738, 0.6359, 512, VIT),
    "imagenet_vit_post_ln": ("accuracy", 0.75312, 0.6286, 1_024, VIT),
    "imagenet_vit_map": ("accuracy", 0.77113, 0.6523, 1_024, VIT),
    "librispeech_conformer": ("wer_algoperf", 0.085884, 0.052981, 256, CONFORMER),
    "librispeech_conformer_attention_temperature": ("wer_algoperf", 0.109977, 0.068065, 256, CONFORMER),
    "librispeech_conformer_layernorm": ("wer_algoperf", 0.09731, 0.05996, 256, CONFORMER),
    "librispeech_conformer_gelu": ("wer_algoperf", 0.094114, 0.056629, 256, CONFORMER),
    "librispeech_deepspeech": ("wer_algoperf", 0.119936, 0.074143, 256, DEEPSPEECH),
    "librispeech_deepspeech_tanh": ("wer_algoperf", 0.150883, 0.098613, 256, DEEPSPEECH),
    "librispeech_deepspeech_no_resnet": ("wer_algoperf", 0.131564, 0.079297, 256, DEEPSPEECH),
    "librispeech_deepspeech_norm_and_spec_aug": (
        *("wer_algoperf", 0.143420, 0.090976, 256),
        DEEPSPEECH._replace(eval_batch_size=128),
    ),
    "mnist": ("accuracy", 0.97, 0.97, 64, MNIST),
    "ogbg": ("mean_average_precision", 0.28098, 0.268729, 512, OGBG),
    "ogbg_gelu": ("mean_average_precision", 0.27771, 0.262926, 512, OGBG),
    "ogbg_silu": ("mean_average_precision", 0.282178, 0.272144, 512, OGBG),
    "ogbg_model_size": ("mean_average_precision", 0.269446, 0.253051, 512, OGBG),
    "wmt": ("bleu", 30.8491, 30.7219, 128, WMT),
    "wmt_post_ln": ("bleu", 30.0779, 29.8982, 128, WMT),
    "wmt_attention_temp": ("bleu", 29.3379, 29.4143, 128, WMT),
    "wmt_glu_tanh": ("bleu", 29.5779, 29.0515, 128, WMT),
}
"""Metric, validation target, test target, batch size of the baselines, budget. ``ogbg`` is evaluated in half the
published batches, which leaves fewer places empty; the metric does not depend on it. ``finewebedu_lm`` is of version
1.0, which tests nothing."""

OF_OUR_OWN = ("finewebedu_lm_gelu_layernorm", "finewebedu_lm_no_qk_norm", "finewebedu_lm_untied")
"""Variants without published numbers: they have their base's."""

SIZES = {
    "criteo": {"train": 4_195_197_692, "validation": 83_274_637, "test": 95_000_000, "eval_train": 83_361_792},
    "fastmri": {"train": 34_742, "validation": 3_554, "test": 3_581, "eval_train": 3_584},
    "imagenet_resnet": {"train": 1_281_167, "validation": 50_000, "test": 10_000, "eval_train": 50_176},
    "imagenet_vit": {"train": 1_281_167, "validation": 50_000, "test": 10_000, "eval_train": 51_200},
    "librispeech_conformer": {"train": 263_838, "validation": 5_348, "test": 2_472, "eval_train": 5_376},
    "librispeech_deepspeech": {"train": 263_838, "validation": 5_348, "test": 2_472, "eval_train": 5_376},
    "mnist": {"train": 50_000, "validation": 10_000, "test": 10_000, "eval_train": 10_000},
    "ogbg": {"train": 350_343, "validation": 43_793, "test": 43_793, "eval_train": 43_793},
    "wmt": {"train": 5_906_184, "validation": 3_000, "test": 3_003, "eval_train": 3_072},
}


def test_no_workload_is_left_out() -> None:
    assert set(choices("workload")) == {*PUBLISHED, *OF_OUR_OWN}


@pytest.mark.parametrize("name", PUBLISHED)
def test_targets_and_budgets_at_full_scale(name: str) -> None:
    metric, validation, test, batch_size, budget = PUBLISHED[name]
    spec = compose_workload(name, scale="full")

    goes_down = metric in {"loss", "perplexity", "wer_algoperf"}
    splits = {"validation": (spec.targets[TargetKind.SCORED], validation), "test": (spec.test_target, test)}
    for split, (target, threshold) in splits.items():
        if threshold is None:
            assert target is None
            continue
        assert target is not None
        assert target.metric == f"{split}/{metric}"
        assert target.threshold == pytest.approx(threshold, abs=1e-12)
        assert target.direction == ("minimize" if goes_down else "maximize")
    assert spec.reference_batch_size == batch_size
    assert budget == (spec.max_submission_time_s, spec.step_hint, spec.eval_period_s, spec.eval_batch_size)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_at_full_scale(name: str) -> None:
    params = compose_workload(name, scale="full").params

    counts = params.get("expected_examples", params.get("expected_counts"))
    assert isinstance(counts, dict)
    found = {split: counts[split] for split in ("train", "validation", "test")}
    assert found | {"eval_train": params["eval_train_examples"]} == SIZES[name]


def test_what_the_archives_hold_in_all() -> None:
    ogbg, speech = (compose_workload(name, scale="full").params for name in ("ogbg", "librispeech_conformer"))
    counts, utterances = ogbg["expected_counts"], speech["archive_utterances"]
    assert isinstance(counts, dict)
    assert isinstance(utterances, dict)

    assert (counts["atoms"], counts["bonds"]) == (11_373_137, 12_309_186)
    assert sum(int(str(counts[split])) for split in ("train", "validation", "test")) == 437_929
    train = [int(str(count)) for subset, count in utterances.items() if subset.startswith("train")]
    dev = [int(str(count)) for subset, count in utterances.items() if subset.startswith("dev")]
    assert (train, dev, utterances["test-clean"]) == ([28_539, 104_014, 148_688], [2_703, 2_864], 2_620)


def test_documents_and_rows_of_the_language_model() -> None:
    specs = [compose_workload(name, scale="full") for name in ("finewebedu_lm", *OF_OUR_OWN)]

    for params in (spec.params for spec in specs):
        documents = params["expected_documents"]
        assert isinstance(documents, dict)
        assert sum(int(str(count)) for count in documents.values()) == 9_672_101
        assert documents["train"] == 8_704_890
        assert (params["validation_rows"], params["eval_train_rows"], params["row_length"]) == (100_000, 10_000, 1_024)
    assert {str(spec.targets[TargetKind.SCORED].threshold) for spec in specs} == {"22.2995"}
    assert all("never trained at full scale" in spec.targets[TargetKind.SCORED].source for spec in specs[1:])
