"""torch's Transformer layers, causal, with one table for input and output."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.api.workload import Batch
from perfbench.workloads.finewebedu_lm.params import Params


class CausalModel(nn.Module):
    """``nn.TransformerEncoder`` of the same dimensions; without a gate, feed-forward layers are half as wide again."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.table = nn.Embedding(params.vocab_size, params.width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.places = nn.Parameter(0.02 * torch.randn(params.row_length, params.width))
        layer = nn.TransformerEncoderLayer(
            params.width,
            params.num_heads,
            dim_feedforward=3 * params.inner_width // 2,  # as many numbers as with a gate
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
            bias=False,
        )
        final = nn.LayerNorm(params.width)
        self.layers = nn.TransformerEncoder(layer, params.num_layers, norm=final, enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(params.row_length))
        self.mask: Tensor

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits ``[b, t, v]``."""
        hidden = self.layers(self.table(ids) + self.places, mask=self.mask, is_causal=True)
        return functional.linear(hidden, self.table.weight)


def loss_on(batch: Batch, params: Params, device: torch.device) -> Callable[[], Tensor]:
    """Return the summed loss over tokens."""
    model = CausalModel(params).to(device).train()

    def loss() -> Tensor:
        logits = model(batch["input_ids"])
        return functional.cross_entropy(logits.flatten(0, 1), batch["target_ids"].long().flatten(), reduction="sum")

    return loss
