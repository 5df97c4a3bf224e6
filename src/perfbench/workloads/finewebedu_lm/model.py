"""A decoder-only Transformer: gated feed-forward layers, rotary positions, queries and keys of length one.

Shape suffixes: b rows, t positions, d width, h heads, c channels of a head, n tokens of all rows, v vocabulary.

Parameter names are the published ones. Source: AlgoPerf v1.0, ``finewebedu_lm``, PyTorch; measured figures of its
specification, sections 4 and 8.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from perfbench.workloads.finewebedu_lm.params import Params

_NORM_EPS = 1e-6
_LENGTH_EPS = 1e-6
_ROTARY_BASE = 500_000.0
_INIT_STD = 0.02


class Attention(nn.Module):
    """Causal self-attention with one fused projection, rows for queries, keys and values; no biases."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.num_heads = params.num_heads
        self.is_rotary = params.positions == "rotary"
        self.as_published = params.as_published
        start = torch.tensor(initial_attention_scale(params.row_length))
        self.attn_scale = nn.Parameter(start) if params.normalises_queries_and_keys else None
        self.w_qkv = nn.Linear(params.width, 3 * params.width, bias=False)
        self.w_out = nn.Linear(params.width, params.width, bias=False)

    def forward(self, x_btd: Tensor, cosines_tc: Tensor, sines_tc: Tensor) -> Tensor:
        """Mix each position with those before it.

        Args:
            x_btd: Normalised inputs.
            cosines_tc: Of the angles of each pair of channels, ``[t, c / 2]``.
            sines_tc: Likewise.
        """
        query, key, value = (self._by_head(part) for part in self.w_qkv(x_btd).chunk(3, dim=-1))
        if self.is_rotary:
            query, key = rotated(query, cosines_tc, sines_tc), rotated(key, cosines_tc, sines_tc)
        scale = None
        if self.attn_scale is not None:
            query, key = self._of_length_one(query) * self.attn_scale, self._of_length_one(key)
            scale = 1.0
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
        return cast("Tensor", self.w_out(mixed.transpose(1, 2).flatten(2)))

    def _by_head(self, x_btd: Tensor) -> Tensor:
        """Turn ``[b, t, d]`` into ``[b, h, t, c]``."""
        return x_btd.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # type: ignore[no-any-return]

    def _of_length_one(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scaled: Tensor = x / length + _LENGTH_EPS if self.as_published else x / (length + _LENGTH_EPS)
        return scaled


class GatedFeedForward(nn.Module):
    """``fc2(u * sigmoid(g))`` with ``[u, g] = fc1(x)``; no biases."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.fc1 = nn.Linear(params.width, 2 * params.inner_width, bias=False)
        self.fc2 = nn.Linear(params.inner_width, params.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position by itself."""
        return cast("Tensor", self.fc2(functional.glu(self.fc1(x), dim=-1)))


class PlainFeedForward(nn.Module):
    """``fc2(gelu(fc1(x)))``; no biases."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.fc1 = nn.Linear(params.width, params.inner_width, bias=False)
        self.fc2 = nn.Linear(params.inner_width, params.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position by itself."""
        return cast("Tensor", self.fc2(functional.gelu(self.fc1(x))))


class Block(nn.Module):
    """Attention and feed-forward, each after a norm and added to its input."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.attn = Attention(params)
        self.attn_norm = _norm(params)
        self.mlp = GatedFeedForward(params) if params.feed_forward == "sigmoid_gate" else PlainFeedForward(params)
        self.mlp_norm = _norm(params)

    def forward(self, x_btd: Tensor, cosines_tc: Tensor, sines_tc: Tensor) -> Tensor:
        """Return the same shape."""
        x_btd = x_btd + self.attn(self.attn_norm(x_btd), cosines_tc, sines_tc)
        return cast("Tensor", x_btd + self.mlp(self.mlp_norm(x_btd)))


class LanguageModel(nn.Module):
    """Predicts each token of a row from those before it.

    Args:
        params: Dimensions and variant.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params
        self.embed_tokens = nn.Embedding(params.vocab_size, params.width)
        is_learned = params.positions == "learned"
        self.embed_positions = nn.Embedding(params.row_length, params.width) if is_learned else None
        self.layers = nn.ModuleList(Block(params) for _ in range(params.num_layers))
        self.out_norm = _norm(params)
        self.lm_head = None if params.shares_table else nn.Linear(params.width, params.vocab_size, bias=False)
        angles = rotary_angles(params.row_length, params.head_width)
        self.register_buffer("cosines", angles.cos().to(torch.float32), persistent=False)
        self.register_buffer("sines", angles.sin().to(torch.float32), persistent=False)
        self.cosines: Tensor
        self.sines: Tensor
        self._initialise()

    def forward(self, ids_bt: Tensor, targets_bt: Tensor | None = None, *, label_smoothing: float = 0.0) -> Tensor:
        """Predict.

        Args:
            ids_bt: Integers; at most ``row_length`` positions.
            targets_bt: The tokens to predict, of the same shape.
            label_smoothing: Share of a target that is spread over the vocabulary.

        Returns:
            The cross-entropy of every target in nats ``[b, t]``, for which the logits never exist all at once; without
            targets the logits ``[b, t, v]``.
        """
        hidden = self._hidden(ids_bt)
        table = self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        if targets_bt is None:
            return functional.linear(hidden, table)
        losses_n = chunked_cross_entropy(
            hidden.flatten(0, 1),
            table,
            targets_bt.flatten().long(),
            label_smoothing=label_smoothing,
            chunk_tokens=self.params.loss_chunk_tokens,
        )
        return losses_n.view_as(targets_bt)

    def _hidden(self, ids_bt: Tensor) -> Tensor:
        t = ids_bt.shape[1]
        x = self.embed_tokens(ids_bt)
        if self.embed_positions is not None:
            x = x + self.embed_positions.weight[:t]
        for layer in self.layers:
            x = layer(x, self.cosines[:t], self.sines[:t])
        return cast("Tensor", self.out_norm(x))

    def _initialise(self) -> None:
        """Initialise from the global generator; what adds to the residual stream starts smaller by its depth."""
        residual_std = _INIT_STD / math.sqrt(2 * self.params.num_layers)
        for name, parameter in self.named_parameters():
            is_residual = name.endswith(("attn.w_out.weight", "mlp.fc2.weight"))
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=residual_std if is_residual else _INIT_STD)


