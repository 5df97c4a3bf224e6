"""Sentence pairs of a dictionary: cleaning, splits, and what happens without the package or with another one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from perfbench.compose import compose_workload
from perfbench.data import packages
from perfbench.data.preparation import PrepareRequest
from perfbench.errors import DataError
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.wmt import prepare, trans_de_en
from perfbench.workloads.wmt.corpora import CORPORA, pairs
from perfbench.workloads.wmt.trans_de_en import split_pairs

DICTIONARY = """# Version :: devel
Aal {m} [zool.] | Aale {pl} | Der Aal (im Bach) ist „glatt“ . ; Er ist es. :: eel | eels | The eel is “slick”.; It is.
Baum {m} | Der Baum ist groß! | Er ist alt/jung. | Und so weiter ... :: tree | The tree is tall! | A/b c d. | Etc.
Kein Satz | Er geht. | Kurz ist er. | Ein Satz, der hier :: no sentence | He is going. | So. | A sentence that
Lang | Nun ist das so. :: long | It is one of many, many things that are exactly and precisely so, now and for ever.
"""


def long_dictionary() -> str:
    """200 entries with a sentence of their own and one that occurs in all of them."""
    own = (
        f"Kopf{n} | Das ist Nummer {n}. | Das ist immer so. :: head{n} | This is number {n}. | So it is."
        for n in range(200)
    )
    return "\n".join(own) + "\nMarke | Das ist R&D heute. :: mark | This is R&D today.\n"


def request(destination: Path, **params: object) -> PrepareRequest:
    spec: WorkloadSpec = compose_workload("wmt", scale="mini", dataset="trans_de_en")
    return PrepareRequest(
        workload=spec.model_copy(update={"params": spec.params | params}),
        destination=destination,
        source=None,
        progress=lambda what, done, total: None,
        options={},
    )


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dictionary where the package would put it."""
    path = tmp_path / trans_de_en.PACKAGE.folder / "de-en"
    path.parent.mkdir(parents=True)
    path.write_text(long_dictionary())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(packages, "SYSTEM_ROOT", tmp_path)
    monkeypatch.setattr(trans_de_en, "PACKAGE", replace(trans_de_en.PACKAGE, version="1", sha256={"de-en": digest}))
    return path


def test_whole_sentences_are_kept_without_remarks_and_alternatives() -> None:
    found = [pair for of_split in split_pairs(DICTIONARY).values() for pair in of_split]

    assert sorted(found) == [
        ('Der Aal ist "glatt".', 'The eel is "slick".'),
        ("Der Baum ist groß!", "The tree is tall!"),
        ("Kurz ist er.", "So."),
    ]


def test_no_sentence_is_in_two_splits_and_an_entry_is_in_one() -> None:
    splits = split_pairs(long_dictionary())

    own = {split: {pair for pair in found if "Nummer" in pair[0]} for split, found in splits.items()}
    assert sum(len(found) for found in own.values()) == 200
    assert 0 < len(own["validation"]) < 20 > len(own["test"]) > 0
    assert [split for split, found in splits.items() if ("Das ist immer so.", "So it is.") in found] == ["train"]
    assert splits == split_pairs(long_dictionary())
    assert [pair for pair in splits["train"] if pair in own["train"]] != sorted(own["train"])


def test_a_test_sentence_with_markup_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for split, is_kept in (("test", False), ("validation", True)):
        monkeypatch.setattr(trans_de_en, "_split_of", lambda german, split=split: split)
        assert (("Das ist R&D heute.", "This is R&D today.") in split_pairs(long_dictionary())[split]) == is_kept


def test_the_dictionary_passes_through_the_same_preparation(installed: Path, tmp_path: Path) -> None:
    splits = split_pairs(long_dictionary())
    counts = {split: len(found) for split, found in splits.items()}
    asked = request(tmp_path / "out", vocab_size=50, expected_examples=counts)

    manifest = prepare.prepare(asked)

    prepare.verify(asked.workload, tmp_path / "out", prepare_command="prepare")
    assert manifest.counts == counts
    assert manifest.origin["package"] == "trans-de-en"
    assert manifest.origin["sha256"] == hashlib.sha256(installed.read_bytes()).hexdigest()
    trans_de_en.write_raw(tmp_path / "raw")
    for split in counts:
        written = [pair for corpus in CORPORA if corpus.split == split for pair in pairs(tmp_path / "raw", corpus)]
        assert written == splits[split]


def test_a_missing_package_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "SYSTEM_ROOT", tmp_path / "nothing")

    for call in (prepare.required_bytes, prepare.prepare):
        with pytest.raises(DataError) as caught:
            call(request(tmp_path / "out"))
        assert str(caught.value) == (
            "data set trans_de_en: Debian's trans-de-en is not installed: the data set is made from it\n"
            "  hint: as root: apt-get install --no-install-recommends trans-de-en; or use data=invented"
        )


def test_another_version_of_the_package_is_refused(installed: Path, tmp_path: Path) -> None:
    installed.write_text(long_dictionary() + "Neu | Das ist ganz neu. :: new | This is quite new.\n")

    with pytest.raises(
        DataError, match=r"de-en: sha256 .*, expected .*\n  hint: not as in trans-de-en 1: install that"
    ):
        prepare.prepare(request(tmp_path / "out"))


@pytest.mark.skipif(
    not trans_de_en.PACKAGE.is_there(), reason="apt-get install trans-de-en: its counts were NOT checked"
)
def test_the_installed_dictionary_gives_the_workload_s_pairs() -> None:
    (content,) = trans_de_en.PACKAGE.read(dataset=trans_de_en.NAME).values()
    expected = compose_workload("wmt", scale="mini", dataset="trans_de_en").params["expected_examples"]

    splits = split_pairs(content.decode())

    assert {split: len(found) for split, found in splits.items()} == expected
    sources = {split: {source for source, _ in found} for split, found in splits.items()}
    assert not sources["validation"] & sources["train"]
    assert not sources["test"] & (sources["train"] | sources["validation"])
