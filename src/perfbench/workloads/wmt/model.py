"""An encoder-decoder Transformer with one table for sources, targets and output.

Shape suffixes: b rows, s source positions, t target positions, k beams, d width, h heads, c channels of a head,
v vocabulary, m cached slots.

One ``forward`` serves training, encoding and one decoding step, so that whatever wraps the model (compilation)
serves all three. Source: AlgoPerf wmt, measured figures of its specification, sections 4 and 11.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.data.modules import AuxiliaryDropout
from perfbench.workloads.wmt.params import START_ID, Params

_LAYER_NORM_EPS = 1e-6
_BIAS_STD = 1e-6
_LONGEST_WAVE = 10_000.0


class Side(NamedTuple):
    """One language of a batch of rows, each ``[b, positions]``."""

    ids: Tensor
    positions: Tensor
    """Counted from 0 in each sentence."""
    segments: Tensor
    """Number of the sentence in its row from 1; 0 where padded. Padding is never told by an id."""


class Pairs(NamedTuple):
    """Rows of sentence pairs: ask for logits of every target token."""

    sources: Side
    targets: Side


class KeysValues(NamedTuple):
    """What queries attend to, each ``[b, h, slots, c]``."""

    keys: Tensor
    values: Tensor


class Step(NamedTuple):
    """One decoding step of all beams: ask for logits of the next token."""

    tokens_bk: Tensor
    """The last token of each beam."""
    position: Tensor
    """Scalar int64: of those tokens."""
    ancestors_bkt: Tensor
    """For each beam and position, which beam of the sentence wrote the token there."""
    memory: tuple[KeysValues, ...]
    """Of each decoder layer: the projected source, once per sentence."""
    source_mask_bs: Tensor
    cache: tuple[KeysValues, ...]
    """Of each decoder layer ``[b, h, t * k, c]``: position-major slots of all beams; written in place."""


class SelfAttention(nn.Module):
    """Multi-head attention with one fused projection of queries, keys and values; no biases."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.num_heads, self.temperature = params.num_heads, params.attention_temp
        self.qkv = nn.Linear(params.width, 3 * params.width, bias=False)
        self.out = nn.Linear(params.width, params.width, bias=False)
        self.weight_dropout = AuxiliaryDropout(params.dropout_rate)

    def forward(self, x_btd: Tensor, mask: Tensor) -> Tensor:
        """Attend from each position to those that ``mask`` (True: may) allows."""
        query, key, value = self._projected(x_btd)
        return self.out(_attend(query, KeysValues(key, value), mask, self.weight_dropout))  # type: ignore[no-any-return]

    def step(self, x_bkd: Tensor, cache: KeysValues, slots: Tensor, mask: Tensor) -> Tensor:
        """Write the beams' keys and values into ``slots`` and attend to the cache."""
        query, key, value = self._projected(x_bkd)
        cache.keys.index_copy_(2, slots, key)
        cache.values.index_copy_(2, slots, value)
        return self.out(_attend(query, cache, mask, self.weight_dropout))  # type: ignore[no-any-return]

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        heads = self.num_heads
        return _split(query * self.temperature, heads), _split(key, heads), _split(value, heads)


