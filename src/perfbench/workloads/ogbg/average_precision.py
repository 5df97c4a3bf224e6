"""Mean average precision over tasks with missing labels.

The precision at each distinct score, weighted by the recall gained there; no interpolation, in float64. Equal scores
share one threshold. Source: ``sklearn.metrics.average_precision_score``, as the predecessor uses it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from perfbench.workloads.ogbg.params import Scoring


def mean_average_precision(scores: NDArray[np.float32], labels: NDArray[np.int8], *, scoring: Scoring) -> float:
    """Return the mean over the tasks that count; NaN if none does or a score is not finite.

    Args:
        scores: Shape ``[graphs, tasks]``; a larger one says "positive" more firmly.
        labels: Same shape: 0, 1, or -1 where missing; missing ones are left out of everything.
        scoring: Whether a task without negatives is left out, or counts as 1.
    """
    if not np.isfinite(scores).all():
        return math.nan
    by_task = []
    for task_scores, task_labels in zip(scores.T, labels.T, strict=True):
        is_labelled = task_labels >= 0
        is_positive = task_labels[is_labelled] == 1
        if is_positive.any() and (scoring is Scoring.AS_PUBLISHED or not is_positive.all()):
            by_task.append(average_precision(task_scores[is_labelled], is_positive))
    return float(np.mean(by_task)) if by_task else math.nan


def average_precision(scores: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> float:
    """Return the average precision of one task that has a positive.

    >>> average_precision(np.asarray([0.5, 0.5, 0.5, 0.1], dtype=np.float32), np.asarray([True, False, True, False]))
    0.6666666666666666
    """
    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    is_last_of_its_score = np.append(descending[1:] != descending[:-1], [True])
    num_positives = np.cumsum(is_positive[order])[is_last_of_its_score].astype(np.float64)
    num_taken = np.flatnonzero(is_last_of_its_score) + 1.0
    recall_gained = np.diff(num_positives, prepend=0.0) / num_positives[-1]
    return float((recall_gained * num_positives / num_taken).sum())
