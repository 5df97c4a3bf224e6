"""Mixup: every training example is blended with the one before it. Source: AlgoPerf imagenet_vit."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from perfbench.api.workload import Batch


def mixed(batch: Batch, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return images ``[b, 3, side, side]`` and targets of a batch, blended if it has partners; runs on the device.

    Blending bytes and normalising afterwards gives what normalising first would: normalisation is linear, and the
    weights add up to one. Without partners the targets stay labels int64 ``[b]``; with them they are probabilities
    float32 ``[b, classes]``.
    """
    if "mix_weights" not in batch:
        return batch["inputs"], batch["targets"]
    own = batch["mix_weights"]
    images = _blend(own[:, None, None, None], batch["inputs"], batch["partners"])
    labels = (functional.one_hot(batch[name], num_classes) for name in ("targets", "partner_targets"))
    return images, _blend(own[:, None], *labels)


def _blend(own: Tensor, mine: Tensor, partners: Tensor) -> Tensor:
    return own * mine + (1 - own) * partners
