"""A vision transformer of small width on square patches, without a class token.

Shape suffixes: b images, n tokens, d width, h heads, c channels of a head, m MLP width.

Written here because torchvision's has a class token, learned positions, another GELU and one matrix for queries, keys
and values; its encoder block is the tests' oracle. Source: AlgoPerf imagenet_vit (PyTorch), measured figures of its
specification, sections 2 and 7. Parameters are in the order of the forward pass, in which section 7 lists them; the
reference's modules register them in another one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.data.images.transforms import normalised
from perfbench.data.initialisation import lecun_normal_
from perfbench.workloads.imagenet_vit.params import Params

_LAYER_NORM_EPS = 1e-6
_BIAS_STD = 1e-6
_LONGEST_WAVE = 10_000.0


class Attention(nn.Module):
    """Self-attention of tokens; queries, keys and values have matrices of their own, so that each has its role."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.query = nn.Linear(params.width, params.width)
        self.key = nn.Linear(params.width, params.width)
        self.value = nn.Linear(params.width, params.width)
        self.out = nn.Linear(params.width, params.width)
        self.weight_dropout = nn.Dropout(params.dropout_rate)
        self._num_heads = params.num_heads
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_bnd: Tensor) -> Tensor:
        """Return ``[b, n, d]``."""
        heads = self._num_heads
        query, key, value = (_split(layer(x_bnd), heads) for layer in (self.query, self.key, self.value))
        return self.out(_attend(query, key, value, self.weight_dropout))  # type: ignore[no-any-return]


