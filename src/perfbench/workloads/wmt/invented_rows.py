"""Rows of sentence pairs that nobody wrote, in the form of the training rows and of the evaluated pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from perfbench.api.workload import Batch
from perfbench.data.inventing import Inventor
from perfbench.workloads.wmt.data import batch_of_rows
from perfbench.workloads.wmt.packing import IntArray, row_starts
from perfbench.workloads.wmt.params import EOS_ID, Params
from perfbench.workloads.wmt.token_store import Tokens

_MEAN_LENGTH = 30
"""Tokens of a sentence of the public training data, EOS included, about."""
_SPREAD = 0.6
"""Standard deviation of the logarithm of lengths."""
_SIDE_SPREAD = 0.15
"""The same of a translation's length over its original's."""
_SHORTEST = 2


def invented_rows(drawn: Inventor, params: Params, num_rows: int) -> Batch:
    """Return training rows: packed in the order of random pairs, or one pair in each."""
    sources, targets = _lengths(drawn, params, num_rows)
    starts = np.arange(num_rows + 1)
    if params.batching == "packed":
        starts = np.asarray([0])
        while len(starts) <= num_rows:
            more = _lengths(drawn, params, num_rows)
            sources, targets = np.concatenate([sources, more[0]]), np.concatenate([targets, more[1]])
            starts = row_starts(sources, targets, row_length=params.row_length)[:-1]
    rows = list(pairwise(starts[: num_rows + 1].tolist()))
    return batch_of_rows(
        [_sentences(drawn, params, sources[first:last]) for first, last in rows],
        [_sentences(drawn, params, targets[first:last]) for first, last in rows],
        row_length=params.row_length,
    )


def invented_pairs(drawn: Inventor, params: Params, num_rows: int) -> Batch:
    """Return rows of one sentence, without weights; shortest source first, as in evaluation."""
    sources, targets = _lengths(drawn, params, num_rows)
    order = np.argsort(sources, kind="stable")
    return batch_of_rows(
        [_sentences(drawn, params, sources[[row]]) for row in order],
        [_sentences(drawn, params, targets[[row]]) for row in order],
        row_length=params.row_length,
    )


def _lengths(drawn: Inventor, params: Params, count: int) -> tuple[IntArray, IntArray]:
    """Return the lengths of both sides of pairs, log-normal, none longer than a row."""
    mean = min(_MEAN_LENGTH, params.row_length / 2)
    own = mean * torch.exp(_SPREAD * drawn.normal(count) - _SPREAD**2 / 2)
    other = own * torch.exp(_SIDE_SPREAD * drawn.normal(count))
    sides = [lengths.to(torch.int64).clamp(_SHORTEST, params.row_length).numpy() for lengths in (own, other)]
    return sides[0], sides[1]


def _sentences(drawn: Inventor, params: Params, lengths: IntArray) -> list[Tokens]:
    """Return sentences whose words follow Zipf's law and that end in EOS."""
    first_word = EOS_ID + 1
    words = drawn.ranks(params.vocab_size - first_word, int(lengths.sum())).numpy() + first_word
    ends = np.cumsum(lengths)
    words[ends - 1] = EOS_ID
    return np.split(words.astype(np.uint16), ends[:-1])
