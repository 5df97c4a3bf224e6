"""ResNet of bottleneck blocks with the stride in the 3 x 3 convolution.

torchvision's graph (bit-identical with copied weights), with other activations where a variant asks for them and the
benchmark's initialisation. Source: AlgoPerf imagenet_resnet, figures of its specification, sections 2 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from perfbench.data.images.transforms import normalised
from perfbench.data.initialisation import lecun_normal_
from perfbench.workloads.imagenet_resnet.params import Params

_HEAD_STD = 0.01
_TORCHVISION_WIDTH = 64


class ImageModel(nn.Module):
    """Predicts the logits of the classes from bytes ``[b, 3, side, side]``.

    Args:
        params: Blocks, width, activation, initial scale of the branches.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.resnet = _Narrow(params.base_width, params.blocks, num_classes=params.num_classes)
        for module in list(self.resnet.modules()):
            if isinstance(module, ResNet | Bottleneck):
                module.relu = _activation(params.activation)
        self._initialise(params)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[b, classes]``."""
        logits: Tensor = self.resnet(normalised(images, self.resnet.fc.weight.dtype))
        return logits

    def _initialise(self, params: Params) -> None:
        """Initialise from the global generator; batch norms start at 1 and 0 already."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                lecun_normal_(module.weight)
            elif isinstance(module, Bottleneck):
                nn.init.constant_(module.bn3.weight, params.last_norm_scale)
        nn.init.normal_(self.resnet.fc.weight, std=_HEAD_STD)
        nn.init.zeros_(self.resnet.fc.bias)


class _Narrow(ResNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's ResNet with any base width; at 64 it is torchvision's own."""

    def __init__(self, base_width: int, blocks: Sequence[int], *, num_classes: int) -> None:
        super().__init__(Bottleneck, list(blocks), num_classes=num_classes)
        if base_width == _TORCHVISION_WIDTH:
            return
        self.inplanes = base_width
        self.conv1 = nn.Conv2d(3, base_width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        self.layer1 = self._make_layer(Bottleneck, base_width, blocks[0])
        self.layer2 = self._make_layer(Bottleneck, 2 * base_width, blocks[1], stride=2)
        self.layer3 = self._make_layer(Bottleneck, 4 * base_width, blocks[2], stride=2)
        self.layer4 = self._make_layer(Bottleneck, 8 * base_width, blocks[3], stride=2)
        self.fc = nn.Linear(8 * base_width * Bottleneck.expansion, num_classes)


def _activation(name: str) -> nn.Module:
    match name:
        case "silu":
            return nn.SiLU()
        case "gelu_tanh":
            return nn.GELU(approximate="tanh")
        case _:
            return nn.ReLU()
