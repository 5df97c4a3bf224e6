"""The public WMT files: parallel text and SGML, read pair by pair. Which file belongs to which split.

Text is split at line feeds only; a training pair with an empty side is left out, and nothing else is cleaned.
Entities in SGML stay as they are. Source: AlgoPerf wmt specification, section 2.1.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfbench.data.source_files import opened
from perfbench.errors import DataError

Pair = tuple[str, str]
"""German, English."""

_SEGMENT = re.compile(r'\s*<seg id="([^"]+)">(.*)</seg>\s*')


@dataclass(frozen=True, slots=True)
class Corpus:
    """Two aligned files."""

    name: str
    split: str
    german: str
    """Path inside the source folder."""
    english: str
    archive: str
    """The file that it is distributed in."""

    @property
    def is_sgml(self) -> bool:
        """Tell whether sentences stand in ``<seg>`` elements."""
        return self.german.endswith(".sgm")


CORPORA = (
    Corpus(
        "europarl-v7",
        "train",
        "training/europarl-v7.de-en.de",
        "training/europarl-v7.de-en.en",
        "training-parallel-europarl-v7.tgz",
    ),
    Corpus(
        "commoncrawl",
        "train",
        "commoncrawl.de-en.de",
        "commoncrawl.de-en.en",
        "training-parallel-commoncrawl.tgz",
    ),
    Corpus(
        "news-commentary-v12",
        "train",
        "training/news-commentary-v12.de-en.de",
        "training/news-commentary-v12.de-en.en",
        "training-parallel-nc-v12.tgz",
    ),
    Corpus("rapid2016", "train", "rapid2016.de-en.de", "rapid2016.de-en.en", "rapid2016.tgz"),
    Corpus("newstest2013", "validation", "dev/newstest2013.de", "dev/newstest2013.en", "dev.tgz"),
    Corpus("newstest2014", "test", "dev/newstest2014-deen-src.de.sgm", "dev/newstest2014-deen-ref.en.sgm", "dev.tgz"),
)
"""In the published order; WMT17 de-en for training, as distributed."""

_SMALL_SHARES = {"europarl-v7": 0.35, "commoncrawl": 0.4, "news-commentary-v12": 0.05, "rapid2016": 0.2}
"""Of a small data set's training pairs, by corpus."""


def pairs(folder: Path, corpus: Corpus) -> Iterator[Pair]:
    """Yield the pairs of a corpus.

    Raises:
        DataError: If a line is no UTF-8, the two files do not align, or a test sentence is empty.
    """
    read = _segments if corpus.is_sgml else _lines
    both = itertools.zip_longest(read(folder / corpus.german), read(folder / corpus.english))
    for number, (german, english) in enumerate(both, start=1):
        if german is None or english is None:
            shorter = corpus.german if german is None else corpus.english
            raise DataError(
                f"has only {number - 1} sentences, its counterpart has more: the pair is misaligned",
                where=str(folder / shorter),
                hint="fetch both files again, from the same archive",
            )
        if german[0] != english[0]:
            raise DataError(
                f"sentence {number} has id {english[0]!r}, its counterpart {german[0]!r}: the pair is misaligned",
                where=str(folder / corpus.english),
                hint="fetch both files again, from the same archive",
            )
        if german[1] and english[1]:
            yield german[1], english[1]
        elif corpus.split != "train":
            empty = corpus.english if german[1] else corpus.german
            raise DataError(
                f"sentence {number} is empty", where=str(folder / empty), hint="fetch the file again: it must have none"
            )


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ``("", line)``."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            yield "", _text(line, path, number).removesuffix("\n")


def _segments(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the id and text of every segment."""
    with opened(path) as file:
        num_found = 0
        for number, line in enumerate(file, start=1):
            text = _text(line, path, number)
            match = _SEGMENT.fullmatch(text)
            if match:
                num_found += 1
                yield match[1], match[2]
            elif "<seg" in text:
                raise DataError(
                    f"line {number} has a segment that does not end on it: {text.strip()[:60]!r}",
                    where=str(path),
                    hint="one segment per line is expected, as distributed",
                )
    if not num_found:
        raise DataError("has no <seg> line", where=str(path), hint="fetch the file again")


def _text(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as problem:
        raise DataError(
            f"line {number}, byte {problem.start}: no UTF-8 ({problem.reason})",
            where=str(path),
            hint="fetch the file again; convert nothing",
        ) from None


def write_pairs(folder: Path, pairs: Mapping[str, Sequence[Pair]], *, document: str) -> None:
    """Write a small data set as the public files.

    Args:
        folder: Of the files.
        pairs: By split, in order; the last training corpus gets what rounding left.
        document: Name that stands in the SGML.
    """
    waiting = {split: iter(of_split) for split, of_split in pairs.items()}
    shares = {name: int(share * len(pairs["train"])) for name, share in _SMALL_SHARES.items()}
    shares["rapid2016"] += len(pairs["train"]) - sum(shares.values())
    for corpus in CORPORA:
        own = list(itertools.islice(waiting[corpus.split], shares.get(corpus.name)))
        for path, side, kind in ((corpus.german, 0, "srcset"), (corpus.english, 1, "refset")):
            sentences = [pair[side] for pair in own]
            text = _sgml(sentences, corpus, kind, document) if corpus.is_sgml else "".join(f"{s}\n" for s in sentences)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")


def _sgml(sentences: Sequence[str], corpus: Corpus, kind: str, document: str) -> str:
    segments = "".join(f'<seg id="{number}">{text}</seg>\n' for number, text in enumerate(sentences, start=1))
    return f'<{kind} setid="{corpus.name}">\n<doc docid="{document}">\n<p>\n{segments}</p>\n</doc>\n</{kind}>\n'
