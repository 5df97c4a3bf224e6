"""From public WMT files to token arrays: splits, resuming, and every way in which a file can be damaged."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfbench.compose import compose_workload
from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.errors import DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.wmt import archives, invented, prepare
from perfbench.workloads.wmt.corpora import CORPORA, Corpus, pairs
from perfbench.workloads.wmt.prepare import CorpusRecord, corpora_of
from perfbench.workloads.wmt.token_store import PairStore
from perfbench.workloads.wmt.tokenizer import FILE_NAME, Tokenizer, sampled_pairs

NUM_PAIRS = {"train": 600, "validation": 23, "test": 31}


def spec() -> WorkloadSpec:
    base = compose_workload("wmt", scale="mini")
    changed = {"vocab_size": 120, "tokenizer_sample_bytes": 60_000, "expected_examples": NUM_PAIRS}
    return base.model_copy(update={"params": base.params | changed})


def request(source: Path | None, destination: Path) -> PrepareRequest:
    return PrepareRequest(
        workload=spec(), destination=destination, source=source, progress=lambda what, done, total: None, options={}
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    invented.write_raw(folder, seed=3, num_pairs=NUM_PAIRS)
    return folder


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare.prepare(request(raw, folder))
    return folder


def changed(raw: Path, folder: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    shutil.copytree(raw, folder)
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    return folder


def test_stored_tokens_are_the_text_of_every_split_in_order(raw: Path, prepared: Path) -> None:
    manifest = prepare.verify(spec(), prepared, prepare_command="prepare")
    tokenizer = Tokenizer(prepared / FILE_NAME)

    assert manifest.counts == NUM_PAIRS
    for split, count in NUM_PAIRS.items():
        store = PairStore(prepared, corpora_of(split))
        texts = [pair for corpus in CORPORA if corpus.split == split for pair in pairs(raw, corpus)]
        assert len(store.sources) == len(store.targets) == len(texts) == count
        for index, side in enumerate((store.sources, store.targets)):
            assert tokenizer.decode([side[number].tolist() for number in range(count)]) == [t[index] for t in texts]
            assert all(side[number][-1] == 2 for number in range(count))
            assert side.lengths().tolist() == [len(side[number]) for number in range(count)]


def test_the_vocabulary_is_the_same_each_time_and_its_digest_is_kept(raw: Path, prepared: Path, tmp_path: Path) -> None:
    again = prepare.prepare(request(raw, tmp_path))

    first = Manifest.read(prepared, prepare_command="prepare")
    assert again.facts["tokenizer_blake2b"] == first.facts["tokenizer_blake2b"] == first.files[FILE_NAME].blake2b
    assert again.files == first.files


def test_the_tokenizer_sample_is_uniform_and_just_large_enough() -> None:
    sizes = np.arange(1, 1001, dtype=np.int32)

    chosen = sampled_pairs(sizes, sample_bytes=50_000)

    assert np.all(np.diff(chosen) > 0)
    assert 50_000 <= sizes[chosen].sum() < 51_000
    assert 400 < chosen.mean() < 600


def test_an_interrupted_preparation_keeps_finished_corpora(
    raw: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    tokenize = prepare._tokenize

    def until_the_fourth(
        source: Path, corpus: Corpus, tokenizer: Tokenizer, destination: Path, *, row_length: int
    ) -> CorpusRecord:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(corpus.name)
        return tokenize(source, corpus, tokenizer, destination, row_length=row_length)

    monkeypatch.setattr(prepare, "_tokenize", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(request(raw, tmp_path))
    with pytest.raises(DataError, match="not prepared"):
        prepare.verify(spec(), tmp_path, prepare_command="prepare")
    done[:] = []
    manifest = prepare.prepare(request(raw, tmp_path))

    assert done == [corpus.name for corpus in CORPORA[3:]]
    assert manifest.files == Manifest.read(prepared, prepare_command="prepare").files


def test_what_another_vocabulary_tokenised_is_tokenised_again(
    raw: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = spec().model_copy(update={"params": spec().params | {"vocab_size": 90}})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Manifest, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare.prepare(replace(request(raw, tmp_path), workload=smaller))

    manifest = prepare.prepare(request(raw, tmp_path))

    assert manifest.files == Manifest.read(prepared, prepare_command="prepare").files


def test_a_training_pair_with_an_empty_side_is_left_out(raw: Path, tmp_path: Path) -> None:
    source = changed(raw, tmp_path / "raw", "commoncrawl.de-en.en", lambda data: b"\n" + data.split(b"\n", 1)[1])

    found = list(pairs(source, CORPORA[1]))

    assert found == list(pairs(raw, CORPORA[1]))[1:]


def test_lines_end_at_line_feeds_only(raw: Path, tmp_path: Path) -> None:
    odd = "one\rtwo\u2028three\x0bfour".encode()
    source = changed(raw, tmp_path / "raw", "commoncrawl.de-en.en", lambda data: odd + b"\n" + data.split(b"\n", 1)[1])

    assert next(iter(pairs(source, CORPORA[1])))[1] == odd.decode()


def test_entities_of_a_test_set_stay_as_they_are(raw: Path, tmp_path: Path) -> None:
    name = CORPORA[-1].english
    source = changed(raw, tmp_path / "raw", name, lambda data: data.replace(b'<seg id="1">', b'<seg id="1">a &amp; b '))

    assert next(iter(pairs(source, CORPORA[-1])))[1].startswith("a &amp; b ")


FAULTS: list[tuple[str, Callable[[bytes], bytes], str]] = [
    (
        "training/europarl-v7.de-en.en",
        lambda data: data.split(b"\n", 1)[1],
        "has only 209 sentences, its counterpart has more: the pair is misaligned",
    ),
    ("rapid2016.de-en.de", lambda data: b"ab\xff" + data, "line 1, byte 2: no UTF-8"),
    ("dev/newstest2013.en", lambda data: b"\n" + data.split(b"\n", 1)[1], "sentence 1 is empty"),
    (
        "dev/newstest2014-deen-ref.en.sgm",
        lambda data: data.replace(b'id="2"', b'id="7"'),
        "sentence 2 has id '7', its counterpart '2': the pair is misaligned",
    ),
    ("dev/newstest2014-deen-src.de.sgm", lambda data: b"", "has no <seg> line"),
    (
        "dev/newstest2014-deen-src.de.sgm",
        lambda data: data.replace(b"</seg>\n", b"\n</seg>\n", 1),
        "has a segment that does not end on it",
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), FAULTS)
def test_a_damaged_file_is_named_with_its_line(
    raw: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    source = changed(raw, tmp_path / "raw", name, change)

    with pytest.raises(DataError) as caught:
        prepare.prepare(request(source, tmp_path / "out"))

    assert message in str(caught.value)
    assert str(source / name) in str(caught.value)
    assert "hint: " in str(caught.value)


def test_missing_files_are_all_named(raw: Path, tmp_path: Path) -> None:
    source = tmp_path / "raw"
    shutil.copytree(raw, source)
    (source / "rapid2016.de-en.de").unlink()
    (source / "dev/newstest2013.en").unlink()

    with pytest.raises(DataError, match=r"2 of 12 files are missing: rapid2016\.de-en\.de, dev/newstest2013\.en"):
        prepare.prepare(request(source, tmp_path / "out"))


def test_full_scale_without_the_public_files_says_what_to_fetch(tmp_path: Path) -> None:
    full = PrepareRequest(
        workload=compose_workload("wmt", scale="full"),
        destination=tmp_path,
        source=None,
        progress=lambda what, done, total: None,
        options={},
    )

    with pytest.raises(DataError, match="data set wmt17_de_en: needs the public files"):
        prepare.prepare(full)


def test_too_little_text_for_the_vocabulary_is_refused(raw: Path, tmp_path: Path) -> None:
    base = request(raw, tmp_path)
    large = base.workload.model_copy(update={"params": base.workload.params | {"vocab_size": 5_000}})

    with pytest.raises(DataError, match="no vocabulary of 5000 pieces"):
        prepare.prepare(
            PrepareRequest(workload=large, destination=tmp_path, source=raw, progress=base.progress, options={})
        )


def test_data_of_another_vocabulary_is_refused(prepared: Path) -> None:
    other = spec().model_copy(update={"params": spec().params | {"vocab_size": 121}})

    with pytest.raises(DataError, match="prepared with vocab_size=120, the workload needs 121"):
        prepare.verify(other, prepared, prepare_command="prepare")


def test_a_wrong_number_of_pairs_is_refused(prepared: Path) -> None:
    counts = NUM_PAIRS | {"test": 3003}
    other = spec().model_copy(update={"params": spec().params | {"expected_examples": counts}})

    with pytest.raises(DataError, match="test has 31 sentence pairs, the workload needs 3003"):
        prepare.verify(other, prepared, prepare_command="prepare")


def packed(raw: Path, folder: Path, *, without: str = "") -> Path:
    """Pack the raw files as they are distributed, with something else in each archive."""
    folder.mkdir()
    for archive in {corpus.archive for corpus in CORPORA}:
        with tarfile.open(folder / archive, "w:gz") as file:
            for corpus in CORPORA:
                for name in (corpus.german, corpus.english):
                    if corpus.archive == archive and name != without:
                        file.add(raw / name, arcname=f"./{name}")
                        file.add(raw / name, arcname=f"{name}.unused")
    return folder


def test_archives_as_distributed_give_the_same_data_as_their_files(raw: Path, prepared: Path, tmp_path: Path) -> None:
    source = packed(raw, tmp_path / "source")
    shutil.copy(raw / "rapid2016.de-en.de", source)  # half of a corpus is no corpus: its archive is read
    asked = request(source, tmp_path / "out")

    manifest = prepare.prepare(asked)

    assert manifest.files == Manifest.read(prepared, prepare_command="prepare").files
    assert not (tmp_path / "out" / "unpacked").exists()
    assert prepare.required_bytes(asked) > prepare.required_bytes(request(raw, tmp_path))


def test_what_an_interrupted_call_unpacked_is_not_unpacked_again(raw: Path, tmp_path: Path) -> None:
    source = packed(raw, tmp_path / "source")
    archives.unpacked(source, tmp_path / "out", lambda *_: None)
    for corpus in CORPORA:
        (source / corpus.archive).write_bytes(b"not read again")

    folders = archives.unpacked(source, tmp_path / "out", lambda *_: None)

    assert [list(pairs(folders[corpus.name], corpus)) for corpus in CORPORA] == [
        list(pairs(raw, corpus)) for corpus in CORPORA
    ]


def test_a_damaged_archive_or_one_without_a_file_is_named(raw: Path, tmp_path: Path) -> None:
    source = packed(raw, tmp_path / "short", without="dev/newstest2013.en")
    with pytest.raises(DataError, match=r"dev\.tgz: does not hold dev/newstest2013\.en"):
        prepare.prepare(request(source, tmp_path / "a"))

    whole = packed(raw, tmp_path / "cut")
    content = (whole / "rapid2016.tgz").read_bytes()
    (whole / "rapid2016.tgz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"rapid2016\.tgz: cannot be unpacked: .*\n.*fetch the archive again"):
        prepare.prepare(request(whole, tmp_path / "b"))
