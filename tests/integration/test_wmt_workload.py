"""The whole workload on its small data: exactness over shards and batches, compiled decoding, conformance of rows."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.data.sampling import RowRange
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.wmt import invented, prepare
from perfbench.workloads.wmt.data import TrainingRows
from perfbench.workloads.wmt.workload import WmtWorkload, _pairs

NUM_PAIRS = {"train": 500, "validation": 23, "test": 31}
VARIANTS = ("wmt", "wmt_post_ln", "wmt_attention_temp", "wmt_glu_tanh")


def small(variant: str = "wmt", **changes: object) -> WorkloadSpec:
    base = compose_workload(variant, scale="mini")
    small = {"vocab_size": 120, "tokenizer_sample_bytes": 60_000, "expected_examples": NUM_PAIRS, "row_length": 48}
    params = base.params | small | {"width": 16, "eval_train_examples": 10} | changes
    return base.model_copy(update={"params": params})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw, out = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("wmt")
    invented.write_raw(raw, seed=3, num_pairs=NUM_PAIRS)
    request = PrepareRequest(
        workload=small(), destination=out, source=raw, progress=lambda what, done, total: None, options={}
    )
    prepare.prepare(request)
    return out


@pytest.mark.parametrize("batching", ["packed", "padded"])
def test_an_epoch_of_rows_holds_every_pair_that_fits_once(folder: Path, batching: str) -> None:
    workload = WmtWorkload(small(batching=batching), folder)
    rows = TrainingRows(workload._stores["train"], workload.params, seed=0)
    batch = rows.batch([RowRange(0, rows.num_rows)])
    store = workload._stores["train"]
    fits = np.flatnonzero(np.maximum(store.sources.lengths(), store.targets.lengths()) <= 48)

    assert sorted(rows.pairs.tolist()) == fits.tolist()
    assert int((batch["source_segments"] > 0).sum()) == int(store.sources.lengths()[fits].sum())
    assert int((batch["target_segments"] > 0).sum()) == int(store.targets.lengths()[fits].sum())
    assert int(batch["target_segments"].amax(dim=1).sum()) == len(fits)
    assert (batch["target_segments"].amax(dim=1) == batch["source_segments"].amax(dim=1)).all()
    if batching == "padded":
        assert rows.num_rows == len(fits)


def test_the_loss_of_packed_rows_is_the_loss_of_padded_ones(folder: Path) -> None:
    totals = []
    for batching in ("packed", "padded"):
        workload = WmtWorkload(small(batching=batching), folder)
        rows = TrainingRows(workload._stores["train"], workload.params, seed=0)
        sums = workload.loss(workload.build_model(seed=0).eval(), rows.batch([RowRange(0, rows.num_rows)]))
        totals.append((float(sums.summed.detach()), float(sums.num_valid)))

    assert totals[0] == pytest.approx(totals[1], rel=1e-5)


def test_a_long_evaluation_source_is_cut_and_still_counted(folder: Path) -> None:
    workload = WmtWorkload(small(row_length=8), folder)
    model = workload.build_model(seed=0).eval()

    totals: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for batch in workload.eval_batches(Split.VALIDATION, global_batch_size=8, seed=0, shard=Shard()):
            for name, value in workload.eval_sums(model, batch, split=Split.VALIDATION).items():
                totals[name] = totals[name] + value if name in totals else value

    metrics = workload.finish_metrics(Split.VALIDATION, totals)
    assert metrics["num_examples"] == 23
    references = [line.split() for line in (folder / "newstest2013.references.txt").read_text().splitlines()]
    assert int(totals["bleu_raw"][1]) >= sum(len(words) for words in references), "reference text is whole"


def test_no_more_training_pairs_are_evaluated_than_fit_a_row(folder: Path) -> None:
    workload = WmtWorkload(small(eval_train_examples=10_000, decodes=False), folder)

    batches = workload.eval_batches(Split.EVAL_TRAIN, global_batch_size=500, seed=0, shard=Shard())
    counted = sum(float(batch["weights"].sum()) for batch in batches)

    sums = {name: torch.tensor(counted) for name in ("loss", "right", "num_tokens", "num_examples")}
    assert 0 < workload.finish_metrics(Split.EVAL_TRAIN, sums)["num_examples"] == counted < 10_000


def test_perplexity_is_of_all_tokens_and_needs_no_decoding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = WmtWorkload(small(decodes=False), folder)
    monkeypatch.setattr(workload, "translations", lambda *_: pytest.fail("a sentence was decoded"))
    model = workload.build_model(seed=0).eval()
    batches = list(workload.eval_batches(Split.VALIDATION, global_batch_size=8, seed=0, shard=Shard()))
    with torch.no_grad():
        sums = [workload.eval_sums(model, batch, split=Split.VALIDATION) for batch in batches]
        metrics = workload.finish_metrics(
            Split.VALIDATION, {name: torch.stack([s[name] for s in sums]).sum(dim=0) for name in sums[0]}
        )
        tokens = [
            float(-torch.log_softmax(model(_pairs(batch))[row, place], dim=-1)[batch["target_ids"][row, place]])
            for batch in batches
            for row, place in (batch["target_segments"] * batch["weights"][:, None]).nonzero().tolist()
        ]

    assert metrics["num_tokens"] == len(tokens)
    assert metrics["perplexity"] == pytest.approx(float(np.exp(np.mean(tokens))), rel=1e-5)
    assert not {"bleu", "bleu_raw"} & set(metrics)
    assert workload.finish_metrics(
        Split.VALIDATION, {**sums[0], "num_examples": torch.tensor(23.0), "loss": torch.tensor(1e9)}
    )["perplexity"] == float("inf")


@pytest.mark.parametrize("split", list(Split))
def test_ranks_without_sentences_add_the_same_sums_and_change_no_metric(folder: Path, split: Split) -> None:
    workload = WmtWorkload(small(), folder)
    model = workload.build_model(seed=0).eval()
    metrics = []
    for num_ranks in (1, 4):
        total: dict[str, torch.Tensor] = {}
        names = set()
        for rank in range(num_ranks):
            shard = Shard(rank=rank, num_ranks=num_ranks)
            for batch in workload.eval_batches(split, global_batch_size=48, seed=0, shard=shard):
                with torch.no_grad():
                    sums = workload.eval_sums(model, batch, split=split)
                names.add(tuple(sorted(sums)))
                total = {name: value + total.get(name, 0) for name, value in sums.items()}
        assert len(names) == 1
        metrics.append(workload.finish_metrics(split, total))

    assert metrics[1] == pytest.approx(metrics[0], rel=1e-6)


@pytest.mark.parametrize("as_published", [False, True])
def test_a_hypothesis_without_an_end_is_kept_whole_unless_as_published(folder: Path, *, as_published: bool) -> None:
    workload = WmtWorkload(small(as_published=as_published), folder)

    assert workload._words([0, 7, 8, 2, 9, 2]) == [7, 8]
    assert workload._words([0, 7, 8, 9]) == ([7] if as_published else [7, 8, 9])


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_training_evaluation_and_decoding_are_three_graphs_that_never_recompile(variant: str, folder: Path) -> None:
    torch._dynamo.reset()
    counters.clear()
    workload = WmtWorkload(small(variant), folder)
    model = workload.build_model(seed=0)
    compiled = cast("nn.Module", torch.compile(model, fullgraph=True, dynamic=False, backend="eager"))

    def evaluate() -> None:
        model.eval()
        with torch.no_grad():
            for split in Split:
                for batch in workload.eval_batches(split, global_batch_size=10, seed=0, shard=Shard()):
                    workload.eval_sums(compiled, batch, split=split)

    evaluate()
    with torch.compiler.set_stance("fail_on_recompile"):
        evaluate()

    assert sum(counters["graph_break"].values()) == 0
    assert counters["stats"]["unique_graphs"] == 3, "pairs, sources, step"


@pytest.mark.slow
def test_compiled_decoding_gives_the_translations_of_the_plain_model(folder: Path) -> None:
    torch._dynamo.reset()
    workload = WmtWorkload(small(), folder)
    model = workload.build_model(seed=2)
    compiled = cast("nn.Module", torch.compile(model.eval(), fullgraph=True, dynamic=False))
    batch = next(workload.eval_batches(Split.VALIDATION, global_batch_size=8, seed=0, shard=Shard()))

    with torch.no_grad():
        assert workload.translations(compiled, batch) == workload.translations(model, batch)
