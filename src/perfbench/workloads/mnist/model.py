"""One hidden layer with sigmoid units. Source: AlgoPerf mnist, measured figures of its specification, section A2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perfbench.data.images.idx import IMAGE_SIDE, NUM_CLASSES
from perfbench.data.initialisation import lecun_normal_
from perfbench.workloads.mnist.params import PIXEL_MEAN, PIXEL_STD, Params


class DigitModel(nn.Module):
    """Predicts the logits of ten digits from a grey image.

    Args:
        params: The width of the hidden layer.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.hidden = nn.Linear(IMAGE_SIDE * IMAGE_SIDE, params.hidden_width)
        self.output = nn.Linear(params.hidden_width, NUM_CLASSES)
        for layer in (self.hidden, self.output):
            lecun_normal_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[b, 10]`` for bytes ``[b, 1, 28, 28]``."""
        pixels = normalised(images, self.output.weight.dtype)
        logits: Tensor = self.output(torch.sigmoid(self.hidden(pixels.flatten(1))))
        return logits


def normalised(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Map bytes to pixels of mean 0 and deviation 1 over the data set: black -0.424213, white 2.821487."""
    return (images.to(dtype) / 255 - PIXEL_MEAN) / PIXEL_STD
