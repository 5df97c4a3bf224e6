"""Real German and English: the example sentences of Debian's dictionary ``trans-de-en``, in the public WMT files.

An entry is a line ``German | example :: English | example`` with as many parts on each side; parts that are sentences
in both languages are pairs. Entries are dealt to the splits by their head word, and no sentence of validation or test
is in another split.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from perfbench.data.packages import PackagedFiles, not_installed
from perfbench.workloads.wmt.corpora import Pair, write_pairs

NAME = "trans_de_en"
PACKAGE = PackagedFiles(
    name="trans-de-en",
    version="1.9-6",
    folder="usr/share/trans",
    sha256={"de-en": "34052c6021d09eadfee7a893a789204265954df70fe9c36d38fa00058d79d326"},
)
_REQUIRED_BYTES = 40_000_000
_SEED = 0
_FEWEST_WORDS, _MOST_WORDS, _MOST_TIMES_LONGER = 3, 40, 3
_HELD_OUT_PERCENT = 4
"""Of the entries validate, and as many test."""
_REMARK = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|<[^>]*>")
_SPACE_BEFORE_MARK = re.compile(r"\s+(?=[.,!?])")
_QUOTATION_MARKS = str.maketrans(
    dict.fromkeys("\u201e\u201c\u201d\u00bb\u00ab", '"') | dict.fromkeys("\u201a\u2018\u2019", "'")
)
_MARKUP = frozenset("<>&")

_Split = Literal["train", "validation", "test"]


def required_bytes() -> int:
    """Return how much disk the text and its prepared form need at most.

    Raises:
        DataError: If the package is not installed.
    """
    if not PACKAGE.is_there():
        raise not_installed([PACKAGE.name], dataset=NAME, instead="invented")
    return _REQUIRED_BYTES


def write_raw(folder: Path) -> dict[str, JsonValue]:
    """Write the sentences as the public files; return where they come from.

    Raises:
        DataError: If the package is not installed, or its file is not what it was.
    """
    required_bytes()
    (content,) = PACKAGE.read(dataset=NAME).values()
    write_pairs(folder, split_pairs(content.decode()), document=NAME)
    return {**PACKAGE.origin(), "seed": _SEED}


def split_pairs(dictionary: str) -> dict[str, list[Pair]]:
    """Return the sentence pairs of each split; training pairs in a random order, fixed by a seed."""
    found: dict[_Split, dict[Pair, None]] = {"train": {}, "validation": {}, "test": {}}
    for line in dictionary.split("\n"):
        german, separator, english = line.partition(" :: ")
        if separator and not line.startswith("#") and (sentences := dict.fromkeys(_sentences(german, english))):
            found[_split_of(german)].update(sentences)
    known: tuple[set[str], set[str]] = (set(), set())
    pairs: dict[str, list[Pair]] = {}
    for split, candidates in found.items():
        kept = [pair for pair in candidates if split == "train" or _is_new(pair, known)]
        if split == "test":  # its text stands in SGML, as distributed
            kept = [pair for pair in kept if not _MARKUP & set(pair[0] + pair[1])]
        for side in range(2):
            known[side].update(pair[side] for pair in kept)
        pairs[split] = kept
    random.Random(_SEED).shuffle(pairs["train"])
    return pairs


def _is_new(pair: Pair, known: tuple[set[str], set[str]]) -> bool:
    return pair[0] not in known[0] and pair[1] not in known[1]


def _split_of(german: str) -> _Split:
    head = _cleaned(german.partition(" | ")[0])
    number = int.from_bytes(hashlib.sha256(head.encode()).digest()[:4], "big") % 100
    if number < _HELD_OUT_PERCENT:
        return "validation"
    return "test" if number < 2 * _HELD_OUT_PERCENT else "train"


def _sentences(german: str, english: str) -> Iterator[Pair]:
    """Yield the parts of an entry that are sentences in both languages."""
    for pair in zip(german.split(" | "), english.split(" | "), strict=True):
        source, target = (_cleaned(part) for part in pair)
        lengths = len(source.split()), len(target.split())
        if (
            _is_sentence(source)
            and _is_sentence(target)
            and lengths[0] >= _FEWEST_WORDS
            and max(lengths) <= min(_MOST_WORDS, _MOST_TIMES_LONGER * min(lengths))
        ):
            yield source, target


def _cleaned(part: str) -> str:
    """Return the first of alternatives without remarks, with plain quotation marks and single spaces."""
    first = _REMARK.sub(" ", part).partition(";")[0].translate(_QUOTATION_MARKS)
    return _SPACE_BEFORE_MARK.sub("", " ".join(first.split()))


def _is_sentence(text: str) -> bool:
    return text.endswith((".", "!", "?")) and not any(mark in text for mark in ("/", "...", "…"))
