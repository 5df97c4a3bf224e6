"""From the source to packs: every image decoded once, resumable by pack, counts asserted, the manifest last."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from perfbench.data.images.packs import FORMAT_VERSION, index_name, write_index, write_pack
from perfbench.data.images.params import ImageParams
from perfbench.data.images.sources import PUBLIC_DATASET, Group, Image, check_archives, groups_in
from perfbench.data.packages import PackagedFiles, asked_for
from perfbench.data.preparation import (
    FileEntry,
    Manifest,
    PrepareRequest,
    entry_for,
    passing_folder,
    require_counts,
    require_source_folder,
)
from perfbench.data.source_files import files_below, size_of
from perfbench.errors import DataError
from perfbench.results.files import append_line, read_lines
from perfbench.spec.base import Spec

_PROGRESS = "packs.jsonl"
_SMALL_IMAGE_BYTES = 6000
"""At most, while small data is prepared: a block of 4,096 bytes for an image's file, and its copy in a pack."""
_WINDOW = 256
"""Images that are held while they are examined."""

WriteRaw = Callable[[Path, ImageParams, PrepareRequest], dict[str, JsonValue]]
"""Writes class folders of images into a folder and tells where they came from."""


@dataclass(frozen=True, slots=True)
class SmallData:
    """Images that come with an installed package."""

    write_raw: WriteRaw
    package: PackagedFiles | None = None
    """That must be there; ``source`` of a request says where it is unpacked."""


class PackRecord(Spec):
    """A finished pack; one line of ``packs.jsonl`` while a preparation runs."""

    split: str
    name: str
    entry: FileEntry


def required_bytes(request: PrepareRequest, params: ImageParams, small: dict[str, SmallData]) -> int:
    """Return how much disk the packs need at most: what the source needs, and a little for the index.

    Raises:
        DataError: If there is no source, and the data set does not come with an installed package.
    """
    chosen = _small(request, small)
    if chosen is not None:
        if chosen.package is not None:
            chosen.package.find(request.source, dataset=request.workload.dataset)
        return _SMALL_IMAGE_BYTES * sum(params.expected_examples.values())
    assert request.source is not None, "otherwise the data set is small"
    require_source_folder(request.source)
    total = sum(size_of(path) for path in files_below(request.source))
    return total + total // 100


def prepare(request: PrepareRequest, params: ImageParams, small: dict[str, SmallData]) -> Manifest:
    """Pack the source (or small data that is written first) into ``request.destination``.

    Raises:
        DataError: If a split or class is missing, an image is empty or damaged, or a count is wrong.
    """
    chosen = _small(request, small)
    if chosen is None:
        assert request.source is not None, "otherwise the data set is small"
        return _pack(request, params, request.source, origin={"source": "public archives or class folders"})
    with passing_folder(request.destination / "raw") as raw:
        return _pack(request, params, raw, origin=chosen.write_raw(raw, params, request))


def verify(params: ImageParams, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what the workload needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, or counts are not the workload's.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    _check_counts(params, manifest.counts, where=str(folder / "manifest.json"))
    return manifest


def packs_of(manifest: Manifest, split: str) -> list[str]:
    """Return the names of a split's packs, in the order of the index's pack numbers."""
    packs = manifest.facts["packs"]
    assert isinstance(packs, dict)
    named = packs[split]
    assert isinstance(named, list)
    return [str(name) for name in named]


def _small(request: PrepareRequest, small: dict[str, SmallData]) -> SmallData | None:
    hint = "register at image-net.org, fetch the archives that the README names, and give --source DIR"
    return asked_for(small, request, hint=hint)


def _pack(request: PrepareRequest, params: ImageParams, source: Path, *, origin: dict[str, JsonValue]) -> Manifest:
    destination = request.destination
    destination.mkdir(parents=True, exist_ok=True)
    splits = groups_in(source, params.num_classes)
    total = sum(len(groups) for groups in splits.values())
    records = _finished(destination)
    is_checked = bool(records) or bool(request.options.get("trust_archives", False))
    if request.workload.dataset == PUBLIC_DATASET and not is_checked:  # a call that is continued has checked them
        check_archives(source, request.progress)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as examiners:
        for split, groups in splits.items():
            for group in groups:
                name = f"{split}.{group.name}.pack"
                if name not in records:
                    records[name] = _write(destination, split, name, group, examiners)
                request.progress("packing", len(records), total)
    names = {split: [f"{split}.{group.name}.pack" for group in groups] for split, groups in splits.items()}
    counts = {split: _merge_indices(destination, split, packs) for split, packs in names.items()}
    _check_counts(params, counts, where=str(source))
    files = {name: record.entry for name, record in sorted(records.items())}
    manifest = Manifest(
        family=request.workload.data_family or request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin=origin,
        counts=counts,
        facts={"packs": {split: list(packs) for split, packs in names.items()}},
        files=files | {index_name(split): entry_for(destination / index_name(split)) for split in names},
    )
    manifest.write(destination)
    for name in records:
        _part_index(destination, name).unlink(missing_ok=True)
    (destination / _PROGRESS).unlink(missing_ok=True)
    return manifest


def _write(folder: Path, split: str, name: str, group: Group, examiners: ThreadPoolExecutor) -> PackRecord:
    index = write_pack(folder / name, _examined(group, split, examiners))
    write_index(_part_index(folder, name), index)
    record = PackRecord(split=split, name=name, entry=entry_for(folder / name))
    append_line(folder / _PROGRESS, record.to_json(indent=None))
    return record


def _examined(group: Group, split: str, examiners: ThreadPoolExecutor) -> Iterator[Image]:
    """Yield a group's images, each decoded once to know that it can be."""
    images = group.images()
    while window := list(itertools.islice(images, _WINDOW)):
        for image, problem in zip(window, examiners.map(_problem_of, window), strict=True):
            if problem:
                raise DataError(problem, where=f"{split}, {group.name}, {image[0]}", hint="fetch it again")
            yield image


def _problem_of(image: Image) -> str:
    """Return what is wrong with an image, or nothing: decoded as it will be while a clock runs."""
    from perfbench.data.images.transforms import decoded  # loads torch, which verifying does without

    encoded = image[2]
    if not encoded:
        return "the file is empty"
    try:
        decoded(encoded)
    except ValueError:
        return "is no image of a kind that is read (JPEG or PNG are expected)"
    except RuntimeError as problem:
        return f"cannot be decoded: {str(problem).rpartition(', ')[2]}"
    return ""


def _finished(destination: Path) -> dict[str, PackRecord]:
    """Return the packs that an interrupted preparation finished and that are still whole."""
    records = [PackRecord.from_json(line, error=DataError) for line in read_lines(destination / _PROGRESS)]
    return {
        record.name: record
        for record in records
        if _part_index(destination, record.name).exists() and record.entry.is_whole(destination / record.name)
    }


def _part_index(folder: Path, name: str) -> Path:
    return folder / f"{name}.part.npy"


def _merge_indices(folder: Path, split: str, packs: list[str]) -> int:
    parts = []
    for number, name in enumerate(packs):
        part = np.load(_part_index(folder, name))
        part["pack"] = number
        parts.append(part)
    index = np.concatenate(parts)
    write_index(folder / index_name(split), index)
    return len(index)


def _check_counts(params: ImageParams, counts: dict[str, int], *, where: str) -> None:
    hint = "use the complete data set, or set workload.params.expected_examples"
    require_counts(counts, params.expected_examples.items(), unit="images", where=where, hint=hint)
