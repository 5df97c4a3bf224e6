"""What a batch looks like: sentences, and the model's translation of each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from perfbench.api.picture import Picture, TablePanel, padding_share, spread_examples
from perfbench.api.workload import Batch
from perfbench.workloads.wmt.tokenizer import Tokenizer

_NUM_SHOWN = 8
_SIDES = ("source", "target")


def first_sentences(batch: Batch) -> Batch:
    """Return some rows of a batch with only the first sentence of each: what decoding takes."""
    rows = spread_examples(batch, batch["source_segments"].amax(dim=1), count=_NUM_SHOWN)
    names = [(side, name) for side in _SIDES for name in ("ids", "positions", "segments")]
    return {
        f"{side}_{name}": torch.where(rows[f"{side}_segments"] == 1, rows[f"{side}_{name}"], 0) for side, name in names
    }


def sentence_table(batch: Batch, tokenizer: Tokenizer, translate: Callable[[Batch], list[str]]) -> Picture:
    """Return the first sentence of each of some rows: source, reference, translation.

    Args:
        batch: Rows of training or evaluation.
        tokenizer: Turns ids into text.
        translate: Returns the translation of every row that holds one sentence.
    """
    shown = first_sentences(batch)
    texts = [tokenizer.decode([ids[segments > 0].tolist() for ids, segments in _rows(shown, side)]) for side in _SIDES]
    is_real = torch.stack([batch[f"{side}_segments"] > 0 for side in _SIDES])
    num_sentences = int(batch["source_segments"].amax(dim=1).sum())
    table = TablePanel(
        title="",
        columns=("source", "reference", "translation"),
        rows=tuple(zip(*texts, translate(shown), strict=True)),
        shares=(0.33, 0.33, 0.34),
    )
    return Picture(
        caption=f"first sentences of {len(table.rows)} of {len(batch['source_ids'])} rows; {num_sentences} pairs "
        f"in the batch, {padding_share(int(is_real.sum()), is_real.numel())}",
        panels=(table,),
        num_columns=1,
    )


def _rows(batch: Batch, side: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(batch[f"{side}_ids"].cpu(), batch[f"{side}_segments"].cpu(), strict=True))
