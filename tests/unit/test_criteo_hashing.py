"""Source of the figures: AlgoPerf criteo1tb specification, section 8 (measured on TensorFlow)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from perfbench.compose import compose_workload
from perfbench.errors import DataError
from perfbench.workloads.criteo.hashing import buckets_of, fingerprint
from perfbench.workloads.criteo.model import ClickModel
from perfbench.workloads.criteo.params import BUCKET_COUNTS, NUM_CATEGORICALS, Params
from perfbench.workloads.criteo.tsv import parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"68fd1e640", 9066014191666271819),
        (b"68fd1e6425", 1716711955746752302),
        (b"000000000", 2271946735276985195),
        (b"", 0x9AE16A3B2F90404F),
        (b"a", 0xB3454265B6DF75E3),
    ],
)
def test_fingerprints(text: bytes, expected: int) -> None:
    assert fingerprint(text) == expected


def test_a_longer_text_is_refused_and_not_hashed_wrongly() -> None:
    with pytest.raises(DataError, match="cannot hash 17 bytes"):
        fingerprint(b"x" * 17)


def test_the_fast_form_equals_the_plain_one_in_every_column() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    texts = [f"{value:08x}".encode() for value in generator.integers(0, 2**32, size=50)]
    tokens = np.array([int.from_bytes(text, "little") for text in texts], dtype=np.uint64)

    for column in range(NUM_CATEGORICALS):
        expected = [fingerprint(text + str(column).encode()) % BUCKET_COUNTS[column] for text in texts]
        assert buckets_of(tokens, column).tolist() == expected


def full_size_rows(line: str, *, id_rounding: str) -> list[int]:
    """Return the table rows of one line at full scale, without building the table."""
    params = Params.from_mapping(compose_workload("criteo", scale="full").params | {"id_rounding": id_rounding})
    with torch.device("meta"):
        model = ClickModel(params)
    buckets = parse(line.encode() + b"\n", where="test").buckets
    return [int(row) for row in model.table_rows_of(torch.from_numpy(buckets))[0]]


def line_of(integers: list[str], token: str) -> str:
    return "\t".join(["0", *integers, *[token] * 26])


def test_a_row_of_missing_fields() -> None:
    rows = [
        3541121, 10351, 4188, 7307, 19695, 0, 6670, 378, 5, 2526012, 1866611, 184436, 4, 202, 10577, 64, 3, 387, 9,
        810049, 1581498, 2918191, 361450, 6860, 42, 8,
    ]  # fmt: skip

    assert full_size_rows(line_of([""] * 13, ""), id_rounding="algoperf") == rows
    assert full_size_rows(line_of(["-1"] * 13, "-1"), id_rounding="algoperf")[0] == 3541121


def test_one_token_in_all_columns_and_the_integers() -> None:
    texts = ["-1", "-2", "-3", "0", "1", "2", "9", "99", "999", "12345678", "2147483647", "", "5"]
    line = line_of(texts, "68fd1e64")
    rows = [
        2539825, 35569, 172, 4667, 5782, 2, 311, 1374, 21, 759600, 1193498, 72630, 9, 1245, 189, 18, 2, 629, 11,
        3443480, 2057964, 1597704, 245385, 3812, 29, 34,
    ]  # fmt: skip
    logs = [0, 0, 0, 0, 0.693147, 1.098612, 2.302585, 4.605170, 6.907755, 16.328817, 21.487562, 0, 1.791759]

    assert full_size_rows(line, id_rounding="algoperf") == rows
    integers = parse(line.encode() + b"\n", where="test").integers[0]
    assert np.log1p(integers.astype(np.float32)).tolist() == pytest.approx(logs, abs=1e-5)


@pytest.mark.parametrize(
    ("token", "column", "bucket", "rounded", "row"),
    [
        ("68fd1e64", 21, 35152134, 35152136, 1597704),
        ("ffffffff", 0, 33092525, 33092524, 3732396),
        ("05db9164", 20, 16916074, 16916074, 138858),
    ],
)
def test_rounding_to_float32_is_an_option_and_not_the_default(
    token: str, column: int, bucket: int, rounded: int, row: int
) -> None:
    line = line_of([""] * 13, token)

    assert parse(line.encode() + b"\n", where="test").buckets[0, column] == bucket
    assert full_size_rows(line, id_rounding="algoperf")[column] == row == rounded % 4194304
    assert full_size_rows(line, id_rounding="exact")[column] == bucket % 4194304
    assert compose_workload("criteo", scale="full").params["id_rounding"] == "exact"


def test_float32_rounds_large_ids_as_published() -> None:
    ids = torch.tensor([16777217, 16777219, 33554434, 33554438, 39884405], dtype=torch.int32)

    assert ids.to(torch.float32).to(torch.int32).tolist() == [16777216, 16777220, 33554432, 33554440, 39884404]
