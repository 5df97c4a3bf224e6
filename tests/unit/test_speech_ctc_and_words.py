"""CTC, greedy decoding and word errors against hand examples, the libraries that define them, and each other."""

from __future__ import annotations

import math
import random

import jiwer
import pytest
import torch

from perfbench.data.speech.ctc import ctc_losses
from perfbench.data.speech.word_errors import (
    greedy_ids,
    published_word_errors,
    without_blanks,
    word_errors,
)


def loss(logits: torch.Tensor, labels: list[int]) -> float:
    padded = torch.tensor([labels + [0] * 3])
    return float(ctc_losses(logits[None], padded, torch.tensor([len(logits)]), torch.tensor([len(labels)]))[0])


@pytest.mark.parametrize(
    ("frames", "labels", "expected"),
    [
        (3, [5], 3 * math.log(1024) - math.log(6)),
        (4, [5, 5], 26.116449),
        (4, [5, 6], 25.017836),
        (3, [], 20.794415),
        (2, [5, 5], math.inf),
    ],
)
def test_losses_of_uniform_logits(frames: int, labels: list[int], expected: float) -> None:
    assert loss(torch.zeros(frames, 1024), labels) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_six_classes() -> None:
    logits = torch.tensor([[((t + 1) * (v + 3)) % 7 for v in range(6)] for t in range(5)], dtype=torch.float32)

    assert loss(logits, [1, 2, 2]) == pytest.approx(10.692032, rel=1e-6)


def test_padding_of_frames_and_labels_weighs_nothing_and_gets_no_gradient() -> None:
    logits = torch.zeros(2, 9, 1024, requires_grad=True)
    labels = torch.tensor([[5, 6, 2, 7], [9, 2, 7, 7]])

    losses = ctc_losses(logits, labels, torch.tensor([6, 3]), torch.tensor([3, 2]))
    losses.sum().backward()

    assert losses.tolist() == pytest.approx([37.158012, 19.184977], rel=1e-6)
    assert logits.grad is not None
    assert float(logits.grad[0, 6:].abs().max()) == 0.0
    assert float(logits.grad[1, 3:].abs().max()) == 0.0


@pytest.mark.parametrize("compiled", [False, True])
def test_losses_and_gradients_are_those_of_torch(compiled: bool) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 12, 7, requires_grad=True)
    labels, frames, counts = torch.randint(1, 7, (3, 4)), torch.tensor([12, 9, 7]), torch.tensor([4, 3, 1])
    weights = torch.tensor([1.0, 0.5, 2.0])
    expected = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), labels, frames, counts, reduction="none"
    )
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    function = torch.compile(ctc_losses, fullgraph=True, dynamic=False, backend="aot_eager") if compiled else ctc_losses

    losses = function(logits, labels, frames, counts)
    (gradient,) = torch.autograd.grad((losses * weights).sum(), logits)

    assert torch.equal(losses, expected)
    assert torch.allclose(gradient, expected_gradient, atol=1e-6)


@pytest.mark.parametrize(
    ("best", "length", "expected"),
    [
        ([0, 5, 5, 0, 5, 2, 2, 0], 8, [5, 5, 2]),
        ([3, 3, 3, 4, 4, 0, 0, 2], 8, [3, 4, 2]),
        ([0] * 8, 8, []),
        ([7, 1, 7, 7, 6, 6, 5, 5], 5, [7, 1, 7, 6]),
    ],
)
def test_greedy_decoding_collapses_before_it_drops_blanks(best: list[int], length: int, expected: list[int]) -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([best]), 8).float()

    assert without_blanks(greedy_ids(logits, torch.tensor([length]))) == [expected]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "standard", "published"),
    [
        ("HELLO WORLD", "HELLO WORLD", (0, 2), (0, 4)),
        ("HELLO WORD", "HELLO WORLD", (1, 2), (1, 4)),
        ("", "HELLO WORLD", (2, 2), (2, 4)),
        ("X HELLO WORLD", "HELLO WORLD", (1, 2), (2, 4)),
        ("WORLD", "HELLO WORLD", (1, 2), (2, 4)),
        ("THE CAT SAT ON MAT", "THE CAT SAT ON THE MAT", (1, 6), (1, 8)),
        ("IT IS FINE", "IT'S FINE", (2, 2), (3, 4)),
        ("DONT GO THERE NOW", "DON'T GO THERE NOW", (1, 4), (2, 6)),
        ("HELLO WORLD", "", (2, 0), (2, 3)),
    ],
)
def test_word_errors_in_both_forms(
    hypothesis: str, reference: str, standard: tuple[int, int], published: tuple[int, int]
) -> None:
    assert word_errors([hypothesis], [reference]) == standard
    assert published_word_errors([hypothesis], [reference]) == published


def test_word_errors_are_those_of_jiwer() -> None:
    draw = random.Random(0)
    texts = [[" ".join(draw.choices(["A", "B", "C'S", "DE"], k=draw.randint(1, 8))) for _ in range(200)] for _ in "hr"]

    found = word_errors(texts[0], texts[1])

    assert found.errors / found.words == pytest.approx(jiwer.wer(texts[1], texts[0]), rel=1e-12)
