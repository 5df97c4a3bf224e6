"""Mixup's figures, and that the small data asks for more than a linear model.

Source of the figures: AlgoPerf imagenet_vit specification, sections 1 and 7.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.data.classification import softmax_loss
from perfbench.data.images.mixup import mixed
from perfbench.data.images.transforms import normalised
from perfbench.launch.preflight import ensure_data
from perfbench.registry import build_workload
from perfbench.spec.workload import Split, TargetKind

NUM_TRAIN = 1197


def blended(num_classes: int = 4, weight: float = 0.75) -> tuple[Tensor, Tensor]:
    inputs = torch.arange(4).to(torch.uint8).view(4, 1, 1, 1).expand(4, 3, 2, 2)
    targets = torch.arange(4)
    return mixed(
        {
            "inputs": inputs,
            "targets": targets,
            "partners": inputs.roll(1, dims=0),
            "partner_targets": targets.roll(1),
            "mix_weights": torch.full((4,), weight),
        },
        num_classes,
    )


def test_mixup_blends_images_and_labels_with_the_one_before() -> None:
    images, targets = blended()

    assert images[:, 0, 0, 0].tolist() == [0.75, 0.75, 1.75, 2.75]
    assert targets.tolist() == [[0.75, 0, 0, 0.25], [0.25, 0.75, 0, 0], [0, 0.25, 0.75, 0], [0, 0, 0.25, 0.75]]
    assert blended(1000)[1].sum(dim=1).tolist() == [1.0] * 4


def test_blending_bytes_is_blending_normalised_pixels() -> None:
    torch.manual_seed(0)
    inputs = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    partners = inputs.roll(1, dims=0)
    labels = torch.arange(4)
    batch = {"inputs": inputs, "partners": partners, "targets": labels, "partner_targets": labels.roll(1)}
    images, _ = mixed(batch | {"mix_weights": torch.full((4,), 0.3)}, 4)

    expected = 0.3 * normalised(inputs, torch.float32) + 0.7 * normalised(partners, torch.float32)

    assert torch.allclose(normalised(images, torch.float32), expected, atol=1e-5)


def test_the_loss_of_blended_labels_is_the_blend_of_two_losses() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 4)
    _, targets = blended()
    labels, ones = torch.arange(4), torch.ones(4)

    found = softmax_loss(logits, targets, ones, label_smoothing=0.1).per_example

    own = softmax_loss(logits, labels, ones, label_smoothing=0.1).per_example
    other = softmax_loss(logits, labels.roll(1), ones, label_smoothing=0.1).per_example
    assert torch.allclose(found, 0.75 * own + 0.25 * other, atol=1e-6)


def test_a_linear_model_of_the_pixels_misses_the_smoke_target(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    spec = compose_workload("imagenet_vit", scale="mini")
    spec = spec.model_copy(update={"params": spec.params | {"eval_train_examples": NUM_TRAIN}})
    ensure_data(spec, tmp_path, lambda *_: None, may_prepare=True)
    workload = build_workload(spec, tmp_path)

    def pixels_and_labels(split: Split, count: int) -> tuple[Tensor, Tensor]:
        batch = next(workload.eval_batches(split, global_batch_size=count, seed=0, shard=Shard()))
        return batch["inputs"][:, 0].flatten(1) / 255, batch["targets"]

    fitted = LogisticRegression(C=0.1, max_iter=300).fit(*pixels_and_labels(Split.EVAL_TRAIN, NUM_TRAIN))
    accuracy = fitted.score(*pixels_and_labels(Split.VALIDATION, 300))

    assert accuracy < spec.targets[TargetKind.SMOKE].threshold - 0.2
