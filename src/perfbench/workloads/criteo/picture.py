"""What a batch looks like: rows of numbers, and how likely the model finds a click."""

from __future__ import annotations

import torch
from torch import nn

from perfbench.api.picture import Picture, TablePanel, spread_examples
from perfbench.api.workload import Batch

_NUM_SHOWN = 12


def click_table(model: nn.Module, batch: Batch) -> Picture:
    """Return examples as a table: label, predicted probability, 13 counts, 26 hash buckets."""
    shown = spread_examples(batch, batch["weights"], count=_NUM_SHOWN)
    probabilities = torch.sigmoid(model(shown["integers"], shown["ids"]).float()).tolist()
    rows = [
        (str(int(label)), f"{probability:.3f}", " ".join(map(str, counts)), " ".join(map(str, buckets)))
        for label, probability, counts, buckets in zip(
            shown["targets"].tolist(), probabilities, shown["integers"].tolist(), shown["ids"].tolist(), strict=True
        )
    ]
    table = TablePanel(
        title="",
        columns=("click", "predicted", "13 counts", "26 hash buckets"),
        rows=tuple(rows),
        shares=(0.05, 0.08, 0.34, 0.53),
    )
    percent = 100 * float(batch["targets"].sum() / batch["weights"].sum())
    return Picture(
        caption=f"{len(rows)} of {len(batch['weights']):,} examples; {percent:.1f} % of the batch are clicks",
        panels=(table,),
        num_columns=1,
    )
