"""What all families' preparations share: the format check, counts, the public files' absence, the passing folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.compose import compose_workload
from perfbench.data.preparation import (
    FileEntry,
    Manifest,
    entry_for,
    passing_folder,
    require_counts,
    require_source_folder,
    small_data,
)
from perfbench.errors import DataError


def prepared(folder: Path, *, format_version: int) -> Manifest:
    (folder / "rows.bin").write_bytes(b"rows")
    manifest = Manifest(
        family="any",
        dataset="any",
        format_version=format_version,
        origin={},
        counts={"train": 3},
        files={"rows.bin": entry_for(folder / "rows.bin")},
    )
    manifest.write(folder)
    return manifest


def test_data_of_this_format_is_read(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, format_version=2)

    assert Manifest.read_checked(tmp_path, format_version=2, prepare_command="prepare") == manifest


def test_data_of_another_format_is_refused(tmp_path: Path) -> None:
    prepared(tmp_path, format_version=1)

    with pytest.raises(DataError, match=r"format version 1, this program reads 2\n  hint: delete .* run `prepare`"):
        Manifest.read_checked(tmp_path, format_version=2, prepare_command="prepare")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    prepared(tmp_path, format_version=1)
    (tmp_path / "rows.bin").unlink()

    with pytest.raises(DataError, match=r"rows.bin: missing data file\n  hint: delete /.* and run `prepare`"):
        Manifest.read_checked(tmp_path, format_version=1, prepare_command="prepare")


def test_a_file_is_whole_when_it_is_there_in_full_length(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    entry = FileEntry(size_bytes=4, blake2b="")
    found = [entry.is_whole(path)]
    for content in (b"row", b"rows"):
        path.write_bytes(content)
        found.append(entry.is_whole(path))

    assert found == [False, False, True]


def test_counts_are_compared_split_by_split() -> None:
    require_counts({"train": 3, "other": 1}, [("train", 3)], unit="rows", where="here", hint="mend it")

    with pytest.raises(DataError, match=r"here: test has None rows, the workload needs 2\n  hint: mend it"):
        require_counts({"train": 3}, [("train", 3), ("test", 2)], unit="rows", where="here", hint="mend it")


def test_a_data_set_that_nothing_writes_needs_the_public_files() -> None:
    workload = compose_workload("mnist", scale="mini")

    assert small_data({workload.dataset: "writer"}, workload, hint="fetch them") == "writer"
    with pytest.raises(DataError, match=rf"data set {workload.dataset}: needs the public files\n  hint: fetch them"):
        small_data({"another": "writer"}, workload, hint="fetch them")


def test_a_source_folder_must_exist(tmp_path: Path) -> None:
    require_source_folder(tmp_path)

    with pytest.raises(DataError, match=r"nowhere: the source folder does not exist\n  hint: give --source DIR"):
        require_source_folder(tmp_path / "nowhere")


def test_a_passing_folder_starts_empty_and_is_removed_after_an_error_too(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "raw"
    folder.mkdir(parents=True)
    (folder / "left over").touch()
    seen: list[Path] = []

    with pytest.raises(ValueError, match="stop"), passing_folder(folder) as raw:
        seen = list(raw.iterdir())
        (raw / "new").touch()
        raise ValueError("stop")

    assert seen == []
    assert (tmp_path / "out").exists()
    assert not folder.exists()
