"""The public files: parquet with a row for each document, read in the order of their names and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from perfbench.data.source_files import is_clutter, size_of
from perfbench.errors import DataError

_TEXT = ("string", "large_string")

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "text": _TEXT,
    "id": _TEXT,
    "dump": _TEXT,
    "url": _TEXT,
    "file_path": _TEXT,
    "language": _TEXT,
    "language_score": ("double",),
    "token_count": ("int64",),
    "score": ("double",),
    "int_score": ("int64",),
}
"""Of the public files, with the types that each may have (the first is the public one). Only ``text`` is trained on."""

PUBLIC_SUBFOLDER = "sample/10BT"
KNOWN_SHA256 = {"013_00000.parquet": "b393f51fefab26cd6f4c8f65707c1924f6666c4961a0ebebe04bb57f7ec832de"}
"""Of revision 87f09149ef4734204d70ed1d046ddc9ca3f2b8f9; no other file's was seen."""

_BATCH_DOCUMENTS = 1_024
_FETCH_AGAIN = "fetch the file again"


def files_in(source: Path) -> list[Path]:
    """Return the parquet files of a folder, or of ``sample/10BT`` in it, by name.

    Raises:
        DataError: If there is none.
    """
    for folder in (source / PUBLIC_SUBFOLDER, source):
        if found := sorted(path for path in folder.glob("*.parquet") if not is_clutter(path.name)):
            return found
    raise DataError(
        "holds no parquet file",
        where=str(source),
        hint=f"give --source the folder of the public files, or the one that holds {PUBLIC_SUBFOLDER}",
    )


def num_documents(path: Path) -> int:
    """Return how many documents a file holds, after checking that it has the public columns; reads its end only.

    Raises:
        DataError: If it is damaged, or a column is missing or of another type.
    """
    import pyarrow.parquet as pq

    with _readable(path), pq.ParquetFile(path) as file:
        schema, count = file.schema_arrow, int(file.metadata.num_rows)
    for name, types in COLUMNS.items():
        if name not in schema.names:
            raise DataError(f"has no column {name!r}", where=str(path), hint="it is no file of FineWeb-Edu")
        found = str(schema.field(name).type)
        if found not in types:
            raise DataError(
                f"column {name!r} is {found}, not {types[0]}", where=str(path), hint="it is no file of FineWeb-Edu"
            )
    return count


def num_gpt2_tokens(path: Path) -> int:
    """Return how many tokens of GPT-2's vocabulary a file says it has, end marks not counted.

    Raises:
        DataError: If it is damaged.
    """
    import pyarrow.parquet as pq

    with _readable(path):
        column = pq.read_table(path, columns=["token_count"]).column("token_count").to_numpy()
        return int(column.sum())


def texts(path: Path) -> Iterator[list[str]]:
    """Yield the documents of a file, in blocks.

    Raises:
        DataError: If the file is damaged, or a document has no text.
    """
    import pyarrow.parquet as pq

    first = 0
    with _readable(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH_DOCUMENTS, columns=["text"], use_threads=False):
            block = batch.column("text").to_pylist()
            if not all(block):
                empty = next(number for number, text in enumerate(block) if not text)
                raise DataError(
                    f"document {first + empty} has no text", where=str(path), hint="the public files have none such"
                )
            yield block
            first += len(block)


def write(path: Path, documents: Sequence[str], *, source: str) -> None:
    """Write documents as a public file; what there is no value for says so by its constant.

    Args:
        path: Of the file.
        documents: Texts.
        source: Stands in the columns that name a web page.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(documents)
    values: dict[str, list[JsonValue]] = {
        "text": list(documents),
        "id": [f"{source}-{number}" for number in range(count)],
        "dump": [source] * count,
        "url": [""] * count,
        "file_path": [""] * count,
        "language": ["en"] * count,
        "language_score": [1.0] * count,
        "token_count": [len(text.split()) for text in documents],  # words: GPT-2's vocabulary is not here
        "score": [0.0] * count,
        "int_score": [0] * count,
    }
    schema = pa.schema([(name, pa.type_for_alias(types[0])) for name, types in COLUMNS.items()])
    pq.write_table(pa.table(values, schema=schema), path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    size_of(path)  # a pipe of this name would never answer
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as problem:
        first_line = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise DataError(f"cannot be read as parquet: {first_line}", where=str(path), hint=_FETCH_AGAIN) from None