class PoolingAttention(nn.Module):
    """Attention of one learned query to all tokens; keys and values share a matrix."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.query = nn.Linear(params.width, params.width)
        self.key_value = nn.Linear(params.width, 2 * params.width)
        self.out = nn.Linear(params.width, params.width)
        self.weight_dropout = nn.Dropout(params.dropout_rate)
        self._num_heads = params.num_heads
        for layer in (self.query, self.key_value, self.out):
            _initialise_dense(layer)  # the fused matrix by its stored shape, as published in PyTorch

    def forward(self, probe_bqd: Tensor, x_bnd: Tensor) -> Tensor:
        """Return ``[b, q, d]``."""
        heads = self._num_heads
        key, value = self.key_value(x_bnd).chunk(2, dim=-1)
        query = _split(self.query(probe_bqd), heads)
        return self.out(_attend(query, _split(key, heads), _split(value, heads), self.weight_dropout))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Two linear layers around GELU (tanh approximation).

    With a gate, the activated hidden layer is multiplied by a linear function of itself: not of the block's input, as
    gates usually are.
    """

    def __init__(self, params: Params, *, is_gated: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(params.width, params.mlp_width)
        self.gate = nn.Linear(params.mlp_width, params.mlp_width) if is_gated else None
        self.outer = nn.Linear(params.mlp_width, params.width)
        self.dropout = nn.Dropout(params.dropout_rate)
        for layer in (self.inner, self.gate, self.outer):
            if layer is not None:
                _initialise_dense(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Map each token by itself."""
        hidden_m = functional.gelu(self.inner(x), approximate="tanh")
        if self.gate is not None:
            hidden_m = hidden_m * self.gate(hidden_m)
        return self.outer(self.dropout(hidden_m))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then the MLP, each added to its input: ``x + f(norm(x))``, or ``norm(x + f(x))``."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.attention_norm = _norm(params)
        self.attention = Attention(params)
        self.mlp_norm = _norm(params)
        self.mlp = Mlp(params, is_gated=params.mlp == "glu")
        self.dropout = nn.Dropout(params.dropout_rate)
        self._is_pre = params.norm == "pre"

    def forward(self, x_bnd: Tensor) -> Tensor:
        """Return the same shape."""
        if self._is_pre:
            x_bnd = x_bnd + self.dropout(self.attention(self.attention_norm(x_bnd)))
            return x_bnd + self.dropout(self.mlp(self.mlp_norm(x_bnd)))  # type: ignore[no-any-return]
        x_bnd = self.attention_norm(x_bnd + self.dropout(self.attention(x_bnd)))
        return self.mlp_norm(x_bnd + self.dropout(self.mlp(x_bnd)))  # type: ignore[no-any-return]


class AttentionPooling(nn.Module):
    """One token out of many: attention of a learned query, then an MLP added to its result; never gated."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, params.width))
        self.attention = PoolingAttention(params)
        self.norm = _norm(params)
        self.mlp = Mlp(params, is_gated=False)
        nn.init.xavier_uniform_(self.probe)

    def forward(self, x_bnd: Tensor) -> Tensor:
        """Return ``[b, d]``."""
        pooled = self.attention(self.probe.expand(len(x_bnd), -1, -1), x_bnd)
        pooled = pooled + self.mlp(self.norm(pooled))
        return pooled[:, 0]  # type: ignore[no-any-return]


class MeanPooling(nn.Module):
    """The mean of all tokens."""

    def forward(self, x_bnd: Tensor) -> Tensor:
        """Return ``[b, d]``."""
        return x_bnd.mean(dim=1)


class VisionTransformer(nn.Module):
    """Predicts the logits of the classes from images.

    All logits are 0 before the first step: the last layer starts at 0.

    Args:
        params: Dimensions and variant.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, params.width, kernel_size=params.patch_side, stride=params.patch_side)
        self.dropout = nn.Dropout(params.dropout_rate)
        self.blocks = nn.Sequential(*(Block(params) for _ in range(params.num_blocks)))
        self.encoder_norm = _norm(params) if params.norm == "pre" else nn.Identity()
        self.pooling = AttentionPooling(params) if params.pooling == "attention" else MeanPooling()
        self.pre_logits = nn.Linear(params.width, params.width)
        self.head = nn.Linear(params.width, params.num_classes)
        codes = positions(params.crop_side // params.patch_side, params.width)
        self.register_buffer("positions", codes, persistent=False)
        self.positions: Tensor
        for layer in (self.patches, self.pre_logits):
            lecun_normal_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # both have one
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[b, classes]`` of bytes (or blends of bytes) ``[b, 3, side, side]``."""
        return self.logits(normalised(images, self.head.weight.dtype))

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits ``[b, classes]`` of normalised pixels ``[b, 3, side, side]``."""
        x_bnd = self.patches(pixels).flatten(2).transpose(1, 2)
        x_bnd = self.blocks(self.dropout(x_bnd + self.positions))
        pooled_bd = self.pooling(self.encoder_norm(x_bnd))
        return self.head(torch.tanh(self.pre_logits(pooled_bd)))  # type: ignore[no-any-return]


def positions(grid_side: int, width: int) -> Tensor:
    """Return fixed codes of the places of a square grid, row by row, ``[grid_side ** 2, width]``.

    A quarter of the width each: sines and cosines of the column, sines and cosines of the row.
    """
    num_waves = width // 4
    steps = torch.arange(num_waves, dtype=torch.float64) / max(num_waves - 1, 1)
    angles = torch.arange(grid_side, dtype=torch.float64)[:, None] * _LONGEST_WAVE**-steps
    codes = torch.cat([angles.sin(), angles.cos()], dim=1).to(torch.float32)
    return torch.cat([codes.repeat(grid_side, 1), codes.repeat_interleave(grid_side, dim=0)], dim=1)


def _attend(query_bhnc: Tensor, key_bhnc: Tensor, value_bhnc: Tensor, dropout: nn.Dropout) -> Tensor:
    """Return the heads' results side by side, ``[b, n, d]``."""
    rate = dropout.p if dropout.training else 0.0
    attended = functional.scaled_dot_product_attention(query_bhnc, key_bhnc, value_bhnc, dropout_p=rate)
    return attended.transpose(1, 2).flatten(2)


def _split(x_bnd: Tensor, num_heads: int) -> Tensor:
    """Return ``[b, h, n, c]``."""
    heads: Tensor = x_bnd.unflatten(-1, (num_heads, -1))
    return heads.transpose(1, 2)


def _norm(params: Params) -> nn.LayerNorm:
    return nn.LayerNorm(params.width, eps=_LAYER_NORM_EPS)


def _initialise_dense(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.normal_(layer.bias, std=_BIAS_STD)
