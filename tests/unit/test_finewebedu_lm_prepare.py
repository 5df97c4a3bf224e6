"""From parquet to tokens: the published ids, splits, resuming, and every way in which a source can be wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perfbench.data.preparation import Manifest
from perfbench.errors import DataError
from perfbench.workloads.finewebedu_lm import parquet, prepare, tokenising
from perfbench.workloads.finewebedu_lm.params import Params
from perfbench.workloads.finewebedu_lm.splits import SPLITS, split_of_documents
from perfbench.workloads.finewebedu_lm.token_store import Rows, file_names
from perfbench.workloads.finewebedu_lm.tokenising import FileRecord, Job, tokenised
from perfbench.workloads.finewebedu_lm.vocabulary import BytePairs, Pieces, train_pieces
from tests.small_text import END_ID, MERGES, documents, request, small_spec, write_source, write_vocabulary

SIZES = (40, 1, 60, 99)
FILES = [f"{number:03d}_00000.parquet" for number in range(len(SIZES))]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    write_source(folder, sizes=SIZES)
    return folder


@pytest.fixture(scope="module")
def sha256(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def prepared(source: Path, sha256: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare.prepare(request(small_spec(sha256), source, folder))
    return folder


def all_documents() -> list[str]:
    return [text for number, size in enumerate(SIZES) for text in documents(size, seed=number)]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("Hello world", [15496, 995, 50256]),
        (
            "The quick brown fox jumps over the lazy dog.",
            [464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290, 13, 50256],
        ),
        (
            " The  café, naïve — 2,026!\n\n\tTabs",
            [383, 220, 40304, 11, 41492, 851, 362, 11, 45987, 0, 628, 197, 51, 8937, 50256],
        ),
        ("a<|endoftext|>b", [64, 50256, 65, 50256]),
        ("", []),
    ],
)
def test_texts_become_the_published_ids(text: str, ids: list[int], source: Path) -> None:
    vocabulary = BytePairs(source)

    (found,) = vocabulary.encode([text])

    assert found.tolist() == ids
    assert found.dtype == np.uint16
    assert vocabulary.decode(ids) == text.replace("<|endoftext|>", "")


def test_pieces_of_a_trained_vocabulary_give_every_text_back(tmp_path: Path) -> None:
    texts = [*documents(50), "  two spaces, \t a tab and 猫 that it never saw"]
    train_pieces(texts[:-1], tmp_path / "pieces", vocab_size=300)
    pieces = Pieces(tmp_path / "pieces")

    encoded = pieces.encode([*texts, ""])

    assert [pieces.decode(ids.tolist()) for ids in encoded] == [*texts, ""]
    assert all(ids[-1] == 1 and 1 not in ids[:-1] for ids in encoded[:-1])
    assert len(encoded[-1]) == 0


def test_every_document_is_in_one_split_in_stored_order(source: Path, sha256: dict[str, str], prepared: Path) -> None:
    manifest = prepare.verify(small_spec(sha256), prepared, prepare_command="prepare")
    vocabulary, splits = BytePairs(prepared), split_of_documents(200)

    found: dict[str, list[str]] = {}
    for split in SPLITS:
        texts = []
        for number in range(len(SIZES)):
            tokens, ends = (prepared / name for name in file_names(split, number))
            ids = np.fromfile(tokens, dtype="<u2")
            parts = np.split(ids, np.fromfile(ends, dtype="<i8"))[:-1]
            assert all(part[-1] == END_ID and END_ID not in part[:-1] for part in parts)
            texts += [vocabulary.decode(part.tolist()) for part in parts]
        found[split] = texts
        assert manifest.counts[f"{split}_tokens"] == Rows(prepared, split, num_columns=17).num_tokens
    expected = all_documents()
    assert found == {
        split: [text for text, number in zip(expected, splits, strict=True) if number == index]
        for index, split in enumerate(SPLITS)
    }
    assert [manifest.counts[split] for split in SPLITS] == [180, 10, 10]


def test_splits_are_those_of_the_specification() -> None:
    splits = split_of_documents(1189)
    order = [824, 443, 506, 1151, 364]

    assert [SPLITS[splits[number]] for number in order] == ["train"] * 5
    assert np.bincount(splits).tolist() == [1070, 60, 59]


def test_worker_processes_write_the_same_files(
    source: Path, sha256: dict[str, str], prepared: Path, tmp_path: Path
) -> None:
    seen: list[int | None] = []

    def with_two(jobs: Sequence[Job]) -> Iterator[FileRecord]:
        seen.append(len(jobs))
        return tokenised(jobs, num_processes=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "tokenised", with_two)
        manifest = prepare.prepare(request(small_spec(sha256), source, tmp_path))

    assert seen == [4]
    assert manifest == Manifest.read(prepared, prepare_command="prepare")


def test_an_error_in_a_worker_process_is_told_as_it_is(source: Path, sha256: dict[str, str], tmp_path: Path) -> None:
    broken = shutil.copytree(source, tmp_path / "source")
    parquet.write(broken / FILES[2], [*documents(59), ""], source="invented")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "tokenised", lambda jobs: tokenised(jobs, num_processes=2))
        with pytest.raises(DataError) as caught:
            prepare.prepare(request(small_spec(sha256), broken, tmp_path / "out"))

    kept = (tmp_path / "out" / "files.jsonl").read_text()
    assert FILES[0] in kept
    assert FILES[2] not in kept
    assert str(caught.value) == (
        f"{broken / FILES[2]}: document 59 has no text\n  hint: the public files have none such"
    )


def test_a_worker_that_dies_is_an_error(source: Path, sha256: dict[str, str], tmp_path: Path) -> None:
    shutil.copy(source / "encoder.json", tmp_path)
    shutil.copy(source / "vocab.bpe", tmp_path)
    params = Params.from_mapping(small_spec(sha256).params)
    jobs = [
        Deadly(path=source / FILES[0], number=0, first_document=0, splits=split_of_documents(40), destination=tmp_path,
               params=params, settings={})
        for _ in range(2)
    ]  # fmt: skip

    with pytest.raises(DataError, match="a worker process was killed\n  hint: is memory short"):
        list(tokenised(jobs, num_processes=2))


class Deadly(Job):
    """Ends the process that receives it."""

    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return os._exit, (1,)


def test_an_interrupted_preparation_keeps_finished_files(
    source: Path, sha256: dict[str, str], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    tokenise = tokenising.tokenise

    def until(last: str | None, job: Job) -> FileRecord:
        if job.path.name == last:
            raise KeyboardInterrupt
        done.append(job.path.name)
        return tokenise(job)

    monkeypatch.setattr(prepare, "tokenised", lambda jobs: tokenised(jobs, num_processes=1))
    monkeypatch.setattr(tokenising, "tokenise", partial(until, FILES[2]))
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(request(small_spec(sha256), source, tmp_path))
    with pytest.raises(DataError, match="not prepared"):
        prepare.verify(small_spec(sha256), tmp_path, prepare_command="prepare")
    (tmp_path / file_names("train", 1)[0]).unlink()
    monkeypatch.setattr(tokenising, "tokenise", partial(until, None))
    manifest = prepare.prepare(request(small_spec(sha256), source, tmp_path))

    assert done == [FILES[0], FILES[1], FILES[1], FILES[2], FILES[3]]
    assert manifest == Manifest.read(prepared, prepare_command="prepare")


def test_what_another_vocabulary_tokenised_is_tokenised_again(
    source: Path, sha256: dict[str, str], prepared: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(source, tmp_path / "source")
    fewer = write_vocabulary(other, {number: pair for number, pair in MERGES.items() if number < 100})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Manifest, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare.prepare(request(small_spec(fewer), other, tmp_path / "out"))

    manifest = prepare.prepare(request(small_spec(sha256), source, tmp_path / "out"))

    assert manifest == Manifest.read(prepared, prepare_command="prepare")


def test_the_vocabulary_may_lie_elsewhere(source: Path, sha256: dict[str, str], prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "source" / parquet.PUBLIC_SUBFOLDER, ignore=shutil.ignore_patterns("*.json"))
    (tmp_path / "source" / parquet.PUBLIC_SUBFOLDER / "._000_00000.parquet").write_bytes(b"a Mac's")
    asked = request(small_spec(sha256), tmp_path / "source", tmp_path / "out", vocabulary=str(source))

    needed_bytes = prepare.required_bytes(asked)
    manifest = prepare.prepare(asked)

    assert manifest == Manifest.read(prepared, prepare_command="prepare")
    assert needed_bytes == 2 * sum(len(text.split()) for text in all_documents()) + 10 * 200


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def spoilt_inside(path: Path) -> None:
    """Overwrite pages of the text column, which the file's end knows nothing of."""
    content = bytearray(path.read_bytes())
    content[20:400] = bytes(380)
    path.write_bytes(bytes(content))


FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    (FILES[3], cut_short, "003_00000.parquet: cannot be read as parquet: "),
    (FILES[3], spoilt_inside, "003_00000.parquet: cannot be read as parquet: "),
    (FILES[3], lambda path: path.write_bytes(b""), "003_00000.parquet: cannot be read as parquet: "),
    (FILES[0], lambda path: rewritten(path, lambda table: table.drop_columns(["text"])), "has no column 'text'"),
    (FILES[0], lambda path: rewritten(path, lambda table: table.drop_columns(["score"])), "has no column 'score'"),
    (
        FILES[0],
        lambda path: rewritten(path, lambda table: table.set_column(0, "text", pa.array([b"x"] * 40))),
        "column 'text' is binary, not string",
    ),
    (
        FILES[0],
        lambda path: rewritten(path, lambda table: table.slice(1)),
        "4 files with 199 documents, the workload nee",
    ),
    (FILES[1], lambda path: path.unlink(), "3 files with 199 documents, the workload needs 200"),
    (FILES[2], lambda path: parquet.write(path, ["x"] * 7 + [""] + ["y"] * 52, source=""), "document 7 has no text"),
    (
        FILES[2],
        lambda path: rewritten(path, lambda table: table.set_column(0, "text", pa.array(["x"] * 59 + [None]))),
        "document 59 has no text",
    ),
    ("vocab.bpe", lambda path: path.write_text("#version: 0.2\n"), "vocab.bpe: another vocabulary: sha256 "),
    ("encoder.json", lambda path: path.unlink(), "encoder.json: the vocabulary's file is missing"),
]


