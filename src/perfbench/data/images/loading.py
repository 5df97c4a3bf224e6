"""Batches of augmented images: read and decoded in processes (or a thread), exact for any number of them.

What an image looks like is a pure function of (seed, epoch, number), so neither processes nor ranks change a bit.
Images travel as bytes through shared memory; scaling to floating point is the model's work, on the device.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import multiprocessing as torch_multiprocessing

from perfbench.api.workload import Batch, Shard, TrainStream
from perfbench.data.images.packing import packs_of
from perfbench.data.images.packs import PackReader
from perfbench.data.images.params import ImageParams
from perfbench.data.images.randaugment import rand_augment
from perfbench.data.images.transforms import SeededDraws, decoded, eval_view, train_view
from perfbench.data.preparation import Manifest
from perfbench.data.sampling import BatchOrder, RowRange, UnitOrder, padded_part
from perfbench.data.splits import BySplit
from perfbench.data.stream import RowStream
from perfbench.errors import DataError, WorkloadError
from perfbench.spec.workload import Split

_TRAIN = "train"
_CHUNK = 16
"""Images of one task; a task costs about 0.2 ms besides them."""
_NUM_AHEAD = 2
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is done to training images beyond crop and mirror.

    Invariant: ``mixup_alpha`` 0 is no mixup.
    """

    num_operations: int = 0
    """Of RandAugment, per image."""
    mixup_alpha: float = 0.0
    """Of the Beta distribution that the weight of each global batch is drawn from."""


@dataclass(frozen=True, slots=True)
class Views:
    """How to get an image's tensor; sent once to every process."""

    readers: dict[str, PackReader]
    params: ImageParams
    augmentation: Augmentation

    def fill(self, into: Tensor, split: str, numbers: list[int], seed_and_epoch: tuple[int, int] | None) -> None:
        """Write the images into ``uint8 [n, 3, side, side]``; augmented if a seed and an epoch are given.

        Raises:
            DataError: If an image cannot be decoded; names it.
        """
        reader = self.readers[split]
        for place, number in zip(into, numbers, strict=True):
            try:
                image = decoded(reader.read(number))
            except (RuntimeError, ValueError) as problem:
                raise DataError(f"cannot be decoded: {problem}", where=reader.name(number)) from None
            place.copy_(self._view(image, number, seed_and_epoch))

    def _view(self, image: Tensor, number: int, seed_and_epoch: tuple[int, int] | None) -> Tensor:
        params = self.params
        if seed_and_epoch is None:
            return eval_view(image, resize_side=params.resize_side, crop_side=params.crop_side)
        draws = SeededDraws(*seed_and_epoch, number)
        area_range = params.area_range
        view = train_view(image, crop_side=params.crop_side, area_range=area_range, flip=params.flip, draws=draws)
        return rand_augment(view, num_operations=self.augmentation.num_operations, draws=draws)


def _reader(folder: Path, manifest: Manifest, split: str) -> PackReader:
    return PackReader(folder, split, packs_of(manifest, split))


