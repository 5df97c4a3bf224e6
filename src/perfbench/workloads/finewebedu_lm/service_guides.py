"""More real English that comes with pip: what the package ``botocore`` says about web services, a document a service.

Repetitive product text, but six times as much as the Bible. Only the data files are read; nothing is imported.
"""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import JsonValue

from perfbench.data.packages import PackagedFiles, not_installed
from perfbench.data.preparation import Generated, Progress
from perfbench.workloads.finewebedu_lm import parquet

NAME = "service_guides"
PACKAGE = PackagedFiles(
    name="botocore",
    version="1.44.8",
    module="botocore",
    folder="data",
    sha256={"*/*/service-2.json.gz": "174cf39e69565f99fa1884a2b4c1cddf82ed7af6ae9c60be030fb79d533423f7"},
    instead="world_english",
)
_REQUIRED_BYTES = 80_000_000
_FILE = "000_00000.parquet"
_TEXT_KEY = "documentation"
_INLINE_TAG = re.compile(r"</?(?:a|b|code|em|i|strong)\b[^>]*>")
_OTHER_TAG = re.compile(r"<[^>]*>")
"""Ends a word."""


def required_bytes() -> int:
    """Return how much disk the text and its prepared form need at most.

    Raises:
        DataError: If the package is not installed.
    """
    if not PACKAGE.is_there():
        raise not_installed([], dataset=NAME, instead="world_english", wheels=[f"{PACKAGE.name}=={PACKAGE.version}"])
    return _REQUIRED_BYTES


def write_raw(folder: Path, progress: Progress) -> Generated:
    """Write the guides as one public file.

    Raises:
        DataError: If the package is not installed, or its files are others.
    """
    required_bytes()
    progress("reading", 0, 1)
    documents = guides(list(PACKAGE.read(dataset=NAME).values()))
    parquet.write(folder / _FILE, documents, source=NAME)
    progress("reading", 1, 1)
    facts: dict[str, JsonValue] = {"num_characters": sum(len(text) for text in documents)}
    return Generated(origin=PACKAGE.origin(), facts=facts)


def guides(services: Sequence[bytes]) -> list[str]:
    """Return one text for each description of a service (gzipped JSON): its paragraphs, one a line.

    A paragraph that occurred before, in whatever service, is left out, and so is a service that has no other.
    """
    seen: set[str] = set()
    documents: list[str] = []
    for content in services:
        paragraphs = [_plain(text) for text in _texts(json.loads(gzip.decompress(content)))]
        new = [text for text in dict.fromkeys(paragraphs) if text and text not in seen]
        seen.update(new)
        if new:
            documents.append("\n".join(new))
    return documents


def _plain(text: str) -> str:
    """Return text without markup, with single spaces."""
    return " ".join(html.unescape(_OTHER_TAG.sub(" ", _INLINE_TAG.sub("", text))).split())


def _texts(node: JsonValue) -> Iterator[str]:
    """Yield every documentation string of a tree, in its order."""
    children: list[JsonValue] = []
    if isinstance(node, dict):
        text = node.get(_TEXT_KEY)
        if isinstance(text, str):
            yield text
        children = list(node.values())
    elif isinstance(node, list):
        children = node
    for child in children:
        yield from _texts(child)