@pytest.mark.parametrize(("name", "damage", "told"), FAULTS)
def test_a_source_that_is_wrong_is_named(
    name: str, damage: Callable[[Path], object], told: str, source: Path, sha256: dict[str, str], tmp_path: Path
) -> None:
    broken = shutil.copytree(source, tmp_path / "source")
    damage(broken / name)

    with pytest.raises(DataError) as caught:
        prepare.required_bytes(request(small_spec(sha256), broken, tmp_path / "out"))
        prepare.prepare(request(small_spec(sha256), broken, tmp_path / "out"))

    assert told in str(caught.value)
    assert "hint: " in str(caught.value)
    assert str(broken) in str(caught.value)


def test_files_of_a_vocabulary_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    lines = (tmp_path / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    for wrong in ([lines[0], *reversed(lines[1:])], lines[:-1], [*lines, "x y"]):
        (tmp_path / "vocab.bpe").write_text("\n".join(wrong) + "\n", encoding="utf-8")

        with pytest.raises(DataError, match=r"vocab.bpe: does not fit encoder.json beside it"):
            BytePairs(tmp_path)


def test_a_public_file_of_known_content_must_have_it(source: Path, sha256: dict[str, str], tmp_path: Path) -> None:
    broken = shutil.copytree(source, tmp_path / "source")
    (broken / FILES[3]).rename(broken / "013_00000.parquet")

    with pytest.raises(DataError, match=r"013_00000.parquet: another file: sha256 .*, expected b393f51f"):
        prepare.prepare(request(small_spec(sha256), broken, tmp_path / "out"))


def test_no_folder_and_an_empty_one_are_told(sha256: dict[str, str], tmp_path: Path) -> None:
    for folder, told in ((tmp_path / "none", "the source folder does not exist"), (tmp_path, "holds no parquet file")):
        with pytest.raises(DataError, match=told):
            prepare.required_bytes(request(small_spec(sha256), folder, tmp_path / "out"))
    with pytest.raises(DataError, match="data set fineweb_edu_10bt: needs the public files"):
        prepare.required_bytes(request(small_spec(sha256), None, tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"vocab_size": 50}, "prepared with vocab_size=50257, the workload needs 50"),
        ({"vocabulary_sha256": {"vocab.bpe": "0"}}, "prepared with vocabulary_sha256="),
        ({"expected_documents": {"train": 181}}, "train has 180 documents, the workload needs 181"),
        ({"validation_rows": 10_000}, r"validation has \d+ rows of 17 tokens, the workload evaluates 10,000"),
        ({"row_length": 5_000}, "has 2 rows of 5001 tokens|has 1 rows of 5001|has 0 rows of 5001"),
    ],
)
def test_prepared_data_of_another_workload_is_refused(
    changes: dict[str, Any], told: str, sha256: dict[str, str], prepared: Path
) -> None:
    with pytest.raises(DataError, match=told):
        prepare.verify(small_spec(sha256, **changes), prepared, prepare_command="prepare")
