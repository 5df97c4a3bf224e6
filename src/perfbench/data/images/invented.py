"""Batches of images that are nobody's, in the form of :class:`ImageLoader`'s."""

from __future__ import annotations

import numpy as np
import torch

from perfbench.api.workload import Batch
from perfbench.data.images.params import ImageParams
from perfbench.data.inventing import Inventor


def invented_images(drawn: Inventor, params: ImageParams, *, batch_size: int, mixup_alpha: float) -> Batch:
    """Return a batch: patches of random brightness, labels all equally likely.

    Args:
        drawn: Where values come from.
        params: Size and classes.
        batch_size: Images.
        mixup_alpha: Of the Beta distribution of the one weight of the batch; 0 is no mixup.
    """
    if not mixup_alpha:
        return {
            "inputs": drawn.images(batch_size, 3, params.crop_side),
            "targets": drawn.integers(0, params.num_classes, batch_size, dtype=torch.int64),
            "weights": torch.ones(batch_size),
        }
    images = drawn.images(batch_size + 1, 3, params.crop_side)
    labels = drawn.integers(0, params.num_classes, batch_size + 1, dtype=torch.int64)
    seed = int(drawn.integers(0, 1 << 62, 1, dtype=torch.int64))
    own_share = float(np.random.Generator(np.random.PCG64(seed)).beta(mixup_alpha, mixup_alpha))
    return {
        "inputs": images[1:],
        "targets": labels[1:],
        "weights": torch.ones(batch_size),
        "partners": images[:-1],
        "partner_targets": labels[:-1],
        "mix_weights": torch.full((batch_size,), own_share),
    }
