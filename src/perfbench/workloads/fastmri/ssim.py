"""Structural similarity, as the benchmark scores it.

Source: Wang et al. (2004) with a uniform 7x7 window and sample covariances, in the form of the AlgoPerf fastMRI
specification, section 5; equal to ``skimage.metrics.structural_similarity`` with its default window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from perfbench.api.workload import Batch

WINDOW = 7
_K1, _K2 = 0.01, 0.03


def structural_similarity(first: Tensor, second: Tensor, data_range: Tensor) -> Tensor:
    """Return the similarity of pairs of images, shape ``[b]``, float64, each clamped to [-1, 1].

    Images are divided by their range and compared in float64: at magnitudes near 1e-4 float32 would cancel. Only
    windows that lie inside the image count, so no rule of padding matters.

    Args:
        first: Images ``[b, h, w]``.
        second: Images of the same shape.
        data_range: Largest value of each pair's volume, ``[b]``; 0 counts as 1.
    """
    scale = torch.where(data_range == 0, torch.ones_like(data_range), data_range).double()[:, None, None]
    x, y = first.double() / scale, second.double() / scale
    moments = torch.stack([x, y, x * x, y * y, x * y], dim=1)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = functional.avg_pool2d(moments, WINDOW, stride=1).unbind(dim=1)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_x = unbiased * (mean_xx - mean_x * mean_x)
    var_y = unbiased * (mean_yy - mean_y * mean_y)
    covariance = unbiased * (mean_xy - mean_x * mean_y)
    c1, c2 = _K1**2, _K2**2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    per_window = likeness / ((mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2))
    return per_window.mean(dim=(1, 2)).clamp(-1, 1)


def similarity_in_raw_unit(predicted: Tensor, batch: Batch) -> Tensor:
    """Return the similarity of predictions and targets ``[b]`` after both are put back into the raw data's unit.

    Args:
        predicted: Standardised images ``[b, n, n]``.
        batch: Of the workload.
    """
    mean, std = (batch[name].double()[:, None, None] for name in ("mean", "std"))
    return structural_similarity(
        predicted.double() * std + mean, batch["targets"].double() * std + mean, batch["maximum"]
    )
