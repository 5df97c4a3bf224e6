"""Small sources in every public raw format, and what prepares each: for tests of what strangers' disks hold."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from perfbench.compose import compose_workload
from perfbench.data.images.idx import TEST_FILES, TRAIN_FILES, write_idx
from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.data.speech import tones
from perfbench.registry import preparer_of
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.criteo import planted as planted_clicks
from perfbench.workloads.fastmri import phantoms
from perfbench.workloads.fastmri.phantoms import Layout
from perfbench.workloads.ogbg import planted as planted_graphs
from perfbench.workloads.wmt import invented
from perfbench.workloads.wmt.corpora import CORPORA
from tests import small_images, small_text
from tests.unit.fastmri_figures import params_of
from tests.unit.test_mnist import drawn

PAIRS = {"train": 120, "validation": 9, "test": 9}
GRAPHS = {"train": 12, "validation": 5, "test": 4}
DIGITS = {"train": 20, "validation": 6, "test": 5}
UTTERANCES = dict.fromkeys(tones.NUM_UTTERANCES, 2) | {"train-clean-100": 50}
SLICES = {"train": 18, "validation": 16, "test": 9}
VOLUMES = {"train": 2, "validation": 2, "test": 1}
KNEE = {"image_size": 32, "kspace_rows": 64, "expected_examples": SLICES, "expected_volumes": VOLUMES}


@dataclass(frozen=True)
class RawSource:
    """One layout of a family's public files."""

    family: str
    params: dict[str, object]
    write: Callable[[Path], None]
    """Writes all files below an empty folder."""
    scale: Literal["full", "mini"] = "full"
    dataset: str | None = None
    options: dict[str, int] | None = None

    def workload(self) -> WorkloadSpec:
        """Return a workload that needs just these files."""
        spec = _composed(self.family, self.scale)
        changes: dict[str, object] = {"params": {**spec.params, **self.params}}
        return spec.model_copy(update=changes | ({"dataset": self.dataset} if self.dataset else {}))

    def prepare(self, source: Path, destination: Path) -> Manifest:
        """Do what ``perfbench data prepare`` does on one processor: then no part of it is in another process."""
        processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(processors)})
        try:
            return self._prepare(source, destination)
        finally:
            os.sched_setaffinity(0, processors)

    def _prepare(self, source: Path, destination: Path) -> Manifest:
        workload, preparer = self.workload(), preparer_of(self.family)
        request = PrepareRequest(
            workload=workload,
            destination=destination,
            source=source,
            progress=lambda what, done, total: None,
            options={**(self.options or {})},
        )
        preparer.required_bytes(request)
        preparer.prepare(request)
        return preparer.verify(workload, destination, prepare_command="the command")


@cache
def _composed(family: str, scale: str) -> WorkloadSpec:
    return compose_workload(family, scale=scale)


def _clicks(folder: Path) -> None:
    planted_clicks.write_rows(folder, _silent, seed=3, num_train_rows=23 * 2, num_held_out_rows=36)
    for day in range(24):
        pieces = sorted(folder.glob(f"day_{day}_*"))
        content = b"".join(piece.read_bytes() for piece in pieces)
        for piece in pieces:
            piece.unlink()
        (folder / f"day_{day}.gz").write_bytes(gzip.compress(content, 1, mtime=0))


def _graphs(folder: Path) -> None:
    planted_graphs.write_graphs(folder / "pcba", _silent, seed=1, sizes=GRAPHS, num_tasks=3)


def _sentences(folder: Path) -> None:
    invented.write_raw(folder, seed=3, num_pairs=PAIRS)


def _packed_sentences(folder: Path) -> None:
    _sentences(folder)
    names: dict[str, list[str]] = {}
    for corpus in CORPORA:
        names.setdefault(corpus.archive, []).extend([corpus.german, corpus.english])
    for archive, members in names.items():
        with tarfile.open(folder / archive, "w:gz", compresslevel=1) as packed:
            for member in members:
                packed.add(folder / member, arcname=member)
                (folder / member).unlink()


