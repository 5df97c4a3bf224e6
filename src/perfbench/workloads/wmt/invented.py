"""An invented language pair in the public WMT files: what the mini scale trains on, and the tests' data.

The source language has articles that agree with a hidden gender, adjectives before the noun, an object case and the
verb last; the target language has another order, other words, and two words for every fifth noun. So a model needs
vocabulary, order, agreement and copying, and no translator can reach 100 BLEU. Everything follows from one seed.
Idea and proportions: AlgoPerf wmt specification, section 10.1.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from perfbench.workloads.wmt.corpora import Pair, write_pairs

NAME = "invented"
SEED = 0
NUM_PAIRS = {"train": 20_000, "validation": 300, "test": 300}
_REQUIRED_BYTES = 40_000_000
_ZIPF_EXPONENT = 1.3
_ARTICLES = {(False, False): "le", (True, False): "la", (False, True): "les", (True, True): "las"}
"""Definite, by (is feminine, is plural)."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of both languages."""

    source: str
    targets: tuple[str, ...]
    """Its translations, each as likely as the others."""
    is_feminine: bool


@dataclass(frozen=True, slots=True)
class Phrase:
    """A piece of a sentence in both languages."""

    source: list[str]
    target: list[str]
    is_plural: bool = False


class Language:
    """Draws sentences.

    Args:
        seed: Of the lexicon and of every sentence.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._taken: set[str] = {"le", "la", "les", "las", "un", "una", "ka", "ni", "the", "a", "and", "not"}
        self._nouns = self._lexicon(40, synonyms_every=5)
        self._verbs = self._lexicon(20)
        self._adjectives = self._lexicon(14)
        self._adverbs = self._lexicon(6)
        self._prepositions = self._lexicon(4)
        self._names = [Word(name, (name,), is_feminine=False) for name in self._new_words(8, capital=True)]

    def sentence(self) -> Pair:
        """Return a sentence and a translation."""
        clauses = [self._clause()]
        if self._random.random() < 0.2:  # noqa: PLR2004 - a proportion of the language
            clauses.append(self._clause())
        source = [*itertools.chain(*([*clause.source, "ka"] for clause in clauses))][:-1]
        target = [*itertools.chain(*([*clause.target, "and"] for clause in clauses))][:-1]
        if self._random.random() < 0.1:  # noqa: PLR2004
            number = str(self._random.randrange(1, 100))
            source, target = [*source, number], [*target, number]
        mark = "?" if self._random.random() < 0.15 else "."  # noqa: PLR2004
        return f"{' '.join(source)} {mark}", f"{' '.join(target)} {mark}"

    def _clause(self) -> Phrase:
        draw = self._random.random
        subject = self._name() if draw() < 0.25 else self._noun_phrase()  # noqa: PLR2004
        object_ = self._noun_phrase(is_object=True)
        verb, is_past, is_negated = self._chosen(self._verbs), draw() < 0.5, draw() < 0.2  # noqa: PLR2004
        place = self._place() if draw() < 0.25 else Phrase([], [])  # noqa: PLR2004
        adverb = self._chosen(self._adverbs) if draw() < 0.25 else None  # noqa: PLR2004
        source = [*subject.source, *place.source, *object_.source]
        source += ["ni"] * is_negated + [verb.source + ("ti" if is_past else "e")]
        if is_negated:
            auxiliary = "did" if is_past else "do" if subject.is_plural else "does"
            said = [auxiliary, "not", verb.targets[0]]
        else:
            said = [verb.targets[0] + ("ed" if is_past else "es")]
        target = [*subject.target, *said, *object_.target, *place.target]
        if adverb is not None:
            source, target = [adverb.source, *source], [*target, adverb.targets[0]]
        return Phrase(source, target)

    def _noun_phrase(self, *, is_object: bool = False) -> Phrase:
        draw = self._random.random
        noun = self._chosen(self._nouns)
        is_plural = draw() < 0.3  # noqa: PLR2004
        is_definite = is_plural or draw() < 0.6  # noqa: PLR2004
        adjectives = [self._chosen(self._adjectives) for _ in range((draw() < 0.3) + (draw() < 0.1))]  # noqa: PLR2004
        article = _ARTICLES[noun.is_feminine, is_plural] if is_definite else "una" if noun.is_feminine else "un"
        stem = noun.source + ("im" if is_plural else "") + ("ta" if is_object else "")
        translation = self._random.choice(noun.targets) + ("s" if is_plural else "")
        return Phrase(
            [article, *(adjective.source for adjective in adjectives), stem],
            ["the" if is_definite else "a", translation, *(a.targets[0] for a in reversed(adjectives))],
            is_plural=is_plural,
        )

    def _place(self) -> Phrase:
        preposition, phrase = self._chosen(self._prepositions), self._noun_phrase()
        return Phrase([preposition.source, *phrase.source], [preposition.targets[0], *phrase.target])

    def _name(self) -> Phrase:
        name = self._chosen(self._names)
        return Phrase([name.source], [name.targets[0]])

    def _chosen(self, words: Sequence[Word]) -> Word:
        weights = [(rank + 1) ** -_ZIPF_EXPONENT for rank in range(len(words))]
        return self._random.choices(words, weights)[0]

    def _lexicon(self, size: int, *, synonyms_every: int = 0) -> list[Word]:
        sources, targets = self._new_words(size), self._new_words(size)
        words = []
        for index, (source, target) in enumerate(zip(sources, targets, strict=True)):
            has_synonym = synonyms_every and index % synonyms_every == 0
            translations = (target, *self._new_words(1)) if has_synonym else (target,)
            words.append(Word(source, translations, is_feminine=self._random.random() < 0.5))  # noqa: PLR2004
        return words

    def _new_words(self, count: int, *, capital: bool = False) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            syllables = [self._syllable() for _ in range(self._random.choice((1, 2, 2, 3)))]
            word = "".join(syllables)
            if word not in self._taken:
                self._taken.add(word)
                found.append(word.capitalize() if capital else word)
        return found

    def _syllable(self) -> str:
        return (
            self._random.choice("bdfgklmnprstvz")
            + self._random.choice("aeiou")
            + self._random.choice(" nrslm")[:1].strip()
        )


def required_bytes() -> int:
    """Return how much disk the text and its prepared form need at most."""
    return _REQUIRED_BYTES


def write_raw(folder: Path, *, seed: int = SEED, num_pairs: dict[str, int] | None = None) -> dict[str, JsonValue]:
    """Write the pair as the public files; no source sentence occurs twice in all splits together."""
    language, seen = Language(seed), set[str]()
    drawn: dict[str, list[Pair]] = {}
    for split, count in (num_pairs or NUM_PAIRS).items():
        pairs = drawn[split] = []
        while len(pairs) < count:
            pair = language.sentence()
            if pair[0] not in seen:
                seen.add(pair[0])
                pairs.append(pair)
    write_pairs(folder, drawn, document=NAME)
    return {"generator": NAME, "seed": seed}
