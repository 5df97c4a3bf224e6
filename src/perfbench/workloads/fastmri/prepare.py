"""From the public HDF5 files to prepared volumes: resumable by volume, checked; the manifest is written last.

Source, in one folder: ``singlecoil_train`` and ``singlecoil_val`` (also with the prefix ``knee_``), or the archives
``knee_singlecoil_{train,val}.tar.xz`` as distributed. Volumes are ordered by name; the first of the validation part
validate and the rest test (AlgoPerf fastMRI specification, section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from perfbench.data.packages import PackagedFiles, asked_for
from perfbench.data.preparation import (
    FileEntry,
    Manifest,
    PrepareRequest,
    entry_for,
    passing_folder,
)
from perfbench.errors import DataError
from perfbench.results.files import append_line, read_lines
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.fastmri import brain, phantoms, templates
from perfbench.workloads.fastmri.imaging import hybrid_of, zero_filled
from perfbench.workloads.fastmri.masks import evaluation_columns
from perfbench.workloads.fastmri.params import Params
from perfbench.workloads.fastmri.raw import RawVolume, read_volume
from perfbench.workloads.fastmri.sources import Part, Source, find_sources
from perfbench.workloads.fastmri.volumes import FORMAT_VERSION, Record, VolumeFacts, record_bytes, write_volume

_PROGRESS = "volumes.jsonl"
_UNPACKED_PART = 0.55
"""Of the public files' size: half the rows, and one of their two images (exactly 1/2 at 640 rows)."""
_PACKED_PART = 0.9
"""Of the archives' size, which hold about a third less than they unpack to."""


class Generator(NamedTuple):
    """A small data set, written in the public form first."""

    write_raw: Callable[[Path, Params, PrepareRequest], dict[str, JsonValue]]
    """Writes both parts into a folder; returns where they come from."""
    package: PackagedFiles | None = None
    """That must be there; ``source`` of a request says where it is unpacked."""


GENERATORS = {
    phantoms.NAME: Generator(phantoms.write_raw),
    brain.NAME: Generator(brain.write_raw),
    templates.NAME: Generator(templates.write_raw, templates.PACKAGE),
}
"""By the name of the data set."""


class VolumeRecord(VolumeFacts):
    """A finished volume; one line of ``volumes.jsonl`` while a preparation runs."""

    part: Part
    name: str
    entry: FileEntry


def required_bytes(request: PrepareRequest) -> int:
    """Return how much disk the prepared volumes (and generated raw files) need at most.

    Raises:
        DataError: If there is neither a source nor what a small data set is made from.
    """
    generator = _generator(request)
    if generator is not None:
        if generator.package is not None:
            generator.package.find(request.source, dataset=request.workload.dataset)
        params = _params(request.workload)
        slice_bytes = record_bytes(params.image_size, 2 * params.image_size)
        return 4 * slice_bytes * sum(params.expected_examples.values())
    assert request.source is not None, "otherwise the data set is small"
    sources = find_sources(request.source)
    return int(
        sum(_UNPACKED_PART * s.size_bytes() if s.path.is_dir() else _PACKED_PART * s.size_bytes() for s in sources)
    )


def prepare(request: PrepareRequest) -> Manifest:
    """Convert the source (or generate a small one first) into ``request.destination``.

    Raises:
        DataError: If a part is missing, its number of files is wrong, or a file is damaged: names the file.
    """
    params = _params(request.workload)
    generator = _generator(request)
    if generator is None:
        assert request.source is not None, "otherwise the data set is small"
        return _convert(request, params, request.source, origin={"source": "public fastMRI knee single-coil files"})
    with passing_folder(request.destination / "raw") as raw:
        origin = generator.write_raw(raw, params, request)
        return _convert(request, params, raw, origin=origin)


def verify(workload: WorkloadSpec, folder: Path, *, prepare_command: str) -> Manifest:
    """Check that ``folder`` holds what ``workload`` needs; reads only the manifest and file sizes.

    Raises:
        DataError: If files are missing or truncated, or sizes or counts are not the workload's.
    """
    manifest = Manifest.read_checked(folder, format_version=FORMAT_VERSION, prepare_command=prepare_command)
    params = _params(workload)
    expected: dict[str, int] = {str(split): count for split, count in params.expected_examples.items()}
    expected |= {f"{split}_volumes": count for split, count in params.expected_volumes.items()}
    for name, count in expected.items():
        if manifest.counts.get(name) != count:
            raise DataError(
                f"{name.replace('_', ' ')}: {manifest.counts.get(name)}, the workload needs {count}",
                where=str(folder / "manifest.json"),
                hint=f"delete the folder and run `{prepare_command}` on the complete data",
            )
    if manifest.facts.get("image_size") != params.image_size:
        raise DataError(
            f"images of {manifest.facts.get('image_size')} pixels a side, the workload needs {params.image_size}",
            where=str(folder / "manifest.json"),
            hint=f"delete the folder and run `{prepare_command}`",
        )
    return manifest