def _knees(folder: Path) -> None:
    layout = Layout(num_train=2, num_validation=2, num_test=1, slices_per_volume=9)
    phantoms.write_volumes(folder, params_of(**KNEE), _silent, layout, seed=1)


def _packed_knees(folder: Path) -> None:
    _knees(folder)
    for part in ("train", "val"):
        files = folder / f"singlecoil_{part}"
        with tarfile.open(folder / f"knee_singlecoil_{part}.tar.gz", "w:gz", compresslevel=1) as packed:
            packed.add(files, arcname=files.name)
        for file in files.iterdir():
            file.unlink()
        files.rmdir()


def _speech(folder: Path) -> None:
    tones.write_corpus(folder, _silent, num_utterances=UTTERANCES, seed=3)


def _packed_speech(folder: Path) -> None:
    _speech(folder)
    root = folder / "LibriSpeech"
    for subset in UTTERANCES:
        with tarfile.open(folder / f"{subset}.tar.gz", "w:gz", compresslevel=1) as packed:
            for file in sorted((root / subset).rglob("*.*"), key=lambda path: (path.suffix == ".txt", path)):
                packed.add(file, arcname=f"LibriSpeech/{file.relative_to(root)}")
                file.unlink()
    for empty in sorted(root.rglob("*"), reverse=True):
        empty.rmdir()
    root.rmdir()


def _documents(folder: Path) -> None:
    small_text.write_source(folder)


def _digits(folder: Path) -> None:
    write_idx(folder, TRAIN_FILES, drawn(DIGITS["train"] + DIGITS["validation"], 0))
    write_idx(folder, TEST_FILES, drawn(DIGITS["test"], 1))


def _silent(what: str, done: int, total: int) -> None:
    """Take no notice of progress."""


_WORDS: dict[str, object] = {"vocab_size": 120, "tokenizer_sample_bytes": 60_000, "expected_examples": PAIRS}
_SOUNDS: dict[str, object] = {
    "archive_utterances": UTTERANCES,
    "expected_examples": {"train": 54, "validation": 4, "test": 2},
    "vocabulary_size": 40,
    "num_pieces": 40,
}
_TEXT: dict[str, Any] = dict(small_text.small_spec(small_text.vocabulary_sha256()).params)
_IMAGES: dict[str, object] = {
    "num_classes": small_images.NUM_CLASSES,
    "expected_examples": small_images.COUNTS,
    "eval_train_examples": 10,
}

RAW_SOURCES = {
    "clicks": RawSource(
        "criteo",
        {"expected_examples": {"train": 46, "validation": 16, "test": 20}},
        _clicks,
        options={"rows_per_shard": 4},
    ),
    "graphs": RawSource("ogbg", {"num_tasks": 3, "expected_counts": GRAPHS}, _graphs),
    "sentences": RawSource("wmt", _WORDS, _sentences, scale="mini"),
    "packed sentences": RawSource("wmt", _WORDS, _packed_sentences, scale="mini"),
    "knees": RawSource("fastmri", dict(KNEE), _knees),
    "packed knees": RawSource("fastmri", dict(KNEE), _packed_knees),
    "speech": RawSource("librispeech_conformer", _SOUNDS, _speech, scale="mini", options={"shard_samples": 100_000}),
    "packed speech": RawSource(
        "librispeech_conformer", _SOUNDS, _packed_speech, scale="mini", options={"shard_samples": 100_000}
    ),
    "images": RawSource("imagenet_resnet", _IMAGES, small_images.write_folders, scale="mini", dataset="drawn"),
    "packed images": RawSource("imagenet_resnet", _IMAGES, small_images.write_archives, scale="mini", dataset="drawn"),
    "documents": RawSource("finewebedu_lm", _TEXT, _documents),
    "digits": RawSource(
        "mnist", {"expected_examples": DIGITS, "eval_train_examples": 6}, _digits, scale="mini", dataset="tiny"
    ),
}
