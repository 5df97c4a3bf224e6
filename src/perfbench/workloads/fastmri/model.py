"""The U-Net of fastMRI: convolution blocks between pools, and back up with skips.

Shape suffixes: b images, k channels, h height, w width.

``fastmri.models.Unet`` with the norms and activations of the variants in place of its own, and the published names and
initialisation. Sources: Ronneberger et al. (2015), Zbontar et al. (2018, arXiv 1811.08839); names, initialisation and
variants as in AlgoPerf (specification, section 4).
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.data.initialisation import lecun_normal_
from perfbench.workloads.fastmri.params import Params


def _unet_module() -> ModuleType:
    """Load the file of ``fastmri.models.unet`` alone: the rest brings pandas, 0.7 s and 80 MB in every process."""
    name, package = "fastmri.models.unet", find_spec("fastmri")
    if name in sys.modules or package is None or package.origin is None:
        return import_module(name)
    spec = spec_from_file_location(name, Path(package.origin).parent / "models" / "unet.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from fastmri.models import unet
else:
    unet = _unet_module()

_LAYER_NORM_EPS = 1e-6


class UNet(unet.Unet):  # type: ignore[misc]  # fastMRI has no types
    """Predicts the fully sampled image from the zero-filled one, both standardised.

    Args:
        params: Width, depth, activation, norm, dropout.
    """

    def __init__(self, params: Params) -> None:
        super().__init__(
            in_chans=1,
            out_chans=1,
            chans=params.channels,
            num_pool_layers=params.num_pools,
            drop_prob=params.dropout_rate,
        )
        self._exchange_parts(params)
        self._initialise()

    def forward(self, images_bhw: Tensor) -> Tensor:
        """Return predicted images of the same shape.

        The library's own asks a tensor whether to pad, which splits the compiled graph.
        """
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

    def _exchange_parts(self, params: Params) -> None:
        """Give every block the variant's activation; convolution blocks its norm too, and the published name.

        The library's activation writes over its input, which costs the compiled step 5 % on a processor.
        """
        for parent in list(self.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.LeakyReLU):
                    is_tanh = params.activation == "tanh"
                    parent.add_module(name, nn.Tanh() if is_tanh else nn.LeakyReLU(child.negative_slope))
                elif isinstance(child, unet.ConvBlock):
                    parent.add_module(name, nn.Sequential(OrderedDict(conv_layers=_normed(child.layers, params))))

    def _initialise(self) -> None:
        """Initialise from the global generator: truncated normals of variance 1 / fan-in, bias zero.

        The fan-in of every convolution is read off dimension 1 of its weight. For transposed ones that is four times
        the outputs; the published PyTorch runs had it so (the JAX runs used the inputs), and the scale of a weight in
        front of a norm sets how fast it learns.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                lecun_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _normed(layers: nn.Sequential, params: Params) -> nn.Sequential:
    """Put a norm over all of an image, with parameters, in place of each over the pixels of a channel, without."""
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.InstanceNorm2d) and params.norm == "layer":
            layers[number] = nn.GroupNorm(1, layer.num_features, eps=_LAYER_NORM_EPS)
    return layers


def _as_large_as(raised_bkhw: Tensor, skip_bkhw: Tensor) -> Tensor:
    """Repeat the last row or column by reflection where pooling had dropped an odd one."""
    missing_rows = skip_bkhw.shape[-2] - raised_bkhw.shape[-2]
    missing_columns = skip_bkhw.shape[-1] - raised_bkhw.shape[-1]
    if missing_rows or missing_columns:
        return functional.pad(raised_bkhw, (0, missing_columns, 0, missing_rows), mode="reflect")
    return raised_bkhw