def _params(workload: WorkloadSpec) -> Params:
    return Params.from_mapping(workload.params, where="workload.params")


def _generator(request: PrepareRequest) -> Generator | None:
    return asked_for(
        GENERATORS,
        request,
        hint="accept the agreement at fastmri.med.nyu.edu, fetch the knee single-coil train and val archives, "
        "and give --source DIR",
    )


def _convert(request: PrepareRequest, params: Params, folder: Path, *, origin: dict[str, JsonValue]) -> Manifest:
    destination = request.destination
    sources = find_sources(folder)
    _check_numbers(sources, params)
    destination.mkdir(parents=True, exist_ok=True)
    records = _finished(destination, params)
    num_volumes = sum(params.expected_volumes.values())
    for source in sources:
        known = {record.name for record in records if record.part == source.part}
        for record in _converted(source, known, params, destination):
            records.append(record)
            append_line(destination / _PROGRESS, record.to_json(indent=None))
            request.progress("converting volumes", len(records), num_volumes)
    splits = split_of_volumes(records, num_validation=params.expected_volumes["validation"])
    counts = {split: sum(record.num_slices for record in members) for split, members in splits.items()}
    manifest = Manifest(
        family=request.workload.family,
        dataset=request.workload.dataset,
        format_version=FORMAT_VERSION,
        origin=origin,
        counts=counts | {f"{split}_volumes": len(members) for split, members in splits.items()},
        facts={
            "image_size": params.image_size,
            "volumes": {split: [_facts(record) for record in members] for split, members in splits.items()},
        },
        files={record.file: record.entry for record in sorted(records, key=lambda record: record.file)},
    )
    manifest.write(destination)
    (destination / _PROGRESS).unlink()
    return manifest


def split_of_volumes(records: list[VolumeRecord], *, num_validation: int) -> dict[str, list[VolumeRecord]]:
    """Deal volumes to splits, each in the order of names."""
    ordered = sorted(records, key=lambda record: record.name)
    held_out = [record for record in ordered if record.part == "val"]
    return {
        "train": [record for record in ordered if record.part == "train"],
        "validation": held_out[:num_validation],
        "test": held_out[num_validation:],
    }


def _facts(record: VolumeRecord) -> JsonValue:
    facts: JsonValue = record.model_dump(mode="json", include=set(VolumeFacts.model_fields))
    return facts


def _check_numbers(sources: list[Source], params: Params) -> None:
    """Check the number of files before hours of work; archives are counted at the end, by ``verify``."""
    volumes = params.expected_volumes
    needed = {"train": volumes["train"], "val": volumes["validation"] + volumes["test"]}
    for source in sources:
        if source.num_files not in (None, needed[source.part]):
            raise DataError(
                f"{source.num_files} files, {needed[source.part]} needed",
                where=str(source.path),
                hint="unpack the archive again, and leave nothing else in the folder",
            )


def _finished(destination: Path, params: Params) -> list[VolumeRecord]:
    """Return the volumes that an interrupted preparation finished, still whole and of the images' size."""
    records = [VolumeRecord.from_json(line, error=DataError) for line in read_lines(destination / _PROGRESS)]
    whole = {record.file: record for record in records if record.entry.is_whole(destination / record.file)}
    return [
        record
        for record in whole.values()
        if record.entry.size_bytes == record.num_slices * record_bytes(params.image_size, record.num_columns)
    ]


def _converted(source: Source, known: set[str], params: Params, destination: Path) -> Iterator[VolumeRecord]:
    """Yield the volumes of one part that are not finished yet."""
    for raw_file in source.volumes(without=known):
        volume = read_volume(raw_file.content, params, where=raw_file.where)
        path = destination / source.part / f"{raw_file.name}.bin"
        write_volume(path, _records_of(volume, params, where=raw_file.where))
        yield VolumeRecord(
            file=f"{source.part}/{path.name}",
            num_slices=len(volume.kspace),
            num_columns=volume.kspace.shape[2],
            maximum=volume.maximum,
            part=source.part,
            name=raw_file.name,
            entry=entry_for(path),
        )


def _records_of(volume: RawVolume, params: Params, *, where: str) -> Iterator[Record]:
    size = params.image_size
    kept = evaluation_columns(
        volume.kspace.shape[2], acceleration=params.acceleration, center_fraction=params.center_fraction
    )
    for number, (kspace, target) in enumerate(zip(volume.kspace, volume.targets, strict=True)):
        hybrid = hybrid_of(kspace.astype(np.complex64, copy=False), size)
        if not zero_filled(hybrid, kept, size).std() > 0:
            raise DataError(
                f"slice {number} is blank: it cannot be standardised", where=where, hint="the file is damaged"
            )
        yield Record(hybrid, target.astype(np.float32, copy=False))