class ImageLoader:
    """Opens training and evaluation batches over a prepared folder; all share one pool of processes.

    A batch has ``inputs`` uint8 ``[b, 3, side, side]``, ``targets`` int64 ``[b]`` and ``weights`` float32 ``[b]``.
    With mixup, training batches also have ``partners`` and ``partner_targets`` (of the preceding example of the
    *global* batch, so that ranks do not matter) and ``mix_weights`` float32 ``[b]``, one value per global batch.
    """

    def __init__(self, folder: Path, params: ImageParams, augmentation: Augmentation, *, prepare_command: str) -> None:
        manifest = Manifest.read(folder, prepare_command=prepare_command)
        self.counts = manifest.counts
        self._params = params
        self._augmentation = augmentation
        readers = BySplit(partial(_reader, folder, manifest))
        self._views = Views(readers, params, augmentation)
        self._processes: Executor | None = None
        self._num_processes = _num_processes(params.loader_processes)
        self._starting = threading.Lock()

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's endless stream over shuffled images.

        Raises:
            WorkloadError: If an epoch has no complete batch, or batches do not fit into shared memory.
        """
        self._require_shared_memory(shard.size_of(global_batch_size) + 1)
        whole = BatchOrder(self._shuffled(seed), global_batch_size=global_batch_size, shard=Shard())
        return _ImageStream(self, whole, seed=seed, part=shard.part_of(global_batch_size))

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split; ``eval_train`` is the first images of an order that the seed fixes."""
        size = shard.size_of(global_batch_size)
        self._require_shared_memory(size)
        places = padded_part(self.num_examples(split), global_batch_size=global_batch_size, shard=shard)
        if split is Split.EVAL_TRAIN:
            shuffled = self._shuffled(seed).first_rows(self.num_examples(split))
            numbers = [shuffled[first : first + count] for first, count in places]
        else:
            numbers = [np.arange(first, first + count) for first, count in places]
        stored = _TRAIN if split is Split.EVAL_TRAIN else split.value
        with ThreadPoolExecutor(_NUM_AHEAD + 1, thread_name_prefix="eval-reader") as readers:
            ahead: deque[Future[Batch]] = deque()
            waiting = iter(numbers)
            try:
                while True:
                    while len(ahead) <= _NUM_AHEAD and (chosen := next(waiting, None)) is not None:
                        ahead.append(readers.submit(self.batch, stored, chosen, size, None))
                    if not ahead:
                        return
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def num_examples(self, split: Split) -> int:
        """Return how many images an evaluation of a split has."""
        if split is Split.EVAL_TRAIN:
            return min(self._params.eval_train_examples, self.counts[_TRAIN])
        return self.counts[split.value]

    def batch(self, split: str, numbers: NDArray[np.int64], size: int, seed_and_epoch: tuple[int, int] | None) -> Batch:
        """Return a batch of ``size``; what the numbers do not fill has weight zero."""
        count = len(numbers)
        images = self.images(split, numbers, size, seed_and_epoch)
        targets, weights = torch.zeros(size, dtype=torch.int64), torch.zeros(size)
        targets[:count] = self.labels(split, numbers)
        weights[:count] = 1.0
        return {"inputs": images, "targets": targets, "weights": weights}

    def images(
        self, split: str, numbers: NDArray[np.int64], size: int, seed_and_epoch: tuple[int, int] | None
    ) -> Tensor:
        """Return the images uint8 ``[size, 3, side, side]``, zero beyond the numbers."""
        side = self._params.crop_side
        images = torch.zeros((size, 3, side, side), dtype=torch.uint8)
        if self._num_processes == 0:
            self._views.fill(images[: len(numbers)], split, numbers.tolist(), seed_and_epoch)
            return images
        images.share_memory_()
        pool = self._pool()
        tasks = [
            pool.submit(_fill, images[first : first + _CHUNK][: len(numbers) - first], split, chunk, seed_and_epoch)
            for first in range(0, len(numbers), _CHUNK)
            if (chunk := numbers[first : first + _CHUNK].tolist())
        ]
        for task in tasks:
            task.result()
        return images

    def labels(self, split: str, numbers: NDArray[np.int64]) -> Tensor:
        """Return the classes of images."""
        reader = self._views.readers[split]
        return torch.tensor([reader.label(number) for number in numbers.tolist()], dtype=torch.int64)

    def mix_weight(self, seed: int, batch_index: int) -> float:
        """Return the share of its own image that each example of a global batch keeps."""
        generator = np.random.Generator(np.random.PCG64([seed, batch_index]))
        return float(generator.beta(self._augmentation.mixup_alpha, self._augmentation.mixup_alpha))

    def mixes(self) -> bool:
        """Tell whether training examples are mixed with another."""
        return self._augmentation.mixup_alpha > 0

    def _shuffled(self, seed: int) -> UnitOrder:
        return UnitOrder(np.ones(self.counts[_TRAIN], dtype=np.int64), seed=seed)

    def _require_shared_memory(self, size: int) -> None:
        """Check that processes can share the batches that are ahead: without room they would end by a bus error.

        Raises:
            WorkloadError: If they cannot.
        """
        if self._num_processes == 0 or not _SHARED_MEMORY.is_dir():
            return
        needed_bytes = (_NUM_AHEAD + 2) * size * 3 * self._params.crop_side**2
        free_bytes = shutil.disk_usage(_SHARED_MEMORY).free
        if needed_bytes > free_bytes:
            raise WorkloadError(
                f"batches of {size} images need {needed_bytes / 1e6:.0f} MB of shared memory on each rank, "
                f"{free_bytes / 1e6:.0f} MB are free",
                where=str(_SHARED_MEMORY),
                hint="give the container more (docker run --shm-size=...), or set workload.params.loader_processes=0",
            )

    def _pool(self) -> Executor:
        with self._starting:
            if self._processes is None:
                self._processes = ProcessPoolExecutor(
                    self._num_processes,
                    # Not forked: this process has threads, and on a GPU machine a CUDA context.
                    mp_context=torch_multiprocessing.get_context("spawn"),
                    initializer=_start_process,
                    initargs=(self._views,),
                )
            return self._processes

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.shutdown(wait=True, cancel_futures=True)
            self._processes = None


