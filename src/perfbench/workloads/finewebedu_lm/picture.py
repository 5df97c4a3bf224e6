"""What a batch looks like: text with the loss of every token, and how the model goes on by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from perfbench.api.picture import Picture, TablePanel, TextPanel, spread_examples
from perfbench.api.workload import Batch
from perfbench.workloads.finewebedu_lm.vocabulary import Vocabulary

_NUM_ROWS = 3
_SHOWN_TOKENS = 256
_PROMPT_TOKENS, _NEW_TOKENS = 64, 32
_DEEPEST_NATS = 8.0
_NEW_LINE, _END = "\u21b5", "\u220e"


def text_panels(model: nn.Module, batch: Batch, vocabulary: Vocabulary) -> Picture:
    """Return some rows of a batch, each token on a shade by its loss, and greedy continuations of their beginnings.

    Args:
        model: Gives losses, and without targets logits.
        batch: Of training or evaluation.
        vocabulary: Turns ids into text.
    """
    is_real = batch.get("weights", torch.ones(len(batch["input_ids"])))
    rows = spread_examples(batch, is_real, count=_NUM_ROWS)
    losses = model(rows["input_ids"], rows["target_ids"])
    panels = [
        _text(f"loss of each token, {float(row.mean()):.2f} nats on average", targets.tolist(), row, vocabulary)
        for targets, row in zip(rows["target_ids"].cpu(), losses.float().cpu(), strict=True)
    ]
    mean = float(losses.mean())
    return Picture(
        caption=f"{len(panels)} of {len(is_real)} rows of {losses.shape[1]} tokens; deepest shade {_DEEPEST_NATS:.0f} "
        f"nats or more; loss of these rows {mean:.3f}, perplexity {math.exp(min(mean, 700.0)):.1f}",
        panels=(*panels, _continuations(model, rows["input_ids"], vocabulary)),
        num_columns=1,
    )


def continued(model: nn.Module, ids_bt: Tensor, *, num_new: int) -> Tensor:
    """Return ``num_new`` tokens ``[b, num_new]`` after each row of ``ids``, always the most likely one.

    The model sees one length only (what follows a position never changes its prediction), so that a compiled one is
    compiled once.
    """
    b, num_given = ids_bt.shape
    ids = torch.cat([ids_bt, ids_bt.new_zeros(b, num_new)], dim=1)
    for place in range(num_given, num_given + num_new):
        logits = model(ids)
        ids[:, place] = logits[:, place - 1].argmax(dim=-1).to(ids.dtype)
    return ids[:, num_given:]


def _text(title: str, ids: Sequence[int], losses: Tensor, vocabulary: Vocabulary) -> TextPanel:
    shown = list(ids[:_SHOWN_TOKENS])
    return TextPanel(
        title=title,
        pieces=tuple(_visible(vocabulary.decode([token])) for token in shown),
        values=losses[: len(shown)].numpy(),
        limits=(0.0, _DEEPEST_NATS),
    )


def _continuations(model: nn.Module, ids_bt: Tensor, vocabulary: Vocabulary) -> TablePanel:
    num_given = min(_PROMPT_TOKENS, ids_bt.shape[1] // 2)
    num_new = min(_NEW_TOKENS, ids_bt.shape[1] - num_given)
    prompts, actual = ids_bt[:, :num_given], ids_bt[:, num_given : num_given + num_new]
    columns = [prompts, continued(model, prompts, num_new=num_new), actual]
    texts = [[vocabulary.decode(ids) for ids in cast("list[list[int]]", column.tolist())] for column in columns]
    return TablePanel(
        title="",
        columns=("beginning", "the model goes on (greedily)", "the text goes on"),
        rows=tuple(zip(*texts, strict=True)),
        shares=(0.4, 0.3, 0.3),
    )


def _visible(piece: str) -> str:
    """Return a piece as one line: the end mark, which is no text, and line feeds as signs."""
    return piece.replace("\n", _NEW_LINE).replace("\t", " ") or _END
