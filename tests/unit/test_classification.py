"""Loss, sums and metrics that image workloads share; figures from the imagenet_resnet specification, section 8."""

from __future__ import annotations

import pytest
import torch

from perfbench.data.classification import classification_sums, softmax_loss

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
ONES = torch.ones(2)


@pytest.mark.parametrize(("smoothing", "expected"), [(0.0, [0.169846, 0.551445]), (0.1, [0.336513, 0.618111])])
@pytest.mark.parametrize("targets", [torch.tensor([0, 1]), torch.eye(3)[:2]])
def test_loss_by_hand_for_labels_and_probabilities(
    targets: torch.Tensor, smoothing: float, expected: list[float]
) -> None:
    sums = softmax_loss(LOGITS, targets, ONES, label_smoothing=smoothing)

    assert sums.per_example.tolist() == pytest.approx(expected, abs=1e-6)
    assert float(sums.summed) == pytest.approx(sum(expected), abs=1e-6)
    assert float(sums.num_valid) == 2


def test_padded_examples_weigh_nothing() -> None:
    batch = {"targets": torch.tensor([0, 1]), "weights": torch.tensor([1.0, 0.0])}

    sums = classification_sums(LOGITS, batch)

    assert float(sums["num_right"]) == 1
    assert float(sums["num_examples"]) == 1
    assert float(sums["loss"]) == pytest.approx(0.169846, abs=1e-6)
    assert all(value.dtype == torch.float64 for value in sums.values())


def test_a_tie_predicts_the_first_class() -> None:
    batch = {"targets": torch.tensor([0, 1]), "weights": ONES}

    assert float(classification_sums(torch.zeros(2, 3), batch)["num_right"]) == 1
