"""Writing small data sets in the public raw format: tab-separated lines in files ``day_N_nn``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

NUM_TRAIN_DAYS = 23
NUM_LAST_DAY_PIECES = 36


def lines(integers: pl.DataFrame, tokens: pl.DataFrame, labels: NDArray[np.uint8]) -> pl.Series:
    """Return one tab-separated line per row; missing values are empty fields."""
    table = pl.concat([pl.DataFrame({"label": labels}), integers, tokens], how="horizontal")
    fields = [pl.col(name).cast(pl.String).fill_null("") for name in table.columns]
    return table.select(pl.concat_str(fields, separator="\t").alias("line")).to_series()


def write_days(folder: Path, rows: pl.Series, *, num_train_rows: int) -> None:
    """Write training rows as one file for each of days 0 to 22, the rest as 36 pieces of day 23.

    The last piece is shorter than the others, so that remainders are exercised.
    """
    for day, part in enumerate(_dealt(rows[:num_train_rows], NUM_TRAIN_DAYS)):
        _write(folder / f"day_{day}_00", part)
    held_out = rows[num_train_rows:]
    size = math.ceil(len(held_out) / NUM_LAST_DAY_PIECES)
    assert len(held_out) > size * (NUM_LAST_DAY_PIECES - 1), "every piece needs rows"
    for piece in range(NUM_LAST_DAY_PIECES):
        _write(folder / f"day_23_{piece:02d}", held_out[piece * size : (piece + 1) * size])


def entropy(labels: NDArray[np.uint8]) -> float:
    """Return the loss in nats of the best constant prediction of 0/1 labels."""
    rate = float(labels.mean())
    return -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))


def _dealt(rows: pl.Series, num_parts: int) -> list[pl.Series]:
    ends = [len(rows) * (part + 1) // num_parts for part in range(num_parts)]
    return [rows[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _write(path: Path, rows: pl.Series) -> None:
    path.write_text("\n".join(rows.to_list()) + "\n")
