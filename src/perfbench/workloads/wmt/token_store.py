"""Token sequences on disk: flat uint16 arrays with int64 offsets, mapped into memory and never loaded whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfbench.results.files import atomic_file

FORMAT_VERSION = 1
SIDES = ("de", "en")

Tokens = NDArray[np.uint16]


def file_names(corpus: str) -> list[str]:
    """Return the four files of a corpus."""
    return [f"{corpus}.{side}.{kind}" for side in SIDES for kind in ("tokens", "offsets")]


def write_side(folder: Path, corpus: str, side: str, sequences: Iterable[Sequence[Tokens]]) -> int:
    """Write one language of a corpus, given in blocks; return the number of sequences."""
    lengths: list[int] = []
    with atomic_file(folder / f"{corpus}.{side}.tokens") as file:
        for block in sequences:
            lengths += [len(tokens) for tokens in block]
            file.write(np.concatenate(block).astype("<u2").tobytes())
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("<i8")
    with atomic_file(folder / f"{corpus}.{side}.offsets") as file:
        file.write(offsets.tobytes())
    return len(lengths)


class Side:
    """One language of several corpora, numbered over all of them together."""

    def __init__(self, folder: Path, corpora: Sequence[str], side: str) -> None:
        names = [f"{corpus}.{side}" for corpus in corpora]
        self._tokens = [np.memmap(folder / f"{name}.tokens", dtype="<u2", mode="r") for name in names]
        self._offsets = [np.memmap(folder / f"{name}.offsets", dtype="<i8", mode="r") for name in names]
        self._ends = np.cumsum([len(offsets) - 1 for offsets in self._offsets])

    def lengths(self) -> NDArray[np.int64]:
        """Return the number of tokens of every sequence, EOS included."""
        return np.concatenate([np.diff(offsets) for offsets in self._offsets])

    def __len__(self) -> int:
        """Return the number of sequences."""
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Tokens:
        """Return one sequence, without a copy."""
        part = int(np.searchsorted(self._ends, number, side="right"))
        offsets = self._offsets[part]
        local = number - (int(self._ends[part - 1]) if part else 0)
        return self._tokens[part][offsets[local] : offsets[local + 1]]


class PairStore:
    """Both languages of a split."""

    def __init__(self, folder: Path, corpora: Sequence[str]) -> None:
        self.sources, self.targets = (Side(folder, corpora, side) for side in SIDES)
