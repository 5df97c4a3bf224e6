"""torchvision's ResNet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.transforms.v2 import functional as images

from perfbench.api.workload import Batch
from perfbench.workloads.imagenet_resnet.params import Params


def loss_on(batch: Batch, params: Params, device: torch.device) -> Callable[[], Tensor]:
    """Return the loss of a ResNet whose stem and stages are narrowed as the workload's."""

    class Narrow(ResNet):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(Bottleneck, list(params.blocks), num_classes=params.num_classes)
            width = self.inplanes = params.base_width
            self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            for stage, blocks in enumerate(params.blocks):
                layer = self._make_layer(Bottleneck, width << stage, blocks, stride=1 if stage == 0 else 2)
                setattr(self, f"layer{stage + 1}", layer)
            self.fc = nn.Linear((width << 3) * Bottleneck.expansion, params.num_classes)

    model = Narrow().to(device).train()

    def loss() -> Tensor:
        pixels = images.normalize(
            images.to_dtype(batch["inputs"], torch.float32, scale=True), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        )
        return functional.cross_entropy(model(pixels), batch["targets"])

    return loss
