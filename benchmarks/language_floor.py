"""What models without a network reach on the language model's small data: unigrams, and bigrams smoothed by them.

The targets at mini scale must lie below both: a perplexity that counting pairs of tokens reaches shows no training.

    python -m benchmarks.language_floor [--data NAME]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from perfbench.compose import compose_workload
from perfbench.data.preparation import data_folder
from perfbench.launch.preflight import ensure_data
from perfbench.workloads.finewebedu_lm.data import fixed_rows
from perfbench.workloads.finewebedu_lm.params import Params
from perfbench.workloads.finewebedu_lm.token_store import Rows

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Of the bigram; the unigram has the rest. The best one is reported, which favours the bigram."""


def main() -> None:
    """Count, and print perplexities on the validation rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="data set; the workload's default otherwise")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    spec = compose_workload("finewebedu_lm", scale="mini", dataset=arguments.data)
    ensure_data(spec, arguments.data_root.resolve(), lambda *_: None, may_prepare=True)
    params = Params.from_mapping(spec.params)
    folder = data_folder(arguments.data_root.resolve(), spec)
    train, validation = (Rows(folder, split, num_columns=params.row_length + 1) for split in ("train", "validation"))
    counted = train.read(range(len(train)))
    rows = validation.read(fixed_rows(len(validation), params.validation_rows))
    unigram = np.bincount(counted.flatten(), minlength=params.vocab_size) + 1.0
    unigram /= unigram.sum()
    pairs = np.bincount(
        (counted[:, :-1] * params.vocab_size + counted[:, 1:]).flatten(), minlength=params.vocab_size**2
    ).reshape(params.vocab_size, params.vocab_size)
    bigram = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
    chances = unigram[rows[:, 1:]], bigram[rows[:, :-1], rows[:, 1:]]
    best = min((perplexity(share * chances[1] + (1 - share) * chances[0]), share) for share in SHARES)
    Console().print(
        f"{spec.name}, {spec.dataset}: perplexity on {len(rows):,} validation rows: unigram "
        f"{perplexity(chances[0]):.1f}, bigram {best[0]:.1f} ({best[1]:g} of it, the rest unigram)"
    )


def perplexity(chances: NDArray[np.floating[Any]]) -> float:
    """Return it from the probability that each token was given."""
    return math.exp(-float(np.log(chances).mean()))


if __name__ == "__main__":
    main()
