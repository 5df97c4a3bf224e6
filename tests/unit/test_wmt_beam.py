"""Beam search against a slow, obvious one that keeps Python lists and computes everything anew."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from perfbench.workloads.wmt.beam import BeamSearch
from perfbench.workloads.wmt.model import KeysValues, Side, Step, Transformer
from perfbench.workloads.wmt.params import EOS_ID
from tests.unit.test_wmt_model import SMALL, VARIANTS, params

BIGRAMS = {
    0: (0.01, 0.01, 0.08, 0.60, 0.30),
    3: (0.01, 0.01, 0.38, 0.20, 0.40),
    4: (0.01, 0.01, 0.78, 0.10, 0.10),
}
LogProbs = Callable[[list[int]], list[float]]
NUM_CASES = 50
"""Sentences of each variant: 200 in all."""


def slow_search(log_probs: LogProbs, *, beams: int, max_length: int, alpha: float) -> list[tuple[float, list[int]]]:
    """Return finished sentences best first, or the live ones where none finished; every prefix scored from nothing."""

    def penalty(length: int) -> float:
        return float(((5 + length) / 6) ** alpha)

    live: list[tuple[float, list[int]]] = [(0.0, [0])]
    finished: list[tuple[float, list[int]]] = []
    for length in range(1, max_length):
        candidates = [
            (score + value, [*tokens, token]) for score, tokens in live for token, value in enumerate(log_probs(tokens))
        ]
        candidates = sorted(candidates, key=lambda item: -item[0])[: 2 * beams]
        live = [item for item in candidates if item[1][-1] != EOS_ID][:beams]
        ended = [(score / penalty(length), tokens) for score, tokens in candidates if tokens[-1] == EOS_ID]
        finished = sorted(finished + ended, key=lambda item: -item[0])[:beams]
        if len(finished) == beams and finished[-1][0] > live[0][0] / penalty(max_length):
            break
    return finished or live


def bigram_logits(tokens: Tensor, index: Tensor, ancestors: Tensor) -> Tensor:
    table = torch.tensor([BIGRAMS.get(token, (0.2,) * 5) for token in range(5)])
    return table[tokens].log()


def test_a_bigram_model_gives_the_list_of_the_specification() -> None:
    search = BeamSearch(num_beams=4, max_length=6, length_penalty=0.6)

    found = search.run(bigram_logits, num_sentences=1, device=torch.device("cpu"))

    sequences = [row[1 : row.index(EOS_ID) + 1] for row in found.tokens[0].tolist()]
    assert sequences == [[4, 2], [3, 2], [3, 4, 2], [2]]
    assert found.scores[0].tolist() == pytest.approx([-1.324123, -1.347804, -1.409942, -2.525729], abs=2e-6)
    assert found.is_finished.all()


def test_the_slow_search_gives_the_list_of_the_specification_too() -> None:
    def log_probs(tokens: list[int]) -> list[float]:
        return [math.log(p) for p in BIGRAMS.get(tokens[-1], (0.2,) * 5)]

    found = slow_search(log_probs, beams=4, max_length=6, alpha=0.6)

    assert [tokens[1:] for _, tokens in found] == [[4, 2], [3, 2], [3, 4, 2], [2]]


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, 1.0), (2, 1.096903), (10, 1.732862), (50, 3.778565), (255, 9.596067), (256, 9.618194)],
)
def test_length_penalties_are_those_of_the_specification(length: int, expected: float) -> None:
    search = BeamSearch(num_beams=4, max_length=256, length_penalty=0.6)

    assert float(search.penalty(length)) == pytest.approx(expected, abs=1e-6)


def small_model(variant: str, seed: int, **changes: Any) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(params(variant, **SMALL | changes)).double().eval()
    with torch.no_grad():
        # So that translations depend on sources and some end early: an initialised model repeats itself.
        model.embedding.weight *= 0.5
        model.embedding.weight[EOS_ID] *= 2.0
        for layer in model.decoder:
            for weight in layer.cross.parameters():  # type: ignore[union-attr]
                weight.mul_(3.0)
    return model


def random_sources(count: int, vocab_size: int, seed: int) -> list[list[int]]:
    generator = np.random.Generator(np.random.PCG64(seed))
    return [[*generator.integers(3, vocab_size, size=generator.integers(1, 9)).tolist(), EOS_ID] for _ in range(count)]


def as_side(sources: list[list[int]], width: int) -> Side:
    rows = torch.zeros(3, len(sources), width, dtype=torch.int64)
    for row, ids in enumerate(sources):
        rows[0, row, : len(ids)] = torch.tensor(ids)
        rows[1, row, : len(ids)] = torch.arange(len(ids))
        rows[2, row, : len(ids)] = 1
    return Side(*rows)


def fast_search(model: Transformer, sources: Side, search: BeamSearch) -> list[list[int]]:
    with torch.no_grad():
        memory = cast("tuple[KeysValues, ...]", model(sources))
        b, heads, _, channels = memory[0].keys.shape
        shape = (b, heads, search.max_length * search.num_beams, channels)
        cache = tuple(KeysValues(*(m.keys.new_zeros(shape) for _ in range(2))) for m in memory)

        def next_logits(tokens: Tensor, index: Tensor, ancestors: Tensor) -> Tensor:
            return cast("Tensor", model(Step(tokens, index, ancestors, memory, sources.segments > 0, cache)))

        return search.run(next_logits, num_sentences=b, device=torch.device("cpu")).tokens[:, 0].tolist()


def uncached(model: Transformer, source: list[int]) -> LogProbs:
    """Return the model's log-probabilities after any prefix, from a forward pass over all of it."""
    from perfbench.workloads.wmt.model import Pairs

    def log_probs(tokens: list[int]) -> list[float]:
        targets = as_side([[*tokens[1:], 3]], len(tokens))
        with torch.no_grad():
            logits = cast("Tensor", model(Pairs(as_side([source], len(source)), targets)))
        return cast("list[float]", logits[0, -1].log_softmax(dim=-1).tolist())

    return log_probs


def until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(EOS_ID) + 1] if EOS_ID in tokens else tokens


@pytest.mark.parametrize("variant", VARIANTS)
def test_sentences_of_random_models_are_those_of_the_slow_search(variant: str) -> None:
    model = small_model(variant, 3, vocab_size=20, num_layers=1, row_length=12)
    sources = random_sources(NUM_CASES, 20, 5)
    search = BeamSearch(num_beams=4, max_length=12, length_penalty=0.6)

    found = fast_search(model, as_side(sources, 12), search)

    expected = [slow_search(uncached(model, source), beams=4, max_length=12, alpha=0.6)[0][1] for source in sources]
    assert [until_end(tokens) for tokens in found] == expected
    assert len({tuple(tokens) for tokens in expected}) > 5, "the cases must differ to mean anything"


def test_a_sentence_s_translation_does_not_depend_on_the_batch_it_is_in() -> None:
    model = small_model("wmt", 4, row_length=12)
    sources = random_sources(12, 50, 6)
    search = BeamSearch(num_beams=4, max_length=12, length_penalty=0.6)

    together = fast_search(model, as_side(sources, 12), search)
    alone = [fast_search(model, as_side([source], 12), search)[0] for source in sources]

    assert [until_end(t) for t in together] == [until_end(t) for t in alone]
