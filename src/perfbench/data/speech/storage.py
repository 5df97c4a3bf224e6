"""The prepared form: 16-bit samples one after another in shards, and for each split an index and its labels.

``<subset>.<nnn>.i16`` holds little-endian int16 samples. ``<split>.examples.npy`` has a row for each example, sorted
by utterance within each subset; ``<split>.labels.npy`` has the int32 ids of all of them. A rank maps the shards and
copies only the samples of its own examples: nothing is decoded and no other example is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perfbench.results.files import atomic_file

FORMAT_VERSION = 1
EXAMPLE = np.dtype(
    [("shard", "<i4"), ("first_sample", "<i8"), ("num_samples", "<i4"), ("first_label", "<i8"), ("num_labels", "<i4")]
)
"""Of an example: number of its shard in the manifest's list, place in it, place in the split's labels."""
_MAX_OPEN = 128
"""Mapped shards at a time; a mapping costs address space and no memory."""

Int16Array = NDArray[np.int16]
Int32Array = NDArray[np.int32]


def shard_name(subset: str, number: int) -> str:
    """Return the file name of a subset's shard."""
    return f"{subset}.{number:03d}.i16"


def write_shard(path: Path, waveforms: Sequence[Int16Array]) -> None:
    """Write samples one after another, atomically."""
    with atomic_file(path) as file:
        for waveform in waveforms:
            file.write(waveform.astype("<i2", copy=False).data)


def write_split(folder: Path, split: str, examples: NDArray[np.void], labels: Int32Array) -> list[str]:
    """Write a split's index and labels; return the files' names."""
    names = [f"{split}.examples.npy", f"{split}.labels.npy"]
    for name, array in zip(names, (examples, labels), strict=True):
        with atomic_file(folder / name) as file:
            np.save(file, array, allow_pickle=False)
    return names


def most_labels(folder: Path, split: str) -> int:
    """Return how many labels the longest transcript of a split has."""
    examples = np.load(folder / f"{split}.examples.npy", allow_pickle=False)
    return int(examples["num_labels"].max(initial=0))


class SplitReader:
    """Copies examples of one split into the arrays of a batch.

    Args:
        folder: Prepared data.
        split: Its name.
        shards: All shards in the order of the manifest.
    """

    def __init__(self, folder: Path, split: str, shards: Sequence[str]) -> None:
        self._folder = folder
        self._shards = list(shards)
        self._examples = np.load(folder / f"{split}.examples.npy", allow_pickle=False)
        self._labels: Int32Array = np.load(folder / f"{split}.labels.npy", mmap_mode="r", allow_pickle=False)
        self._mapped = lru_cache(maxsize=_MAX_OPEN)(self._map)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._examples)

    def read_audio(self, example: int, into: Int16Array) -> int:
        """Copy the samples of an example to the front of a row; return their number."""
        row = self._examples[example]
        count, first = int(row["num_samples"]), int(row["first_sample"])
        into[:count] = self._mapped(int(row["shard"]))[first : first + count]
        return count

    def read_labels(self, example: int, into: Int32Array) -> int:
        """Copy the labels of an example to the front of a row; return their number."""
        row = self._examples[example]
        count, first = int(row["num_labels"]), int(row["first_label"])
        into[:count] = self._labels[first : first + count]
        return count

    def _map(self, shard: int) -> Int16Array:
        return np.memmap(self._folder / self._shards[shard], dtype="<i2", mode="r")
