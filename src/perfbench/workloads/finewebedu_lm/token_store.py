"""Tokens on disk: flat uint16 files, one for each public file and split, with the ends of documents beside them.

The files of a split follow one another and are cut into rows of equal length, without a gap or an overlap; a row may
hold the end of one document, or file, and the beginning of the next. Files are mapped into memory, never loaded whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfbench.errors import DataError
from perfbench.results.files import atomic_file
from perfbench.workloads.finewebedu_lm.params import StoredSplit
from perfbench.workloads.finewebedu_lm.splits import SPLITS, SplitNumbers

FORMAT_VERSION = 1

Tokens = NDArray[np.uint16]


def file_names(split: StoredSplit, number: int) -> tuple[str, str]:
    """Return the files of a split's part of public file ``number``: tokens, and where each document ends.

    >>> file_names("train", 3)
    ('train.00003.tokens', 'train.00003.ends')
    """
    return f"{split}.{number:05d}.tokens", f"{split}.{number:05d}.ends"


def write_documents(
    folder: Path, number: int, blocks: Iterable[Sequence[Tokens]], splits: SplitNumbers
) -> dict[StoredSplit, int]:
    """Deal the documents of a public file to the splits and write them; return each split's tokens.

    Args:
        folder: Of the prepared data.
        number: Of the public file.
        blocks: Its documents as tokens, in order.
        splits: The split of each of them.
    """
    lengths = np.zeros(len(splits), dtype=np.int64)
    first = 0
    with ExitStack() as open_files:
        files = [open_files.enter_context(atomic_file(folder / file_names(split, number)[0])) for split in SPLITS]
        for block in blocks:
            for document, split in zip(block, splits[first : first + len(block)].tolist(), strict=True):
                files[split].write(document.astype("<u2", copy=False).tobytes())
            lengths[first : first + len(block)] = [len(document) for document in block]
            first += len(block)
    num_tokens: dict[StoredSplit, int] = {}
    for index, split in enumerate(SPLITS):
        ends = np.cumsum(lengths[splits == index])
        with atomic_file(folder / file_names(split, number)[1]) as file:
            file.write(ends.astype("<i8").tobytes())
        num_tokens[split] = int(ends[-1]) if len(ends) else 0
    return num_tokens


class Rows:
    """The rows of a split.

    Args:
        folder: Of the prepared data.
        split: Which.
        num_columns: Tokens of a row.

    Raises:
        DataError: If the split has no file (one without tokens is one).
    """

    def __init__(self, folder: Path, split: StoredSplit, *, num_columns: int) -> None:
        paths = sorted(folder.glob(f"{split}.*.tokens"))
        if not paths:
            raise DataError(f"no file {split}.*.tokens", where=str(folder), hint="prepare the data again")
        self._files = [np.memmap(path, dtype="<u2", mode="r") for path in paths if path.stat().st_size]
        self._ends = np.cumsum([len(file) for file in self._files], dtype=np.int64)
        self._num_columns = num_columns
        self.num_tokens = int(self._ends[-1]) if self._files else 0

    def __len__(self) -> int:
        """Return the number of whole rows."""
        return self.num_tokens // self._num_columns

    def read(self, numbers: Iterable[int]) -> NDArray[np.int32]:
        """Return rows ``[n, num_columns]``."""
        found = [self._row(number * self._num_columns) for number in numbers]
        return np.stack(found).astype(np.int32) if found else np.zeros((0, self._num_columns), dtype=np.int32)

    def _row(self, start: int) -> Tokens:
        """Return ``num_columns`` tokens from position ``start`` of the split on."""
        place = int(np.searchsorted(self._ends, start, side="right"))
        local = start - (int(self._ends[place - 1]) if place else 0)
        row = self._files[place][local : local + self._num_columns]
        while len(row) < self._num_columns:  # it goes on in the next file
            place += 1
            row = np.concatenate([row, self._files[place][: self._num_columns - len(row)]])
        return row
