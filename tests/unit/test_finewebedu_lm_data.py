"""Rows and their order: the specification's figures, epochs, shards, fixed evaluation rows; batches without data."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perfbench.api.picture import TablePanel, TextPanel
from perfbench.api.workload import Batch, Shard
from perfbench.compose import compose_workload
from perfbench.errors import WorkloadError
from perfbench.spec.workload import Split
from perfbench.workloads.finewebedu_lm.data import fixed_rows
from perfbench.workloads.finewebedu_lm.picture import continued
from perfbench.workloads.finewebedu_lm.token_store import Rows, file_names
from perfbench.workloads.finewebedu_lm.workload import LanguageModelling, build
from tests.small_text import END_ID, small_spec, write_vocabulary

NUM_COLUMNS = 17
NUM_ROWS = {"train": 22, "validation": 14, "test": 9}


def write_tokens(folder: Path, split: str, tokens: np.ndarray, *cuts: int) -> None:
    for number, part in enumerate(np.split(tokens.astype("<u2"), cuts)):
        (folder / file_names(split, number)[0]).write_bytes(part.tobytes())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> LanguageModelling:
    """Rows of random tokens in three files, of which one is empty, with a few tokens too few for one more row."""
    folder = tmp_path_factory.mktemp("tokens")
    generator = np.random.RandomState(0)
    for split, count in NUM_ROWS.items():
        tokens = generator.randint(0, 256, count * NUM_COLUMNS + 5)
        tokens[::40] = END_ID
        write_tokens(folder, split, tokens, 50, 50)
    sha256 = write_vocabulary(folder)
    return build(small_spec(sha256), folder)


def test_rows_are_cut_without_gap_or_overlap_also_across_files(tmp_path: Path) -> None:
    write_tokens(tmp_path, "train", np.arange(4_100), 1_500, 1_500, 1_600, 2_060)

    rows = Rows(tmp_path, "train", num_columns=1_025)
    found = rows.read(range(4))

    assert len(rows) == 4
    assert found[:, :-1][2].tolist() == list(range(2_050, 3_074))
    assert found[:, 1:][2].tolist() == list(range(2_051, 3_075))
    assert found.flatten().tolist() == list(range(4_100))
    assert rows.read([3, 1])[:, 0].tolist() == [3_075, 1_025]


def numbers(workload: LanguageModelling, seed: int, count: int, shard: Shard | None = None) -> list[list[int]]:
    stream = workload.train_batches(global_batch_size=4, seed=seed, shard=shard or Shard())
    try:
        return [stream.example_ids(index).tolist() for index in range(count)]
    finally:
        stream.close()


def test_an_epoch_visits_every_row_once_in_an_order_of_its_own(workload: LanguageModelling) -> None:
    batches = numbers(workload, 0, 10)
    epochs = [list(itertools.chain(*batches[:5])), list(itertools.chain(*batches[5:]))]

    for epoch in epochs:  # 22 rows are five batches of four; the rest waits for another epoch
        assert len(set(epoch)) == 20
        assert set(epoch) <= set(range(22))
    assert epochs[0] != epochs[1]
    assert numbers(workload, 0, 10) == batches
    assert numbers(workload, 1, 5) != batches[:5]


def test_ranks_read_their_parts_of_each_batch_and_a_stream_continues(workload: LanguageModelling) -> None:
    def batches(shard: Shard, *, skipped: int = 0) -> list[Batch]:
        stream = workload.train_batches(global_batch_size=4, seed=3, shard=shard)
        stream.load_state_dict({"num_returned": skipped})
        try:
            return [next(stream) for _ in range(7 - skipped)]
        finally:
            stream.close()

    whole = batches(Shard())
    parts = [batches(Shard(rank=rank, num_ranks=2)) for rank in range(2)]

    for one, first, second in zip(whole, *parts, strict=True):
        for name, tensor in one.items():
            assert torch.equal(tensor, torch.cat([first[name], second[name]]))
    for later, again in zip(whole[4:], batches(Shard(), skipped=4), strict=True):
        assert all(torch.equal(later[name], again[name]) for name in later)
    assert torch.equal(whole[0]["input_ids"][:, 1:], whole[0]["target_ids"][:, :-1])


def evaluated(workload: LanguageModelling, split: Split, seed: int, *, batch_size: int = 8) -> Tensor:
    batches = workload.eval_batches(split, global_batch_size=batch_size, seed=seed, shard=Shard())
    rows = [batch["input_ids"][batch["weights"] > 0] for batch in batches]
    return torch.cat(rows)


def test_validation_is_the_same_for_every_seed_and_training_rows_are_a_sample(workload: LanguageModelling) -> None:
    for split, count in ((Split.VALIDATION, 13), (Split.TEST, 9)):
        assert torch.equal(evaluated(workload, split, 0), evaluated(workload, split, 1))
        assert len(evaluated(workload, split, 0, batch_size=4)) == count
    samples = [evaluated(workload, Split.EVAL_TRAIN, seed) for seed in (0, 0, 1)]
    assert len(samples[0]) == 21
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_fewer_validation_rows_are_a_part_of_more() -> None:
    all_rows = fixed_rows(486_000, 100_000)
    published = fixed_rows(486_000, 25_024)

    assert len(set(all_rows.tolist())) == 100_000
    assert set(published.tolist()) < set(all_rows.tolist())
    assert np.all(np.diff(all_rows) > 0)
    assert abs(all_rows.mean() / 486_000 - 0.5) < 0.01


def test_perplexity_is_of_all_tokens_of_all_rows(workload: LanguageModelling) -> None:
    model = workload.build_model(seed=0).eval()
    sums: dict[str, Tensor] = {}
    with torch.no_grad():
        for rank in range(2):
            shard = Shard(rank=rank, num_ranks=2)
            for batch in workload.eval_batches(Split.VALIDATION, global_batch_size=8, seed=0, shard=shard):
                for name, value in workload.eval_sums(model, batch, split=Split.VALIDATION).items():
                    sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + value
        metrics = workload.finish_metrics(Split.VALIDATION, sums)
        rows = torch.from_numpy(workload._rows("validation").read(fixed_rows(14, 13))).long()
        log_p = torch.log_softmax(model(rows[:, :-1]).double(), dim=-1).gather(2, rows[:, 1:, None])

    assert metrics["perplexity"] == pytest.approx(math.exp(-float(log_p.mean())), rel=1e-6)
    assert metrics["loss"] == pytest.approx(math.log(metrics["perplexity"]), rel=1e-12)
    assert (metrics["num_examples"], metrics["num_tokens"]) == (13, 13 * 16)
    assert workload.finish_metrics(Split.VALIDATION, sums | {"loss": torch.tensor(1e9)})["perplexity"] == math.inf
    with pytest.raises(WorkloadError, match="validation: evaluated 12 rows instead of 13"):
        workload.finish_metrics(Split.VALIDATION, sums | {"num_examples": torch.tensor(12.0)})


def test_the_loss_counts_every_token(workload: LanguageModelling) -> None:
    model = workload.build_model(seed=0)
    batch = workload.synthetic_batch(batch_size=3, seed=0)

    sums = workload.loss(model, batch, label_smoothing=0.1)
    losses = model(batch["input_ids"], batch["target_ids"], label_smoothing=0.1)

    assert float(sums.num_valid) == 3 * 16
    assert sums.num_valid.dtype == sums.summed.dtype == torch.float32
    assert float(sums.summed.detach()) == pytest.approx(float(losses.detach().sum()), rel=1e-6)
    assert sums.per_example.shape == (3,)


@pytest.mark.parametrize("split", [None, *Split])
def test_a_batch_without_data_is_like_a_real_one(
    workload: LanguageModelling, split: Split | None, tmp_path: Path
) -> None:
    without_data = build(workload.spec, tmp_path / "nothing")
    if split is None:
        stream = workload.train_batches(global_batch_size=4, seed=0, shard=Shard())
        real = next(stream)
        stream.close()
    else:
        real = next(workload.eval_batches(split, global_batch_size=4, seed=0, shard=Shard()))

    invented = without_data.synthetic_batch(batch_size=4, seed=5, split=split)

    assert {n: (t.shape, t.dtype) for n, t in invented.items()} == {n: (t.shape, t.dtype) for n, t in real.items()}
    again, other = (without_data.synthetic_batch(batch_size=4, seed=seed, split=split) for seed in (5, 6))
    assert all(torch.equal(invented[name], again[name]) for name in invented)
    assert not torch.equal(invented["input_ids"], other["input_ids"])


def test_invented_tokens_are_of_the_vocabulary_and_as_unequal_as_words() -> None:
    full = build(compose_workload("finewebedu_lm", scale="full"), Path("nowhere"))

    ids = full.synthetic_batch(batch_size=64, seed=0)["input_ids"]

    assert ids.shape == (64, 1024)
    assert 0 <= int(ids.min()) < 3
    assert 45_000 < int(ids.max()) < 50_257
    assert 0.02 < float((ids == 0).float().mean()) < 0.2


class Counting(nn.Module):
    """Says that each token is followed by the next number."""

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> Tensor:
        logits = nn.functional.one_hot((ids.long() + 1) % 50_257, 50_257).float() * 50
        if targets is None:
            return logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), reduction="none").view_as(
            targets
        )


def test_a_continuation_follows_the_most_likely_tokens() -> None:
    found = continued(Counting(), torch.tensor([[3, 4], [9, 200]], dtype=torch.int32), num_new=3)

    assert found.tolist() == [[5, 6, 7], [201, 202, 203]]


def test_a_picture_shows_texts_with_their_losses_and_continuations(workload: LanguageModelling) -> None:
    batch = next(workload.eval_batches(Split.VALIDATION, global_batch_size=16, seed=0, shard=Shard()))
    batch["target_ids"][0, 0] = (batch["input_ids"][0, 0] + 1) % 50_257
    batch["target_ids"][0, 1], batch["target_ids"][0, 2] = END_ID, 198  # the end mark, a line feed

    shown = workload.picture(Counting(), batch)

    texts, table = shown.panels[:-1], shown.panels[-1]
    assert len(texts) == 3
    assert all(isinstance(panel, TextPanel) and len(panel.pieces) == 16 for panel in texts)
    first = cast("TextPanel", texts[0])
    assert first.pieces[1:3] == ("\u220e", "\u21b5")
    assert first.values[0] == pytest.approx(0, abs=1e-6)
    assert float(first.values[3:].max()) == pytest.approx(50, abs=1)
    assert isinstance(table, TablePanel)
    assert [len(row) for row in table.rows] == [3, 3, 3]
    assert "3 of 16 rows of 16 tokens" in shown.caption