class _ImageStream(RowStream[Sequence[RowRange]]):
    """Training batches of one rank, mixed or not."""

    def __init__(self, loader: ImageLoader, whole: BatchOrder, *, seed: int, part: slice) -> None:
        super().__init__(whole, lambda _: {}, num_ahead=_NUM_AHEAD, num_readers=_NUM_AHEAD + 1)
        self._loader = loader
        self._whole = whole
        self._seed = seed
        self._part = part

    def example_ids(self, batch_index: int) -> NDArray[np.int64]:
        """Return the image numbers of this rank's part of a global batch."""
        return self._whole.example_ids(batch_index)[self._part]

    def _read(self, batch_index: int) -> Batch:
        everyone = self._whole.example_ids(batch_index)
        epoch = batch_index // self._whole.batches_per_epoch
        numbers, size = everyone[self._part], self._part.stop - self._part.start
        if not self._loader.mixes():
            return self._loader.batch(_TRAIN, numbers, size, (self._seed, epoch))
        with_previous = np.concatenate([everyone[self._part.start - 1][None], numbers])
        images = self._loader.images(_TRAIN, with_previous, size + 1, (self._seed, epoch))
        labels = self._loader.labels(_TRAIN, with_previous)
        return {
            "inputs": images[1:],
            "targets": labels[1:],
            "weights": torch.ones(size),
            "partners": images[:-1],
            "partner_targets": labels[:-1],
            "mix_weights": torch.full((size,), self._loader.mix_weight(self._seed, batch_index)),
        }


def _num_processes(asked: int | None) -> int:
    """Return the number of processes; this machine's cores divided among its ranks if none was asked for."""
    if asked is not None:
        return asked
    return max(
        1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE", "1"))
    )


_views: Views | None = None


def _start_process(views: Views) -> None:
    """Prepare a process of the pool; it ends with the rank, also when that is killed."""
    global _views  # noqa: PLW0603 - the only thing that a process keeps between tasks
    parent = torch_multiprocessing.parent_process()
    assert parent is not None, "only a process of the pool may be prepared: the number of threads is the process's own"
    torch.set_num_threads(1)
    _views = views

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _fill(into: Tensor, split: str, numbers: list[int], seed_and_epoch: tuple[int, int] | None) -> None:
    assert _views is not None, "_start_process ran before"
    _views.fill(into, split, numbers, seed_and_epoch)
