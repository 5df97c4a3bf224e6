"""torch's Transformer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.api.workload import Batch
from perfbench.workloads.wmt.params import Params


class Translator(nn.Module):
    """``nn.Transformer`` with one table for both languages and the output."""

    def __init__(self, params: Params) -> None:
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


def loss_on(batch: Batch, params: Params, device: torch.device) -> Callable[[], Tensor]:
    """Return the summed loss over target tokens."""
    model = Translator(params).to(device).train()

    def loss() -> Tensor:
        logits = model(batch)
        losses = functional.cross_entropy(logits.flatten(0, 1), batch["target_ids"].long().flatten(), reduction="none")
        return (losses * (batch["target_segments"] > 0).flatten()).sum()

    return loss
