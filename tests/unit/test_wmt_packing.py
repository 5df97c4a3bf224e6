"""Rows of pairs against a slow, obvious packer, and BLEU's counts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from perfbench.workloads.wmt import bleu
from perfbench.workloads.wmt.packing import filled, row_starts


def slow_starts(sources: list[int], targets: list[int], row_length: int, group_size: int | None) -> list[int]:
    """Append pairs one by one; close the row when one side overflows or the group ends."""
    starts, source_sum, target_sum = [0], 0, 0
    for index, (source, target) in enumerate(zip(sources, targets, strict=True)):
        is_full = source_sum + source > row_length or target_sum + target > row_length
        if index and (is_full or (group_size and index % group_size == 0)):
            starts.append(index)
            source_sum = target_sum = 0
        source_sum, target_sum = source_sum + source, target_sum + target
    return [*starts, len(sources)]


@pytest.mark.parametrize("group_size", [None, 16])
@pytest.mark.parametrize("seed", range(20))
def test_rows_are_those_of_the_slow_packer(seed: int, group_size: int | None) -> None:
    generator = np.random.Generator(np.random.PCG64(seed))
    sources, targets = generator.integers(1, 65, size=(2, 200))

    starts = row_starts(sources, targets, row_length=64, group_size=group_size)

    assert starts.tolist() == slow_starts(sources.tolist(), targets.tolist(), 64, group_size)


def as_tokens(*sentences: list[int]) -> list[NDArray[np.uint16]]:
    return [np.asarray(sentence, dtype=np.uint16) for sentence in sentences]


def test_the_specification_s_two_pairs_share_a_row() -> None:
    sources, targets = as_tokens([8, 7, 1], [2, 3, 4, 1]), as_tokens([4, 1], [5, 6, 1])
    lengths = [np.asarray([len(tokens) for tokens in side]) for side in (sources, targets)]

    assert row_starts(*lengths, row_length=10).tolist() == [0, 2]
    first, second = (filled([side], row_length=10) for side in (sources, targets))
    assert first["ids"].tolist() == [[8, 7, 1, 2, 3, 4, 1, 0, 0, 0]]
    assert first["positions"].tolist() == [[0, 1, 2, 0, 1, 2, 3, 0, 0, 0]]
    assert first["segments"].tolist() == [[1, 1, 1, 2, 2, 2, 2, 0, 0, 0]]
    assert second["ids"].tolist() == [[4, 1, 5, 6, 1, 0, 0, 0, 0, 0]]
    assert second["positions"].tolist() == [[0, 1, 0, 1, 2, 0, 0, 0, 0, 0]]
    assert second["segments"].tolist() == [[1, 1, 2, 2, 2, 0, 0, 0, 0, 0]]


def test_an_unknown_piece_is_a_token_and_no_padding() -> None:
    row = filled([as_tokens([8, 0, 7, 1])], row_length=6)

    assert row["ids"].tolist() == [[8, 0, 7, 1, 0, 0]]
    assert row["segments"].tolist() == [[1, 1, 1, 1, 0, 0]]


CORPUS = (
    ["The cat sat on the mat.", "There is a dog in the garden now."],
    ["The cat sat on the red mat.", "There is a dog in the garden."],
)


def test_counts_and_score_are_those_of_the_specification() -> None:
    counted = bleu.counts(*CORPUS)

    assert counted.tolist() == [16, 16, 15, 11, 8, 6, 16, 14, 12, 10]
    assert bleu.score(counted) == pytest.approx(73.675651, abs=1e-6)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [
        ("the cat sat on it", "the cat sat on the mat", 54.751825),
        ("the cat is here now", "the dog was there then", 10.682175),
        ("the cat", "the cat", 0.0),
        ("a", "b", 0.0),
        ("a b c d", "e f g h", 7.986788),
        ("a b c d", "e f g h i", 6.220117),
    ],
)
def test_scores_of_single_sentences_are_those_of_the_specification(
    hypothesis: str, reference: str, expected: float
) -> None:
    assert bleu.score(bleu.counts([hypothesis], [reference])) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("num_sentences", "num_words", "expected"), [(3, 5, 1.78), (3_000, 7, 0.0011)])
def test_text_without_any_match_is_smoothed_as_published(num_sentences: int, num_words: int, expected: float) -> None:
    score = bleu.score(
        bleu.counts([" ".join("a" * num_words)] * num_sentences, [" ".join("b" * num_words)] * num_sentences)
    )

    assert score == pytest.approx(expected, rel=6e-3)


def test_counts_of_parts_add_to_the_counts_of_the_whole() -> None:
    parts = [bleu.counts([hypothesis], [reference]) for hypothesis, reference in zip(*CORPUS, strict=True)]

    assert np.array_equal(sum(parts, bleu.counts([], [])), bleu.counts(*CORPUS))


def test_tokens_and_signature_are_those_of_the_specification() -> None:
    text = "Hello, world! It's 3.5% of $1,000 (U.S.) well-known 10-20."
    tokens = "Hello , world ! It's 3.5 % of $ 1,000 ( U . S . ) well-known 10 - 20 ."

    assert bleu.counts([text], [tokens]).tolist()[:3] == [21, 21, 21]
    assert len(tokens.split()) == 21
    assert "case:mixed|eff:no|tok:13a|smooth:exp" in str(bleu._METRIC.get_signature())
