"""A cut of GPT-2's vocabulary with its true ids, and small public files of invented text."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.finewebedu_lm import parquet

MERGES = {
    0: "Ġ t", 2: "h e", 6: "Ġt he", 7: "e r", 10: "Ġ w", 11: "Ġ o", 13: "Ġ c", 17: "o r", 19: "Ġ b", 21: "Ġ f",
    32: "Ġ d", 35: "i c", 41: "l l", 43: "Ġ n", 44: "Ġ l", 47: "v e", 49: "r o", 53: "Ġ T", 76: "v er", 79: "l d",
    106: "Ġ 2", 127: "ĠT he", 132: "u m", 141: "a b", 165: "q u", 191: "â Ģ", 208: "T he", 210: "Ġd o", 218: "Ġ j",
    220: "Ġw or", 308: "Ġ âĢ", 368: "ic k", 369: "Ġo ver", 371: "Ġ qu", 372: "Ċ Ċ", 419: "w n", 439: "e ll",
    595: "ĠâĢ Ķ", 606: "p s", 739: "Ġwor ld", 775: "a z", 884: "o x", 1019: "Ġc a", 1123: "Ġb ro", 1812: "Ġqu ick",
    1819: "2 6", 2378: "Ã ©", 3034: "Ġdo g", 7330: "Ġbro wn", 7886: "um ps", 8681: "ab s", 10853: "ell o",
    12129: "Ġn a", 12326: "az y", 15240: "H ello", 16675: "Ġl azy", 17789: "Ġj umps", 19689: "Ġca f", 21575: "Ġf ox",
    26628: "Ã ¯", 38520: "Ã¯ ve", 40048: "Ġcaf Ã©", 41236: "Ġna Ã¯ve", 45731: "0 26",
}  # fmt: skip
"""By their number in GPT-2's ``vocab.bpe``: all that its check texts need, so that these become their true ids."""

END_ID = 50256
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "and",
    "naïve",
    "cafés",
    "—",
    "do",
    "not",
    "worry,",
    "world.",
    "Hello\n\n2,026!",
]


def write_vocabulary(folder: Path, merges: dict[int, str] = MERGES) -> dict[str, str]:
    """Write ``encoder.json`` and ``vocab.bpe``; return their SHA-256."""
    contents = _vocabulary(merges)
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return _sha256_of(contents)


def vocabulary_sha256() -> dict[str, str]:
    """Return what :func:`write_vocabulary` returns."""
    return _sha256_of(_vocabulary(MERGES))


def _sha256_of(contents: dict[str, str]) -> dict[str, str]:
    return {name: hashlib.sha256(content.encode()).hexdigest() for name, content in contents.items()}


def _vocabulary(merges: dict[int, str]) -> dict[str, str]:
    plain = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    characters = [chr(byte) for byte in plain] + [chr(256 + number) for number in range(256 - len(plain))]
    ids = {character: number for number, character in enumerate(characters)}
    ids |= {pair.replace(" ", ""): 256 + number for number, pair in merges.items()}
    ids["<|endoftext|>"] = END_ID
    return {
        "encoder.json": json.dumps(ids),
        "vocab.bpe": "\n".join(["#version: 0.2", *merges.values()]) + "\n",
    }


def documents(count: int, *, seed: int = 0) -> list[str]:
    """Return invented documents of 5 to 60 words."""
    generator = np.random.RandomState(seed)
    return [" ".join(generator.choice(WORDS, generator.randint(5, 61))) for _ in range(count)]


def write_source(folder: Path, *, sizes: tuple[int, ...] = (40, 1, 60, 99)) -> dict[str, str]:
    """Write public files of so many documents each and the vocabulary; return the SHA-256 of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        parquet.write(folder / f"{number:03d}_00000.parquet", documents(size, seed=number), source="invented")
    return write_vocabulary(folder)


def small_spec(sha256: dict[str, str], *, variant: str = "finewebedu_lm", **changes: Any) -> WorkloadSpec:
    """Return the full workload with a small model, for 200 documents."""
    base = compose_workload(variant, scale="full")
    small: dict[str, object] = {
        "vocabulary_sha256": sha256,
        "expected_documents": {"train": 180, "validation": 10, "test": 10},
        "row_length": 16,
        "eval_train_rows": 21,
        "validation_rows": 13,
        "test_rows": 9,
        "width": 16,
        "num_heads": 2,
        "num_layers": 1,
        "feed_forward_width": 16,
        "loss_chunk_tokens": 64,
    }
    params = base.params | small | changes
    return base.model_copy(update={"params": params, "eval_batch_size": 8, "reference_batch_size": 4})


def request(spec: WorkloadSpec, source: Path | None, destination: Path, **options: str) -> PrepareRequest:
    """Return a request that tells nobody how far it is."""
    return PrepareRequest(
        workload=spec, destination=destination, source=source, progress=lambda *_: None, options=options
    )
