"""Sentence pairs to rows of fixed length: which pairs share a row, and the arrays of a batch of rows.

A pair joins the open row while both of its sides still fit; otherwise the row is closed. The published pipeline
also closed the row after every 256 pairs. Source: AlgoPerf wmt specification, sections 3 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perfbench.workloads.wmt.token_store import Tokens

IntArray = NDArray[np.int64]


def row_starts(sources: IntArray, targets: IntArray, *, row_length: int, group_size: int | None = None) -> IntArray:
    """Return where rows start in a sequence of pairs, and its end: row ``i`` holds pairs ``[i]`` to ``[i + 1]``.

    Args:
        sources: Tokens of each source, at most ``row_length``.
        targets: Tokens of each target, at most ``row_length``.
        row_length: Tokens of a row on each side.
        group_size: Close the row after every so many pairs.

    >>> row_starts(np.asarray([3, 4, 4]), np.asarray([2, 3, 6]), row_length=10).tolist()
    [0, 2, 3]
    """
    count = len(sources)
    ends = np.minimum(_first_that_overflows(sources, row_length), _first_that_overflows(targets, row_length))
    if group_size is not None:
        ends = np.minimum(ends, (np.arange(count) // group_size + 1) * group_size)
    next_start: list[int] = ends.tolist()
    starts, at = [0], 0
    while at < count:
        at = next_start[at]
        starts.append(at)
    return np.asarray(starts, dtype=np.int64)


def filled(rows: Sequence[Sequence[Tokens]], *, row_length: int) -> dict[str, NDArray[np.int32]]:
    """Return ids, positions in the sentence, and sentence numbers from 1 of one side of rows; 0 where padded.

    Padding is where the sentence number is 0: an unknown piece has id 0 too, and is a token like any other.

    Args:
        rows: The sentences of each row; together no longer than ``row_length``.
        row_length: Second dimension of each array.
    """
    arrays = {name: np.zeros((len(rows), row_length), dtype=np.int32) for name in ("ids", "positions", "segments")}
    steps = np.arange(row_length, dtype=np.int32)
    for row, sentences in enumerate(rows):
        start = 0
        for number, sentence in enumerate(sentences, start=1):
            end = start + len(sentence)
            arrays["ids"][row, start:end] = sentence
            arrays["positions"][row, start:end] = steps[: len(sentence)]
            arrays["segments"][row, start:end] = number
            start = end
    return arrays


def _first_that_overflows(lengths: IntArray, row_length: int) -> IntArray:
    """Return, for a row opened at each pair, the first later pair that no longer fits."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return np.searchsorted(ends, ends[:-1] + row_length, side="right") - 1
