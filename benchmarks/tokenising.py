"""How fast public files become tokens: megabytes of text per second of one core, from parquet to the token files.

Measured on the text of the small data with a given vocabulary (GPT-2's two files), the same path as at full scale;
``encoding alone`` is the library without reading, dealing to splits and writing.

    python -m benchmarks.tokenising --vocabulary DIR [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.interleaved import rate_table, timed
from perfbench.compose import compose_workload
from perfbench.workloads.finewebedu_lm import parquet, vocabulary, world_english
from perfbench.workloads.finewebedu_lm.params import Params
from perfbench.workloads.finewebedu_lm.splits import split_of_documents
from perfbench.workloads.finewebedu_lm.tokenising import Job, tokenise

WHOLE = "parquet to token files"
REPEATS = 8
"""Of the text: opening the vocabulary takes as long as encoding a few megabytes."""
PUBLIC_MEGABYTES = 47_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=Path, required=True, help="folder of encoder.json and vocab.bpe")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    params = Params.from_mapping(compose_workload("finewebedu_lm", scale="full").params)
    contents = vocabulary.checked_files(arguments.vocabulary, params.vocabulary_sha256)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file_name, content in contents.items():
            (folder / file_name).write_bytes(content)
        texts = small_texts(folder) * REPEATS
        path = folder / "repeated.parquet"
        parquet.write(path, texts, source="repeated")
        splits = split_of_documents(len(texts))
        job = Job(path=path, number=0, first_document=0, splits=splits, destination=folder, params=params, settings={})
        opened = vocabulary.opened(folder, params)
        ways: dict[str, Callable[[], object]] = {
            WHOLE: lambda: tokenise(job),
            "encoding alone": lambda: opened.encode(texts),
        }
        seconds = timed(ways, rounds=arguments.rounds)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    table = rate_table("work", seconds, amount=megabytes, unit="MB of text per core second", base=WHOLE)
    Console().print(table)
    hours = PUBLIC_MEGABYTES / megabytes * statistics.median(seconds[WHOLE]) / 3600
    Console().print(
        f"{megabytes:.0f} MB a round; the {PUBLIC_MEGABYTES / 1e3:.0f} GB of sample-10BT: {hours:.2f} core hours"
    )


def small_texts(folder: Path) -> list[str]:
    """Return the documents of the small data set."""
    raw = folder / "raw"
    raw.mkdir()
    world_english.write_raw(raw, lambda *_: None)
    return [text for path in parquet.files_in(raw) for block in parquet.texts(path) for text in block]


if __name__ == "__main__":
    main()
