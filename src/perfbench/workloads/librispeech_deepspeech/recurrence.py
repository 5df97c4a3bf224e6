"""A bidirectional LSTM over padded utterances that a full graph can hold: docs/adr/0008.

Shape suffixes: t frames, b examples, d inputs, h hidden units of a direction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from perfbench.workloads.librispeech_deepspeech.lstm_operator import lstm


class Direction(nn.Module):
    """The parameters of one direction, initialised as in ``nn.LSTM``: uniform within the inverse root of ``h``."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, x_tbd: Tensor) -> Tensor:
        """Return hidden states ``[t, b, h]``."""
        x_tbd = x_tbd.to(self.weight_ih.dtype).contiguous()
        return lstm(x_tbd, (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh))


class BidirectionalLSTM(nn.Module):
    """Both directions over each utterance's own frames, as a packed sequence would give; 0 at padded frames."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.ahead = Direction(inputs, hidden)
        self.back = Direction(inputs, hidden)

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return ``[b, t, 2 h]``; valid frames stand in front."""
        x_tbd = x_btd.transpose(0, 1)
        places = torch.arange(x_tbd.shape[0], device=x_btd.device)
        # Frame l - 1 - t for the valid ones: the backward direction starts at an utterance's own last frame.
        reversed_bt = (valid_bt.sum(dim=1, keepdim=True) - 1 - places).remainder(x_tbd.shape[0])
        reversed_tb = reversed_bt.transpose(0, 1)
        ahead_tbh = self.ahead(x_tbd)
        back_tbh = _taken(self.back(_taken(x_tbd, reversed_tb)), reversed_tb)
        joined: Tensor = torch.cat([ahead_tbh, back_tbh], dim=-1).transpose(0, 1) * valid_bt[..., None]
        return joined


def _taken(x_tbd: Tensor, frames_tb: Tensor) -> Tensor:
    return x_tbd.gather(0, frames_tb[..., None].expand(-1, -1, x_tbd.shape[-1]))
