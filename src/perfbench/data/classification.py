"""What single-label classification workloads share: loss, sums that add over ranks, metrics, parameter roles.

A batch has ``inputs``, ``targets`` int64 ``[b]`` and ``weights`` float32 ``[b]`` (0 where padded).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from perfbench.api.picture import ImagePanel, Picture, Verdict, spread_examples
from perfbench.api.workload import Batch, LossSums, ParameterRole
from perfbench.data.modules import roles_of
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split

_NUM_SHOWN = 24
_NUM_COLUMNS = 8


def softmax_loss(logits: Tensor, targets: Tensor, weights: Tensor, *, label_smoothing: float = 0.0) -> LossSums:
    """Return the weighted softmax cross-entropy in nats.

    Args:
        logits: ``[b, classes]``.
        targets: Labels int64 ``[b]``, or probabilities ``[b, classes]``; smoothing applies to both.
        weights: ``[b]``, 0 where padded.
        label_smoothing: Share of the probability that is spread evenly over all classes.
    """
    weights = weights.to(logits.dtype)
    loss = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    per_example = loss * weights
    return LossSums(per_example.sum(), weights.sum(), per_example)


def classification_sums(logits: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Return how many predictions (the first largest logit) are right, the summed loss and the count, in float64."""
    weights = batch["weights"]
    is_right = logits.argmax(dim=1) == batch["targets"]
    loss = softmax_loss(logits, batch["targets"], weights).per_example
    return {
        "num_right": (is_right * weights).sum(dtype=torch.float64),
        "loss": loss.sum(dtype=torch.float64),
        "num_examples": weights.sum(dtype=torch.float64),
    }


def finished_classification(split: Split, sums: Mapping[str, Tensor], *, num_expected: int) -> dict[str, float]:
    """Return accuracy, mean loss in nats and the number of examples.

    Raises:
        WorkloadError: If not every example was counted exactly once.
    """
    counted = round(float(sums["num_examples"]))
    if counted != num_expected:
        raise WorkloadError(f"evaluated {counted} examples instead of {num_expected}", where=split.value)
    return {
        "accuracy": float(sums["num_right"]) / counted,
        "loss": float(sums["loss"]) / counted,
        "num_examples": float(counted),
    }


def classification_picture(model: nn.Module, batch: Batch) -> Picture:
    """Return images as the model gets them, each with its label, and the predicted one where that is another.

    Args:
        model: Maps bytes ``[b, channels, h, w]`` to logits ``[b, classes]``.
        batch: With ``partners``, ``partner_targets`` and ``mix_weights`` where images are mixed in pairs.
    """
    shown = spread_examples(batch, batch["weights"], count=_NUM_SHOWN)
    images = shown["inputs"]
    if "mix_weights" in shown:
        share = shown["mix_weights"].view(-1, 1, 1, 1)
        images = (share * images + (1 - share) * shown["partners"]).round().to(torch.uint8)
    predicted = model(images).argmax(dim=1).tolist()
    labels = shown["targets"].tolist()
    partners = shown["partner_targets"].tolist() if "partner_targets" in shown else labels
    panels = [
        _image_panel(image, {label, partner}, guess)
        for image, label, partner, guess in zip(images.cpu(), labels, partners, predicted, strict=True)
    ]
    num_right = sum(panel.verdict is Verdict.RIGHT for panel in panels)
    sides = " x ".join(str(side) for side in images.shape[2:])
    return Picture(
        caption=f"{len(panels)} of {len(batch['weights']):,} images of {sides}: label, and prediction where it is "
        f"another; {num_right} right",
        panels=tuple(panels),
        num_columns=_NUM_COLUMNS,
    )


def _image_panel(image: Tensor, labels: set[int], predicted: int) -> ImagePanel:
    is_right = predicted in labels
    label = " + ".join(str(one) for one in sorted(labels))
    return ImagePanel(
        title=label if is_right else f"{label}, not {predicted}",
        pixels=(image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy(),
        limits=(0.0, 255.0),
        verdict=Verdict.RIGHT if is_right else Verdict.WRONG,
    )


def roles_by_module(model: nn.Module) -> dict[str, ParameterRole]:
    """Return the role of every parameter by the class of the module that holds it."""
    return roles_of(model, _role)


def _role(module: nn.Module, name: str) -> ParameterRole:
    is_bias = name == "bias"
    match module:
        case nn.LayerNorm():
            return ParameterRole.LAYER_NORM_BIAS if is_bias else ParameterRole.LAYER_NORM_SCALE
        case _BatchNorm():
            return ParameterRole.BATCH_NORM_BIAS if is_bias else ParameterRole.BATCH_NORM_SCALE
        case nn.Conv2d() if not is_bias:
            return ParameterRole.CONV_WEIGHT
        case _:
            return ParameterRole.BIAS if is_bias else ParameterRole.WEIGHT
