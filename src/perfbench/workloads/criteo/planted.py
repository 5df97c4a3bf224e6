"""A data set with a known answer: labels drawn from main effects, sign products and four of the counts.

The sign products are what a linear model cannot see and an interaction layer must find. Everything follows from one
seed, so this is the deterministic data of the tests, and ``data=planted`` for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from perfbench.data.preparation import Generated, Progress
from perfbench.workloads.criteo import raw
from perfbench.workloads.criteo.params import BUCKET_COUNTS, NUM_CATEGORICALS, NUM_INTEGERS

NAME = "planted"
REQUIRED_BYTES = 300_000_000
_SEED = 0
_NUM_TRAIN_ROWS = 368_000
_NUM_HELD_OUT_ROWS = 17_900
_MAX_TOKENS = 60
_MIN_TOKENS_OF_ACTIVE = 30
_NUM_ACTIVE = 8
_NUM_USED_INTEGERS = 4

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Truth:
    """The planted model."""

    token_texts: list[list[str]]
    token_rates: list[FloatArray]
    active: NDArray[np.int64]
    effects: list[FloatArray]
    signs: list[FloatArray]
    integer_means: FloatArray
    used_integers: NDArray[np.int64]
    integer_weights: FloatArray


def write_raw(folder: Path, progress: Progress) -> Generated:
    """Write the planted data as ``day_0_00`` to ``day_23_35``."""
    return write_rows(
        folder, progress, seed=_SEED, num_train_rows=_NUM_TRAIN_ROWS, num_held_out_rows=_NUM_HELD_OUT_ROWS
    )


def write_rows(
    folder: Path, progress: Progress, *, seed: int, num_train_rows: int, num_held_out_rows: int
) -> Generated:
    """Write any number of planted rows."""
    generator = np.random.Generator(np.random.PCG64(seed))
    truth = _draw_truth(generator)
    progress("planting", 0, 2)
    num_rows = num_train_rows + num_held_out_rows
    integers, is_missing = _draw_integers(generator, truth, num_rows)
    ranks = _draw_ranks(generator, truth, num_rows)
    probability = 1 / (1 + np.exp(-_logits(truth, integers, is_missing, ranks)))
    labels = (generator.random(num_rows) < probability).astype(np.uint8)
    progress("planting", 1, 2)
    rows = raw.lines(_integer_table(integers, is_missing), _token_table(truth, ranks), labels)
    raw.write_days(folder, rows, num_train_rows=num_train_rows)
    progress("planting", 2, 2)
    held_out = probability[num_train_rows:]
    bayes = -(held_out * np.log(held_out) + (1 - held_out) * np.log(1 - held_out)).mean()
    return Generated(
        origin={"generator": NAME, "seed": seed, "rows": num_rows},
        facts={"bayes_loss": float(bayes), "constant_predictor_loss": raw.entropy(labels[num_train_rows:])},
    )


def _draw_truth(generator: np.random.Generator) -> Truth:
    num_tokens = [min(count, _MAX_TOKENS) for count in BUCKET_COUNTS]
    texts = [[f"{value:08x}" for value in generator.integers(0, 2**32, size=count)] for count in num_tokens]
    rates = [1 / (np.arange(count) + 3) for count in num_tokens]
    candidates = [column for column, count in enumerate(num_tokens) if count >= _MIN_TOKENS_OF_ACTIVE]
    active = np.sort(generator.choice(candidates, size=_NUM_ACTIVE, replace=False))
    return Truth(
        token_texts=texts,
        token_rates=[rate / rate.sum() for rate in rates],
        active=active,
        effects=[generator.normal(size=num_tokens[column]) for column in active],
        signs=[generator.choice([-1.0, 1.0], size=num_tokens[column]) for column in active],
        integer_means=generator.uniform(0.5, 3.5, size=NUM_INTEGERS),
        used_integers=generator.choice(NUM_INTEGERS, size=_NUM_USED_INTEGERS, replace=False),
        integer_weights=generator.normal(size=_NUM_USED_INTEGERS),
    )


def _draw_integers(
    generator: np.random.Generator, truth: Truth, num_rows: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    drawn = np.exp(truth.integer_means + generator.normal(size=(num_rows, NUM_INTEGERS)))
    return np.floor(drawn).astype(np.int64) - 1, generator.random((num_rows, NUM_INTEGERS)) < 0.1  # noqa: PLR2004


def _draw_ranks(generator: np.random.Generator, truth: Truth, num_rows: int) -> NDArray[np.int64]:
    """Return which token each row has in each column, -1 where missing."""
    columns = [generator.choice(len(rates), size=num_rows, p=rates) for rates in truth.token_rates]
    ranks = np.stack(columns, axis=1)
    ranks[generator.random(ranks.shape) < 0.02] = -1  # noqa: PLR2004 - the share of missing tokens
    return ranks


def _logits(
    truth: Truth, integers: NDArray[np.int64], is_missing: NDArray[np.bool_], ranks: NDArray[np.int64]
) -> FloatArray:
    main = np.zeros(len(ranks))
    signs = []
    for position, column in enumerate(truth.active):
        # A last element of 0 is what the index -1 of a missing token finds.
        main += np.append(truth.effects[position], 0.0)[ranks[:, column]]
        signs.append(np.append(truth.signs[position], 0.0)[ranks[:, column]])
    pairs = sum((signs[pair] * signs[pair + 1] for pair in range(0, _NUM_ACTIVE, 2)), start=np.zeros(len(ranks)))
    counts = np.where(is_missing, 0, np.maximum(integers, 0))[:, truth.used_integers]
    logs = np.log1p(counts)
    counted = (logs - logs.mean(axis=0)) @ truth.integer_weights
    logits: FloatArray = -1.6 + 0.3 * main + 0.8 * pairs + 0.2 * counted
    return logits


def _integer_table(integers: NDArray[np.int64], is_missing: NDArray[np.bool_]) -> pl.DataFrame:
    columns = [pl.Series(f"I{index + 1}", integers[:, index]) for index in range(NUM_INTEGERS)]
    return pl.DataFrame(columns).select(
        pl.when(pl.Series(~is_missing[:, index])).then(pl.col(f"I{index + 1}")).alias(f"I{index + 1}")
        for index in range(NUM_INTEGERS)
    )


def _token_table(truth: Truth, ranks: NDArray[np.int64]) -> pl.DataFrame:
    table = {}
    for column in range(NUM_CATEGORICALS):
        texts = pl.Series([*truth.token_texts[column], None], dtype=pl.String)
        indices = np.where(ranks[:, column] < 0, len(texts) - 1, ranks[:, column])
        table[f"C{column + 1}"] = texts.gather(indices)
    return pl.DataFrame(table)