class CrossAttention(nn.Module):
    """Attention from target to source: queries from the one, fused keys and values from the other; no biases."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.num_heads, self.temperature = params.num_heads, params.attention_temp
        self.query = nn.Linear(params.width, params.width, bias=False)
        self.kv = nn.Linear(params.width, 2 * params.width, bias=False)
        self.out = nn.Linear(params.width, params.width, bias=False)
        self.weight_dropout = AuxiliaryDropout(params.dropout_rate)

    def project(self, encoded_bsd: Tensor) -> KeysValues:
        """Return keys and values of the source."""
        key, value = self.kv(encoded_bsd).chunk(2, dim=-1)
        return KeysValues(_split(key, self.num_heads), _split(value, self.num_heads))

    def forward(self, x_btd: Tensor, memory: KeysValues, mask: Tensor) -> Tensor:
        """Attend from target positions (or beams) to source positions."""
        query = _split(self.query(x_btd) * self.temperature, self.num_heads)
        return self.out(_attend(query, memory, mask, self.weight_dropout))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers around ReLU, or around a tanh gate."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.inner = nn.Linear(params.width, params.feed_forward_width)
        is_gated = params.feed_forward == "glu_tanh"
        self.gate = nn.Linear(params.width, params.feed_forward_width) if is_gated else None
        self.outer = nn.Linear(params.feed_forward_width, params.width)
        self.dropout = nn.Dropout(params.dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position by itself."""
        inner = self.inner(x)
        hidden = torch.relu(inner) if self.gate is None else torch.tanh(inner) * self.gate(x)
        return self.outer(self.dropout(hidden))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A layer norm and a dropout around a sub-layer's contribution: ``x + f(norm(x))`` or ``norm(x + f(x))``."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.norm = _norm(params)
        self.dropout = nn.Dropout(params.dropout_rate)
        self.is_pre = params.norm == "pre"

    def before(self, x: Tensor) -> Tensor:
        """Return the sub-layer's input."""
        return self.norm(x) if self.is_pre else x

    def after(self, x: Tensor, contribution: Tensor) -> Tensor:
        """Return the sum with the sub-layer's output."""
        total = x + self.dropout(contribution)
        return total if self.is_pre else self.norm(total)  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.attention, self.around_attention = SelfAttention(params), Residual(params)
        self.feed_forward, self.around_feed_forward = FeedForward(params), Residual(params)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the same shape."""
        around = self.around_attention
        x = around.after(x, self.attention(around.before(x), mask))
        around = self.around_feed_forward
        return around.after(x, self.feed_forward(around.before(x)))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.attention, self.around_attention = SelfAttention(params), Residual(params)
        self.cross, self.around_cross = CrossAttention(params), Residual(params)
        self.feed_forward, self.around_feed_forward = FeedForward(params), Residual(params)

    def forward(self, x: Tensor, memory: KeysValues, mask: Tensor, cross_mask: Tensor) -> Tensor:
        """Return the same shape, for all positions at once."""
        around = self.around_attention
        x = around.after(x, self.attention(around.before(x), mask))
        return self._rest(x, memory, cross_mask)

    def step(self, x: Tensor, step: Step, layer: int, slots: Tensor, mask: Tensor) -> Tensor:
        """Return ``[b, k, d]`` for one position of all beams."""
        around = self.around_attention
        x = around.after(x, self.attention.step(around.before(x), step.cache[layer], slots, mask))
        return self._rest(x, step.memory[layer], step.source_mask_bs[:, None, None])

    def _rest(self, x: Tensor, memory: KeysValues, cross_mask: Tensor) -> Tensor:
        around = self.around_cross
        x = around.after(x, self.cross(around.before(x), memory, cross_mask))
        around = self.around_feed_forward
        return around.after(x, self.feed_forward(around.before(x)))


class Transformer(nn.Module):
    """Translates: logits of target tokens, the projected source, or one step of beams.

    Args:
        params: Dimensions and variant.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params
        self.embedding = nn.Embedding(params.vocab_size, params.width)
        self.embedding_dropout = nn.Dropout(params.dropout_rate)
        self.encoder = nn.ModuleList(EncoderLayer(params) for _ in range(params.num_layers))
        self.decoder = nn.ModuleList(DecoderLayer(params) for _ in range(params.num_layers))
        is_pre = params.norm == "pre"
        self.encoder_norm = _norm(params) if is_pre else nn.Identity()
        self.decoder_norm = _norm(params) if is_pre else nn.Identity()
        self.register_buffer("waves", sinusoids(params.row_length, params.width), persistent=False)
        self.waves: Tensor
        self._initialise()

    def forward(self, work: Pairs | Side | Step) -> Tensor | tuple[KeysValues, ...]:
        """Do one of three kinds of work.

        Returns:
            For ``Pairs`` logits ``[b, t, v]``; for a ``Side`` (sources) each decoder layer's keys and values; for a
            ``Step`` logits ``[b, k, v]``.
        """
        if isinstance(work, Pairs):
            return self._logits_of_pairs(work)
        if isinstance(work, Step):
            return self._logits_of_step(work)
        return self._memory(work)

    def _logits_of_pairs(self, pairs: Pairs) -> Tensor:
        targets = pairs.targets
        x = self._embedded(self._decoder_inputs(targets), targets.positions)
        t = targets.ids.shape[1]
        causal = torch.ones(t, t, dtype=torch.bool, device=x.device).tril()
        mask = _same_segment(targets.segments, targets.segments) & causal
        # Padded queries may attend anywhere: no row of the mask is empty, so none can become NaN.
        is_padded = (targets.segments == 0)[:, None, :, None]
        cross_mask = _same_segment(targets.segments, pairs.sources.segments) | is_padded
        for layer, memory in zip(self.decoder, self._memory(pairs.sources), strict=True):
            x = layer(x, memory, mask, cross_mask)
        return self._logits(x)

    def _memory(self, sources: Side) -> tuple[KeysValues, ...]:
        x = self._embedded(sources.ids, sources.positions)
        mask = _same_segment(sources.segments, sources.segments)
        for layer in self.encoder:
            x = layer(x, mask)
        x = self.encoder_norm(x)
        return tuple(layer.cross.project(x) for layer in self.decoder)  # type: ignore[operator, union-attr]

    def _logits_of_step(self, step: Step) -> Tensor:
        num_beams, length = step.ancestors_bkt.shape[1:]
        beams = torch.arange(num_beams, device=step.position.device)
        is_past = torch.arange(length, device=step.position.device) <= step.position
        is_ancestor = (step.ancestors_bkt[..., None] == beams) & is_past[:, None]
        mask = is_ancestor.flatten(2)[:, None]
        slots = step.position * num_beams + beams
        x = self._embedded(step.tokens_bk, step.position)
        for number, layer in enumerate(self.decoder):
            x = layer.step(x, step, number, slots, mask)  # type: ignore[operator]
        return self._logits(x)

    def _decoder_inputs(self, targets: Side) -> Tensor:
        """Return the target ids one position later.

        Every sentence begins with the start id, as in decoding; in the published form only the first of a row.
        """
        shifted = functional.pad(targets.ids[:, :-1], (1, 0), value=START_ID)
        return shifted if self.params.as_published else shifted.masked_fill(targets.positions == 0, START_ID)

    def _embedded(self, ids: Tensor, positions: Tensor) -> Tensor:
        # Not waves[positions]: one position in a tensor without dimensions would be read on the host.
        waves = functional.embedding(positions, self.waves)
        embedded: Tensor = self.embedding_dropout(self.embedding(ids) + waves)
        return embedded

    def _logits(self, x: Tensor) -> Tensor:
        return functional.linear(self.decoder_norm(x), self.embedding.weight) / math.sqrt(self.params.width)

    def _initialise(self) -> None:
        """Initialise from the global generator: fused matrices by their stored shape, as published in PyTorch."""
        nn.init.normal_(self.embedding.weight)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=_BIAS_STD)


