"""Which split each document belongs to: a permutation of document numbers, drawn once, cut into three parts.

The reference shuffles the documents twice, in two orders, and takes the first nine tenths of one for training and the
rest of the other for validation: nine tenths of its validation documents are trained on. Here each document has one
number and each number one split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfbench.workloads.finewebedu_lm.params import StoredSplit

SEED = 0
SPLITS: tuple[StoredSplit, ...] = ("train", "validation", "test")

SplitNumbers = NDArray[np.uint8]
"""``[documents]``, each an index into ``SPLITS``."""


def split_of_documents(num_documents: int) -> SplitNumbers:
    """Return the split of each document: nine tenths train (rounded down), of the rest the first half tests.

    ``RandomState`` is used because its numbers are the same in every version of numpy.

    >>> [int((split_of_documents(1189) == number).sum()) for number in range(3)]
    [1070, 60, 59]
    """
    order = np.random.RandomState(SEED).permutation(num_documents)
    num_train = num_documents * 9 // 10
    num_test = (num_documents - num_train) // 2
    splits = np.full(num_documents, SPLITS.index("validation"), dtype=np.uint8)
    splits[order[:num_train]] = SPLITS.index("train")
    splits[order[num_train : num_train + num_test]] = SPLITS.index("test")
    counts = np.bincount(splits, minlength=len(SPLITS)).tolist()
    assert counts == [num_train, num_documents - num_train - num_test, num_test], "a document is in one split"
    return splits