def chunked_cross_entropy(
    x_nd: Tensor, table_vd: Tensor, targets_n: Tensor, *, label_smoothing: float, chunk_tokens: int
) -> Tensor:
    """Return the cross-entropy ``[n]`` of ``x @ table.T`` without ever holding more than a chunk of the logits.

    The logits of 64 rows of 1,024 over 50,257 tokens are 13.2 GB. Chunks are computed again for the gradient, which
    costs a fourth matrix product of the head beside its three. (``functional.linear_cross_entropy`` of torch 2.14 keeps
    no logits either, but breaks the graph under ``torch.compile`` and gives no loss for each token.)

    Args:
        x_nd: Final activations.
        table_vd: Of the output.
        targets_n: int64.
        label_smoothing: Share of a target that is spread over the vocabulary.
        chunk_tokens: At most so many rows of logits at once.
    """
    if len(x_nd) <= chunk_tokens:
        return _cross_entropy(x_nd, table_vd, targets_n, label_smoothing)
    losses = [
        checkpoint(_cross_entropy, x, table_vd, targets, label_smoothing, use_reentrant=False, preserve_rng_state=False)
        for x, targets in zip(x_nd.split(chunk_tokens), targets_n.split(chunk_tokens), strict=True)
    ]
    return torch.cat(losses)


def _cross_entropy(x_nd: Tensor, table_vd: Tensor, targets_n: Tensor, label_smoothing: float) -> Tensor:
    logits = functional.linear(x_nd, table_vd)
    return functional.cross_entropy(logits, targets_n, reduction="none", label_smoothing=label_smoothing)


def initial_attention_scale(row_length: int) -> float:
    """Return what the scale of normalised queries starts with.

    >>> round(initial_attention_scale(1024), 6)
    19.99859
    """
    return math.log2(row_length**2 - row_length)


def rotary_angles(num_positions: int, head_width: int) -> Tensor:
    """Return the angles ``[num_positions, head_width / 2]`` by which pairs of channels are turned, in float64.

    >>> rotary_angles(2, 4).tolist()
    [[0.0, 0.0], [1.0, 0.001414213562373095]]
    """
    frequencies = _ROTARY_BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float64) / head_width)
    return torch.arange(num_positions, dtype=torch.float64)[:, None] * frequencies


def rotated(x_bhtc: Tensor, cosines_tc: Tensor, sines_tc: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels ``(2i, 2i + 1)`` by the angle of its position."""
    first, second = x_bhtc[..., 0::2], x_bhtc[..., 1::2]
    pairs = (first * cosines_tc - second * sines_tc, second * cosines_tc + first * sines_tc)
    return torch.stack(pairs, dim=-1).flatten(-2).to(x_bhtc.dtype)


def _norm(params: Params) -> nn.Module:
    if params.norm == "rms":
        return nn.RMSNorm(params.width, eps=_NORM_EPS)
    return nn.LayerNorm(params.width, eps=_NORM_EPS)
