"""Beam search over any model that gives logits of the next token; all sentences and beams of a batch at once.

Beams that survive are not copied: the caller is told, for each beam and position, which beam wrote there
(``ancestors``), and attends to those slots. Source: AlgoPerf wmt specification, section 6.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from perfbench.workloads.wmt.params import EOS_ID, START_ID

NextLogits = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(tokens [b, k], index [], ancestors [b, k, t])`` to logits ``[b, k, v]``."""

_NEVER = -1e7
_CHECK_EVERY = 8
"""Steps between two looks at the stop condition: each look waits for the device, and steps too many change nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BeamSearch:
    """How to search.

    Args:
        num_beams: Live sequences per sentence, and finished ones that are kept.
        max_length: Positions of a sequence, the start included.
        length_penalty: Exponent of ``(5 + length) / 6``.
    """

    num_beams: int
    max_length: int
    length_penalty: float

    def penalty(self, length: Tensor | int) -> Tensor:
        """Return what the log-probability of a sentence of ``length`` tokens (EOS included) is divided by."""
        return ((5.0 + torch.as_tensor(length, dtype=torch.float64)) / 6.0) ** self.length_penalty

    def run(self, next_logits: NextLogits, *, num_sentences: int, device: torch.device) -> Found:
        """Search for the best sentences of a batch."""
        state = self._start(num_sentences, device)
        for index in range(self.max_length - 1):
            at = torch.tensor(index, device=device)
            logits = next_logits(state.tokens[:, :, index], at, state.ancestors)
            state = self._extended(state, logits, index)
            if index % _CHECK_EVERY == _CHECK_EVERY - 1 and bool(self._is_decided(state).all()):
                break
        return Found(
            tokens=torch.where(state.is_finished[:, :, None], state.finished, state.tokens),
            scores=torch.where(state.is_finished, state.finished_scores, state.log_probs),
            is_finished=state.is_finished,
        )

    def _start(self, b: int, device: torch.device) -> _State:
        k, t = self.num_beams, self.max_length
        log_probs = torch.full((b, k), _NEVER, device=device)
        log_probs[:, 0] = 0.0
        return _State(
            tokens=torch.full((b, k, t), START_ID, dtype=torch.int64, device=device),
            log_probs=log_probs,
            ancestors=torch.arange(k, device=device)[None, :, None].repeat(b, 1, t),
            finished=torch.zeros((b, k, t), dtype=torch.int64, device=device),
            finished_scores=torch.full((b, k), _NEVER, device=device),
            is_finished=torch.zeros((b, k), dtype=torch.bool, device=device),
        )

    def _extended(self, state: _State, logits: Tensor, index: int) -> _State:
        """Extend every live sequence by its best tokens; move those that end to the finished ones."""
        k = self.num_beams
        precise = torch.promote_types(logits.dtype, torch.float32)
        log_probs = torch.log_softmax(logits, dim=-1, dtype=precise) + state.log_probs[:, :, None]
        values, parents, chosen = _best_candidates(log_probs, 2 * k)
        tokens = _rows(state.tokens, parents)
        tokens[:, :, index + 1] = chosen
        ends = chosen == EOS_ID
        live_values, live = (values + ends * _NEVER).topk(k)
        ancestors = _rows(_rows(state.ancestors, parents), live)
        ancestors[:, :, index + 1] = torch.arange(k, device=ancestors.device)
        scores = values / self.penalty(index + 1).to(values) + ~ends * _NEVER
        finished_scores, kept = torch.cat([state.finished_scores.to(scores), scores], dim=1).topk(k)
        return _State(
            tokens=_rows(tokens, live),
            log_probs=live_values,
            ancestors=ancestors,
            finished=_rows(torch.cat([state.finished, tokens], dim=1), kept),
            finished_scores=finished_scores,
            is_finished=torch.cat([state.is_finished, ends], dim=1).gather(1, kept),
        )

    def _is_decided(self, state: _State) -> Tensor:
        """Tell for each sentence whether no live sequence can overtake a finished one any more."""
        best_possible = state.log_probs.amax(dim=1) / self.penalty(self.max_length).to(state.log_probs)
        return state.is_finished.all(dim=1) & (state.finished_scores.amin(dim=1) > best_possible)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Sequences of each sentence, best first: finished ones, and live ones where a slot was never filled."""

    tokens: Tensor
    """int64 ``[b, k, t]``: the start id, the tokens, and after EOS anything."""
    scores: Tensor
    """``[b, k]``: log-probability over penalty of finished ones, plain log-probability of live ones."""
    is_finished: Tensor
    """bool ``[b, k]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    tokens: Tensor
    log_probs: Tensor
    ancestors: Tensor
    finished: Tensor
    finished_scores: Tensor
    is_finished: Tensor


def _best_candidates(log_probs_bkv: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return value, parent beam and token of the best extensions, each ``[b, count]``.

    The best of each beam first, then the best of these: the same candidates, without sorting all beams' words.
    """
    per_beam = min(count, log_probs_bkv.shape[-1])
    values, tokens = log_probs_bkv.topk(per_beam, dim=-1)
    best, where = values.flatten(1).topk(count, dim=1)
    return best, where // per_beam, tokens.flatten(1).gather(1, where)


def _rows(x_bkt: Tensor, index_bn: Tensor) -> Tensor:
    """Return rows of each sentence, ``[b, n, t]``."""
    return x_bkt.gather(1, index_bn[:, :, None].expand(-1, -1, x_bkt.shape[2]))
