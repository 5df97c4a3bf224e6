"""What a person would take from torch or torchvision for a task, with the dimensions of a workload; by its parameters.

None of them is the workload's model exactly (initialisation, biases and places of dropout differ a little): each does
the same work at the same sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.api.workload import Batch, Workload

Loss = Callable[[], Tensor]


def library_loss(workload: Workload, batch: Batch, device: torch.device) -> Loss | None:
    """Return the loss of the library's model on a batch, or ``None`` where no library has the model."""
    params: Any = getattr(workload, "params", None)
    torch.manual_seed(0)
    match workload.spec.family:
        case "imagenet_resnet":
            return _resnet(params, batch, device)
        case "mnist":
            return _perceptron(params, batch, device)
        case "wmt":
            return _transformer(params, batch, device)
        case _:
            return None


def _resnet(params: Any, batch: Batch, device: torch.device) -> Loss:  # noqa: ANN401 - the family's own type
    """Build torchvision's ResNet; its stem and stages are narrowed as the workload's."""
    from torchvision.models.resnet import Bottleneck, ResNet
    from torchvision.transforms.v2 import functional as images

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


def _perceptron(params: Any, batch: Batch, device: torch.device) -> Loss:  # noqa: ANN401 - the family's own type
    size = batch["inputs"][0].numel()
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(size, params.hidden_width), nn.Sigmoid(), nn.Linear(params.hidden_width, 10)
    )
    model.to(device)

    def loss() -> Tensor:
        pixels = (batch["inputs"].float() / 255 - 0.1307) / 0.3081
        return functional.cross_entropy(model(pixels), batch["targets"])

    return loss


class Translator(nn.Module):
    """``nn.Transformer`` with one table for both languages and the output."""

    def __init__(self, params: Any) -> None:  # noqa: ANN401 - the family's own type
        super().__init__()
        self.table = nn.Embedding(params.vocab_size, params.width)
        self.heads = params.num_heads
        self.transformer = nn.Transformer(
            d_model=params.width,
            nhead=params.num_heads,
            num_encoder_layers=params.num_layers,
            num_decoder_layers=params.num_layers,
            dim_feedforward=params.feed_forward_width,
            dropout=params.dropout_rate,
            norm_first=params.norm == "pre",
            batch_first=True,
        )
        self.places = nn.Parameter(torch.randn(params.row_length, params.width), requires_grad=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits ``[b, t, v]`` of packed rows."""
        source, target = batch["source_segments"], batch["target_segments"]
        causal = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool, device=target.device).triu(1)
        shifted = functional.pad(batch["target_ids"][:, :-1], (1, 0))
        hidden = self.transformer(
            self.table(batch["source_ids"]) + self.places[batch["source_positions"]],
            self.table(shifted) + self.places[batch["target_positions"]],
            src_mask=self._blocked(source, source),
            tgt_mask=self._blocked(target, target) | causal,
            memory_mask=self._blocked(target, source) & (target > 0).repeat_interleave(self.heads, 0)[:, :, None],
        )
        return functional.linear(hidden, self.table.weight)

    def _blocked(self, queries: Tensor, keys: Tensor) -> Tensor:
        return (queries[:, :, None] != keys[:, None, :]).repeat_interleave(self.heads, dim=0)


def _transformer(params: Any, batch: Batch, device: torch.device) -> Loss:  # noqa: ANN401 - the family's own type
    model = Translator(params).to(device).train()

    def loss() -> Tensor:
        logits = model(batch)
        losses = functional.cross_entropy(logits.flatten(0, 1), batch["target_ids"].long().flatten(), reduction="none")
        return (losses * (batch["target_segments"] > 0).flatten()).sum()

    return loss
