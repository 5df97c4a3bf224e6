"""A Conformer encoder with a CTC output: subsampling, blocks of feed-forward, attention and convolution.

Shape suffixes: b examples, t encoder frames, d width, h heads, k width of a head.

Source: AlgoPerf librispeech_conformer (PyTorch), measured figures of its specification, sections 2 to 7. The order of
parameters is the reference's.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.data.modules import AuxiliaryDropout
from perfbench.data.speech.front_end import is_valid
from perfbench.data.speech.layers import (
    Activation,
    FrontEnd,
    LayerNorm,
    MaskedBatchNorm,
    Subsampling,
    initialise,
)
from perfbench.data.speech.params import SUBSAMPLING
from perfbench.workloads.librispeech_conformer.params import Params

_LONGEST_PERIOD = 10_000.0
_QUERY_SCALE = 1 / math.log(2.0)
"""``softplus(0)`` is log 2: a learned scale of 0 multiplies by 1."""

# The published variant has GELU in two forms, so this one does.
_FEED_FORWARD_ACTIVATIONS: dict[str, Activation] = {
    "silu": functional.silu,
    "gelu": partial(functional.gelu, approximate="tanh"),
}
_CONVOLUTION_ACTIVATIONS: dict[str, Activation] = {"silu": functional.silu, "gelu": functional.gelu}


class FeedForward(nn.Module):
    """``dropout(linear2(activation(linear1(norm(x)))))`` with padded frames at 0 between."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        hidden = params.feed_forward_expansion * params.width
        self.ln = LayerNorm(params.width)
        self.linear1 = nn.Linear(params.width, hidden)
        self.linear2 = nn.Linear(hidden, params.width)
        self.dropout = nn.Dropout(params.dropout_rate)
        self._activation = _FEED_FORWARD_ACTIVATIONS[params.activation]

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return what is added to the residual stream, half of it by the caller."""
        mask = valid_bt[..., None]
        hidden = self._activation(self.linear1(self.ln(x_btd))) * mask
        out: Tensor = self.dropout(self.linear2(hidden) * mask)
        return out


class QueryScale(nn.Module):
    """One learned multiplier for each feature of a head, shared by all heads; 1 at the start."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(head_width))

    def forward(self, q: Tensor) -> Tensor:
        """Return scaled queries, same shape."""
        return q * (_QUERY_SCALE * functional.softplus(self.scale))


class SelfAttention(nn.Module):
    """Attention of every frame to the valid ones, without positions."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.in_proj = nn.Linear(params.width, 3 * params.width)
        self.out_proj = nn.Linear(params.width, params.width)
        self.query_scale = QueryScale(params.width // params.num_heads)
        self._num_heads = params.num_heads
        self._temperature = params.attention_temperature

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return ``[b, t, d]``."""
        heads = self.in_proj(x_btd).unflatten(-1, (3, self._num_heads, -1))
        q_bhtk, k_bhtk, v_bhtk = heads.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(
            self.query_scale(q_bhtk).to(v_bhtk.dtype), k_bhtk, v_bhtk, attn_mask=valid_bt[:, None, None, :]
        )
        out: Tensor = self.out_proj(self._temperature * attended.transpose(1, 2).flatten(2))
        return out


class AttentionModule(nn.Module):
    """Layer norm, attention, dropout."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.ln = LayerNorm(params.width)
        self.self_attention = SelfAttention(params)
        self.dropout = nn.Dropout(params.dropout_rate)

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return what is added to the residual stream."""
        out: Tensor = self.dropout(self.self_attention(self.ln(x_btd), valid_bt))
        return out


class ConvolutionModule(nn.Module):
    """Gated linear unit, depthwise convolution over time, batch norm over valid frames, linear layer."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        width = params.width
        self.ln = LayerNorm(width)
        self.lin1 = nn.Linear(width, width)
        self.lin2 = nn.Linear(width, width)
        self.conv1 = nn.Conv1d(
            width, width, params.kernel_frames, padding=params.kernel_frames // 2, groups=width, bias=False
        )
        self.bn = MaskedBatchNorm(width, momentum=params.batch_norm_momentum, group_examples=params.batch_norm_examples)
        self.lin3 = nn.Linear(width, width)
        self.dropout = nn.Dropout(params.dropout_rate)
        self._activation = _CONVOLUTION_ACTIVATIONS[params.activation]

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return what is added to the residual stream."""
        normed = self.ln(x_btd)
        gated = self.lin1(normed) * torch.sigmoid(self.lin2(normed)) * valid_bt[..., None]
        mixed = self.conv1(gated.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.dropout(self.lin3(self._activation(self.bn(mixed, valid_bt))))
        return out


class Block(nn.Module):
    """Half a feed-forward module, attention, convolution, another half, and (but for a variant) a layer norm."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.ff1 = FeedForward(params)
        self.mhsa = AttentionModule(params)
        self.conv = ConvolutionModule(params)
        self.ff2 = FeedForward(params)
        self.ln = LayerNorm(params.width) if params.block_layer_norm else nn.Identity()

    def forward(self, x_btd: Tensor, valid_bt: Tensor, keys_bt: Tensor) -> Tensor:
        """Map ``[b, t, d]`` to the same shape; ``keys_bt`` are the frames that attention may look at."""
        x_btd = x_btd + 0.5 * self.ff1(x_btd, valid_bt)
        x_btd = x_btd + self.mhsa(x_btd, keys_bt)
        x_btd = x_btd + self.conv(x_btd, valid_bt)
        x_btd = x_btd + 0.5 * self.ff2(x_btd, valid_bt)
        out: Tensor = self.ln(x_btd)
        return out


class Conformer(nn.Module):
    """Waveforms to logits of word pieces.

    Args:
        params: Width, depth and kind of layers.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params
        self.front_end = FrontEnd(params)
        self.subsample = Subsampling(params.width, functional.relu)
        self.dropout = AuxiliaryDropout(params.dropout_rate)
        self.conformers = nn.ModuleList(Block(params) for _ in range(params.num_blocks))
        self.ln = LayerNorm(params.width)
        self.lin = nn.Linear(params.width, params.num_pieces)
        self.register_buffer("positions", positions(params.num_encoder_frames, params.width), persistent=False)
        self.positions: Tensor
        initialise(self)

    def forward(self, audio: Tensor, num_samples: Tensor) -> Tensor:
        """Return logits ``[b, t, pieces]`` for int16 samples ``[b, n]``; the first ``num_samples [b]`` count."""
        features_btf, valid_frames = self.front_end(audio, num_samples)
        valid_bt = valid_frames[:, ::SUBSAMPLING]
        # A wholly padded example looks at its first frame: attention to nothing would be NaN.
        keys_bt = valid_bt | is_valid(torch.ones_like(num_samples), valid_bt.shape[1])
        x_btd = self.dropout(self.subsample(features_btf, valid_frames) + self.positions)
        for block in self.conformers:
            x_btd = block(x_btd, valid_bt, keys_bt)
        logits: Tensor = self.lin(self.ln(x_btd))
        return logits


def positions(num_frames: int, width: int) -> Tensor:
    """Return sines, then cosines, of each position at geometrically falling frequencies, ``[t, d]``."""
    exponent = torch.arange(width // 2, dtype=torch.float64) / max(width // 2 - 1, 1)
    angles = torch.arange(num_frames, dtype=torch.float64)[:, None] * _LONGEST_PERIOD**-exponent
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
