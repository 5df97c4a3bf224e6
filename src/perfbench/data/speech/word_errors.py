"""Greedy decoding, and word errors in the standard form and in the form of the published scores.

The predecessor compared not texts but the display form of string tensors, ``tf.Tensor(b'...', shape=(),
dtype=string)``, split on white space: every utterance has two words that always match, and the first and the last
word carry pieces of that form. All published targets contain it (specification of the data, section 7.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from perfbench.data.speech.front_end import is_valid
from perfbench.data.speech.params import BLANK_ID


class WordErrors(NamedTuple):
    """Over a set of utterances."""

    errors: int
    """Least number of words inserted, deleted or substituted."""
    words: int
    """Of the references."""


def greedy_ids(logits_btv: Tensor, num_frames: Tensor) -> Tensor:
    """Return the best class of each frame, blank where it repeats the one before or is padding, int32 ``[b, t]``."""
    best_bt = logits_btv.argmax(dim=-1).masked_fill(~is_valid(num_frames, logits_btv.shape[1]), BLANK_ID)
    repeats = torch.zeros_like(best_bt, dtype=torch.bool)
    repeats[:, 1:] = best_bt[:, 1:] == best_bt[:, :-1]
    return best_bt.masked_fill(repeats, BLANK_ID).to(torch.int32)


def without_blanks(ids_bt: Tensor) -> list[list[int]]:
    """Return each row's ids without blanks; waits for the device."""
    rows = ids_bt.cpu().numpy()
    return [row[row != BLANK_ID].tolist() for row in rows]


def word_errors(hypotheses: Sequence[str], references: Sequence[str]) -> WordErrors:
    """Count standard word errors.

    >>> word_errors(["HELLO WORD"], ["HELLO WORLD"])
    WordErrors(errors=1, words=2)
    """
    pairs = [
        (hypothesis.split(), reference.split()) for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    errors = sum(Levenshtein.distance(hypothesis, reference) for hypothesis, reference in pairs)
    return WordErrors(errors, sum(len(reference) for _, reference in pairs))


def published_word_errors(hypotheses: Sequence[str], references: Sequence[str]) -> WordErrors:
    """Count word errors as the published scores did.

    >>> published_word_errors(["WORLD"], ["HELLO WORLD"])
    WordErrors(errors=2, words=4)
    """
    return word_errors([_as_displayed(text) for text in hypotheses], [_as_displayed(text) for text in references])


def _as_displayed(text: str) -> str:
    return f"tf.Tensor({text.encode()!r}, shape=(), dtype=string)"
