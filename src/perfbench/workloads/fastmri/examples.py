"""From stored slices to batches: masked, transformed and standardised on the reading side, a slice at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from perfbench.api.workload import Batch
from perfbench.workloads.fastmri.imaging import example_of, zero_filled
from perfbench.workloads.fastmri.masks import EVALUATION_KEY, evaluation_columns, kept_columns
from perfbench.workloads.fastmri.params import Params
from perfbench.workloads.fastmri.volumes import SliceReader

Key = tuple[int, int]
KeyOf = Callable[[int], Key]
"""Gives the key of a slice's mask by the slice's number."""


class ExampleLoader:
    """Makes batches of one split.

    Args:
        reader: Reads stored slices.
        params: Image size and masks.
        num_threads: How many slices to work on at once (NumPy transforms outside of Python's lock).
    """

    def __init__(self, reader: SliceReader, params: Params, num_threads: int) -> None:
        self._reader = reader
        self._params = params
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="slices") if num_threads > 1 else None
        self.num_examples = reader.num_slices

    def batch(self, numbers: Sequence[int], size: int, *, key_of: KeyOf) -> Batch:
        """Return a batch of ``size``: the slices by number, then zeros with weight zero."""
        n = self._params.image_size
        images = {name: torch.zeros(size, n, n) for name in ("inputs", "targets")}
        values = {name: torch.zeros(size) for name in ("mean", "std", "maximum", "weights")}
        batch = images | values

        def fill(position: int) -> None:
            self._fill(batch, position, numbers[position], key_of(numbers[position]))

        self._each(fill, range(len(numbers)))
        return batch

    def _each(self, work: Callable[[int], None], positions: Iterable[int]) -> None:
        for _ in map(work, positions) if self._pool is None else self._pool.map(work, positions):
            pass

    def _fill(self, batch: Batch, position: int, number: int, key: Key) -> None:
        record = self._reader.read(number)
        columns = record.hybrid.shape[1]
        mask_of = evaluation_columns if key == EVALUATION_KEY else lambda *a, **k: kept_columns(key, *a, **k)
        kept = mask_of(columns, acceleration=self._params.acceleration, center_fraction=self._params.center_fraction)
        example = example_of(zero_filled(record.hybrid, kept, self._params.image_size), record.target)
        batch["inputs"][position] = torch.from_numpy(example.inputs)
        batch["targets"][position] = torch.from_numpy(example.targets)
        batch["mean"][position] = float(example.mean)
        batch["std"][position] = float(example.std)
        batch["maximum"][position] = self._reader.volume_of(number).maximum
        batch["weights"][position] = 1.0
