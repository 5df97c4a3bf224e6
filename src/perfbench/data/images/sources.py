"""The public ImageNet files as they are distributed, or class folders of images, as groups of encoded images.

Per split, the first of these that is in the source folder is used:

==========  =====================================================================================================
train       ``ILSVRC2012_img_train.tar`` (one tar per class inside), or ``train/<class>/*``
validation  ``ILSVRC2012_img_val.tar`` (50,000 flat files) with ``ILSVRC2012_devkit_t12.tar.gz`` for the labels,
            or ``val/<class>/*``
test        ``imagenetv2-matched-frequency.tar.gz``, or ``imagenetv2-matched-frequency-format-val/<class>/*``,
            or ``test/<class>/*``
==========  =====================================================================================================
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from perfbench.data.preparation import Progress, require_source_folder
from perfbench.data.source_files import (
    DAMAGED,
    content_of,
    folders_in,
    is_clutter,
    is_there,
    opened,
    opened_tar,
    reading,
    size_of,
)
from perfbench.errors import DataError

TRAIN_TAR = "ILSVRC2012_img_train.tar"
VALIDATION_TAR = "ILSVRC2012_img_val.tar"
DEVKIT_TAR = "ILSVRC2012_devkit_t12.tar.gz"
TEST_TAR = "imagenetv2-matched-frequency.tar.gz"
PUBLIC_DATASET = "imagenet_1k"
PUBLIC_MD5 = {
    TRAIN_TAR: "1d675b47d978889d74fa0da5fadfb00e",
    VALIDATION_TAR: "29b22e2961454d5413ddabcf34fc5622",
    DEVKIT_TAR: "fa75699e90414af021442c21a62c3abf",
}
"""Of the public archives; none is known of ImageNet-v2's. Source: torchvision's ``datasets.ImageNet``."""
_TEST_FOLDER = "imagenetv2-matched-frequency-format-val"
_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_META = "meta.mat"
_SUFFIXES = {".jpeg", ".jpg", ".png"}
_NUMBER = re.compile(r"(\d{1,9})$")
_GROUP_SIZE = 1000
_BLOCK_BYTES = 1 << 24

Image = tuple[str, int, bytes]
"""File name, label, encoded bytes."""


@dataclass(frozen=True, slots=True)
class Group:
    """Images that make one pack: read again from the start whenever ``images`` is called."""

    name: str
    images: Callable[[], Iterator[Image]]


def labels_of(folders: Iterable[str]) -> dict[str, int]:
    """Return the label of every class folder.

    If all names are decimal integers, the integer is the label (ImageNet-v2); otherwise the position in the sorted
    list of names (wnids). Sorting integers as text would give folder ``10`` the label 2.

    >>> labels_of(["2", "10", "0"])
    {'0': 0, '2': 2, '10': 10}
    >>> labels_of(["n01443537", "n01440764"])
    {'n01440764': 0, 'n01443537': 1}
    """
    names = set(folders)
    if names and all(name.isdecimal() for name in names):
        return {name: int(name) for name in sorted(names, key=int)}
    return {name: position for position, name in enumerate(sorted(names))}


def groups_in(source: Path, num_classes: int) -> dict[str, list[Group]]:
    """Find the three splits.

    Raises:
        DataError: If one is missing, or has another number of classes.
    """
    require_source_folder(source)
    found = {
        "train": _train(source, num_classes),
        "validation": _validation(source, num_classes),
        "test": _test(source, num_classes),
    }
    missing = [split for split, groups in found.items() if groups is None]
    if missing:
        raise DataError(
            f"no images of {', '.join(missing)}",
            where=str(source),
            hint=f"the folder needs {TRAIN_TAR}, {VALIDATION_TAR} with {DEVKIT_TAR}, and {TEST_TAR}; "
            "or the folders train/, val/ and test/ with a folder per class",
        )
    return {split: groups for split, groups in found.items() if groups is not None}


def check_archives(source: Path, progress: Progress) -> None:
    """Compare the archives that are in the source folder with the public ones; reads every byte of them.

    Raises:
        DataError: Naming the first that differs.
    """
    for name, expected in PUBLIC_MD5.items():
        path = source / name
        if not is_there(path):
            continue  # class folders are used instead
        digest, num_blocks = hashlib.md5(usedforsecurity=False), size_of(path) // _BLOCK_BYTES + 1
        with opened(path) as file, reading(path):
            for number in range(num_blocks):
                progress(f"checking {name}", number, num_blocks)
                digest.update(file.read(_BLOCK_BYTES))
        if digest.hexdigest() != expected:
            raise DataError(
                f"md5 {digest.hexdigest()}, the public file has {expected}",
                where=str(path),
                hint="fetch it again; --trust-archives goes without this check",
            )


def _train(source: Path, num_classes: int) -> list[Group] | None:
    path = source / TRAIN_TAR
    if not is_there(path):
        return _folders(source / "train", num_classes)
    with opened_tar(path) as outer:
        members = [member for member in _members(outer, path) if member.name.endswith(".tar")]
    labels = labels_of(PurePosixPath(member.name).stem for member in members)
    _check_classes(labels, num_classes, path)

    def images(member: tarfile.TarInfo) -> Iterator[Image]:
        label = labels[PurePosixPath(member.name).stem]
        with opened_tar(path) as outer, _part(outer, member) as part:
            try:
                with tarfile.open(fileobj=part, mode="r:") as inner:
                    for image in _members(inner, path):
                        yield image.name, label, _content(inner, image)
            except DAMAGED as problem:
                raise DataError(f"{member.name} cannot be read: {problem}", where=str(path)) from None

    return [
        Group(PurePosixPath(member.name).stem, lambda member=member: images(member))  # type: ignore[misc]  # bound early
        for member in sorted(members, key=lambda member: member.name)
    ]


def _validation(source: Path, num_classes: int) -> list[Group] | None:
    path = source / VALIDATION_TAR
    if not is_there(path):
        return _folders(source / "val", num_classes)
    labels = _devkit_labels(source / DEVKIT_TAR, num_classes)
    with opened_tar(path) as archive:
        members = _by_number(_members(archive, path), path)
    if len(members) != len(labels):
        raise DataError(f"{len(members)} images, {DEVKIT_TAR} has {len(labels)} labels", where=str(path))
    numbered = list(zip(members, labels, strict=True))

    def images(first: int) -> Iterator[Image]:
        with opened_tar(path) as archive:
            for member, label in numbered[first : first + _GROUP_SIZE]:
                yield member.name, label, _content(archive, member)

    firsts = range(0, len(members), _GROUP_SIZE)
    return [Group(f"{first:05d}", lambda first=first: images(first)) for first in firsts]  # type: ignore[misc]


def _test(source: Path, num_classes: int) -> list[Group] | None:
    path = source / TEST_TAR
    if not is_there(path):
        folders = source / _TEST_FOLDER
        return _folders(folders if folders.is_dir() else source / "test", num_classes)

    def images() -> Iterator[Image]:
        with opened_tar(path) as archive:
            members = [m for m in _members(archive, path) if PurePosixPath(m.name).suffix.lower() in _SUFFIXES]
            labels = labels_of(PurePosixPath(member.name).parent.name for member in members)
            _check_classes(labels, num_classes, path)
            for member in members:
                yield member.name, labels[PurePosixPath(member.name).parent.name], _content(archive, member)

    return [Group("all", images)]


def _folders(folder: Path, num_classes: int) -> list[Group] | None:
    if not folder.is_dir():
        return None
    names = [path.name for path in folders_in(folder)]
    labels = labels_of(names)
    _check_classes(labels, num_classes, folder)

    def images(name: str) -> Iterator[Image]:
        with reading(folder / name):
            paths = sorted((folder / name).iterdir())
        for path in paths:
            if path.suffix.lower() in _SUFFIXES and not is_clutter(path.name):
                yield path.name, labels[name], content_of(path)

    return [Group(name, lambda name=name: images(name)) for name in labels]  # type: ignore[misc]  # bound early


def _check_classes(labels: dict[str, int], num_classes: int, where: Path) -> None:
    missing = sorted(set(range(num_classes)) - set(labels.values()))
    if len(labels) != num_classes or missing:
        what = f"{len(labels)} classes instead of {num_classes}" + (f", without label {missing[0]}" if missing else "")
        odd = _unlike_the_others(labels)
        raise DataError(
            what + (f"; {', '.join(map(repr, odd[:3]))} is named unlike the others" if odd else ""),
            where=str(where),
            hint="a class folder (or archive) is missing or does not belong here",
        )


def _unlike_the_others(names: Iterable[str]) -> list[str]:
    """Return the names that are not made of digits and letters as most are."""
    shapes = {name: re.sub(r"\d", "0", re.sub(r"[^\d]", "a", name)) for name in names}
    forms = {name: "0" if set(shape) == {"0"} else shape for name, shape in shapes.items()}
    usual = Counter(forms.values()).most_common(1)
    return sorted(name for name, form in forms.items() if form != usual[0][0])


def _devkit_labels(path: Path, num_classes: int) -> list[int]:
    """Return the label of every validation image: ILSVRC id, then wnid, then the position of the wnid.

    Raises:
        DataError: If the development kit is missing or damaged.
    """
    if not is_there(path):
        raise DataError("the file is missing", where=str(path), hint=f"{VALIDATION_TAR} holds no labels")
    with opened_tar(path) as archive:
        files = {PurePosixPath(m.name).name: m for m in _members(archive, path)}
        absent = [name for name in (_GROUND_TRUTH, _META) if name not in files]
        if absent:
            raise DataError(f"holds no {absent[0]}", where=str(path), hint="fetch it again")
        try:
            ids = [int(line) for line in _content(archive, files[_GROUND_TRUTH]).split()]
            wnids = _wnids(_content(archive, files[_META]))
        except DataError:
            raise
        except Exception as problem:  # noqa: BLE001 - scipy raises whatever a damaged file leads it to
            what = f"{_META} or {_GROUND_TRUTH} cannot be read: {str(problem) or type(problem).__name__}"
            raise DataError(what, where=str(path), hint="fetch it again") from None
    labels = labels_of(wnids.values())
    _check_classes(labels, num_classes, path)
    if unknown := [number for number in ids if number not in wnids]:
        raise DataError(f"{_GROUND_TRUTH} names class {unknown[0]}, which {_META} has not", where=str(path))
    return [labels[wnids[number]] for number in ids]


def _by_number(members: Sequence[tarfile.TarInfo], path: Path) -> list[tarfile.TarInfo]:
    """Return the validation images in the order of the numbers in their names, which the labels are in.

    Raises:
        DataError: If a name has no number, or they are not 1, 2 and so on, each once.
    """
    numbered: dict[int, tarfile.TarInfo] = {}
    for member in members:
        name = PurePosixPath(member.name)
        if is_clutter(name.name) or name.suffix.lower() not in _SUFFIXES:
            continue
        match = _NUMBER.search(name.stem)
        if match is None:
            raise DataError(f"{member.name!r} has no number: nobody knows its label", where=str(path))
        if (number := int(match[1])) in numbered:
            what = f"number {number} is there twice: {numbered[number].name!r}, {member.name!r}"
            raise DataError(what, where=str(path), hint="fetch it again")
        numbered[number] = member
    missing = sorted(set(range(1, len(numbered) + 1)) - set(numbered))
    if missing:
        raise DataError(
            f"{len(numbered)} images, but none has the number {missing[0]}: nobody knows the labels",
            where=str(path),
            hint="fetch it again; names end in their numbers, 1 to 50000",
        )
    return [numbered[number] for number in sorted(numbered)]


def _wnids(meta: bytes) -> dict[int, str]:
    """Return the wnid of every ILSVRC id; inner nodes of the hierarchy are no classes."""
    from scipy.io import loadmat  # slow to import, and only the development kit needs it

    synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets if int(row["num_children"]) == 0}


def _members(archive: tarfile.TarFile, path: Path) -> list[tarfile.TarInfo]:
    with reading(path):
        return [
            member
            for member in archive
            if member.isreg() and not any(map(is_clutter, PurePosixPath(member.name).parts[-2:]))
        ]


def _part(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    part = archive.extractfile(member)
    assert part is not None, "only files are asked for"
    return part


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return a member's bytes.

    Raises:
        DataError: If the archive ends before them.
    """
    try:
        with _part(archive, member) as part:
            content = part.read()
    except DAMAGED as problem:
        raise DataError(f"{member.name} cannot be read: {problem}", where=str(archive.name)) from None
    if len(content) != member.size:
        raise DataError(
            f"{member.name} has {len(content)} of {member.size} bytes: the archive is truncated",
            where=str(archive.name),
            hint="fetch it again",
        )
    return content