def sinusoids(num_positions: int, width: int) -> Tensor:
    """Return fixed position codes ``[num_positions, width]``: all sines, then all cosines.

    >>> [round(value, 4) for value in sinusoids(2, 8)[1].tolist()]
    [0.8415, 0.0464, 0.0022, 0.0001, 0.5403, 0.9989, 1.0, 1.0]
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
    angles = torch.arange(num_positions, dtype=torch.float64)[:, None] * torch.exp(-math.log(_LONGEST_WAVE) * steps)
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(torch.float32)


def _attend(query: Tensor, to: KeysValues, mask: Tensor, dropout: nn.Dropout) -> Tensor:
    rate = dropout.p if dropout.training else 0.0
    mixed = functional.scaled_dot_product_attention(query, to.keys, to.values, attn_mask=mask, dropout_p=rate)
    return mixed.transpose(1, 2).flatten(2)


def _split(x: Tensor, num_heads: int) -> Tensor:
    """Turn ``[b, n, d]`` into ``[b, h, n, c]``."""
    heads: Tensor = x.unflatten(-1, (num_heads, -1))
    return heads.transpose(1, 2)


def _same_segment(queries: Tensor, keys: Tensor) -> Tensor:
    """Return ``[b, 1, queries, keys]``; padding attends to padding, which reaches no loss."""
    return (queries[:, :, None] == keys[:, None, :])[:, None]


def _norm(params: Params) -> nn.LayerNorm:
    return nn.LayerNorm(params.width, eps=_LAYER_NORM_EPS)
