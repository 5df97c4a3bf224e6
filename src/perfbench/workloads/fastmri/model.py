"""The U-Net of fastMRI: convolution blocks between pools, and back up with skips.

Shape suffixes: b images, k channels, h height, w width.

Modules and parameters have the names of ``fastmri.models.Unet``, so its checkpoints load. Sources: Ronneberger et al.
(2015), Zbontar et al. (2018, arXiv 1811.08839); initialisation and variants as in AlgoPerf (specification, section 4).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.workloads.fastmri.params import Params

_INSTANCE_NORM_EPS = 1e-5
_LAYER_NORM_EPS = 1e-6
_NEGATIVE_SLOPE = 0.2
_STD_OF_TRUNCATED_NORMAL = 0.87962566103423978
"""Of a standard normal cut at two standard deviations."""


def _activation(kind: Literal["leaky_relu", "tanh"]) -> nn.Module:
    return nn.Tanh() if kind == "tanh" else nn.LeakyReLU(_NEGATIVE_SLOPE)


def _norm(kind: Literal["instance", "layer"], channels: int) -> nn.Module:
    """Return a norm over the pixels of each channel, without parameters, or over all of an image, with them."""
    if kind == "layer":
        return nn.GroupNorm(1, channels, eps=_LAYER_NORM_EPS)
    return nn.InstanceNorm2d(channels, eps=_INSTANCE_NORM_EPS)


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution without bias, norm, activation, dropout of whole feature maps."""

    def __init__(self, channels_in: int, channels_out: int, params: Params) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            layers += [
                nn.Conv2d(channels, channels_out, kernel_size=3, padding=1, bias=False),
                _norm(params.norm, channels_out),
                _activation(params.activation),
                nn.Dropout2d(params.dropout_rate),
            ]
        self.conv_layers = nn.Sequential(*layers)

    def forward(self, x_bkhw: Tensor) -> Tensor:
        """Map ``[b, channels_in, h, w]`` to ``[b, channels_out, h, w]``."""
        out: Tensor = self.conv_layers(x_bkhw)
        return out


class TransposeConvBlock(nn.Module):
    """2x2 transposed convolution without bias, instance norm, activation; no dropout, in every variant."""

    def __init__(self, channels_in: int, channels_out: int, params: Params) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(channels_in, channels_out, kernel_size=2, stride=2, bias=False),
            _norm("instance", channels_out),
            _activation(params.activation),
        )

    def forward(self, x_bkhw: Tensor) -> Tensor:
        """Map ``[b, channels_in, h, w]`` to ``[b, channels_out, 2 h, 2 w]``."""
        out: Tensor = self.layers(x_bkhw)
        return out


class UNet(nn.Module):
    """Predicts the fully sampled image from the zero-filled one, both standardised.

    Args:
        params: Width, depth, activation, norm, dropout.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        widths = [params.channels * 2**level for level in range(params.num_pools + 1)]
        above, bottom = widths[:-1], widths[-1]
        self.down_sample_layers = nn.ModuleList(
            ConvBlock(before, width, params) for before, width in zip([1, *above], above, strict=False)
        )
        self.conv = ConvBlock(above[-1], bottom, params)
        rising = list(reversed(above))
        self.up_conv = nn.ModuleList(ConvBlock(2 * width, width, params) for width in rising)
        self.up_conv[-1] = nn.Sequential(self.up_conv[-1], nn.Conv2d(rising[-1], 1, kernel_size=1))
        self.up_transpose_conv = nn.ModuleList(TransposeConvBlock(2 * width, width, params) for width in rising)
        self._initialise()

    def forward(self, images_bhw: Tensor) -> Tensor:
        """Return predicted images of the same shape."""
        x_bkhw = images_bhw.unsqueeze(1)
        skips: list[Tensor] = []
        for down in self.down_sample_layers:
            x_bkhw = down(x_bkhw)
            skips.append(x_bkhw)
            x_bkhw = functional.avg_pool2d(x_bkhw, kernel_size=2)
        x_bkhw = self.conv(x_bkhw)
        for transposed, conv, skip_bkhw in zip(self.up_transpose_conv, self.up_conv, reversed(skips), strict=True):
            raised_bkhw = _as_large_as(transposed(x_bkhw), skip_bkhw)
            x_bkhw = conv(torch.cat([raised_bkhw, skip_bkhw], dim=1))
        out: Tensor = x_bkhw.squeeze(1)
        return out

    def _initialise(self) -> None:
        """Initialise from the global generator: truncated normals of variance 1 / fan-in, bias zero.

        The fan-in of every convolution is read off dimension 1 of its weight. For transposed ones that is four times
        the outputs; the published PyTorch runs had it so (the JAX runs used the inputs), and the scale of a weight in
        front of a norm sets how fast it learns.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan_in = module.weight[0].numel()
                sigma = math.sqrt(1 / fan_in) / _STD_OF_TRUNCATED_NORMAL
                nn.init.trunc_normal_(module.weight, std=sigma, a=-2 * sigma, b=2 * sigma)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _as_large_as(raised_bkhw: Tensor, skip_bkhw: Tensor) -> Tensor:
    """Repeat the last row or column by reflection where pooling had dropped an odd one."""
    missing_rows = skip_bkhw.shape[-2] - raised_bkhw.shape[-2]
    missing_columns = skip_bkhw.shape[-1] - raised_bkhw.shape[-1]
    if missing_rows or missing_columns:
        return functional.pad(raised_bkhw, (0, missing_columns, 0, missing_rows), mode="reflect")
    return raised_bkhw
