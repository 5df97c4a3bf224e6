"""Evaluation by two processes gives the metrics of one: gloo adds what each has of a split, also an odd last batch.

The conformance suite adds the parts in one process for every workload; here processes, collectives and the engine's
evaluator do it, for the workloads whose sums are more than a few numbers (scattered scores, n-grams, edit distances).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.data.speech import tones
from perfbench.engine.referee.evaluation import Evaluator
from perfbench.engine.wire.page import memory_file
from perfbench.engine.wire.team import ProcessTeam, Solo, Team
from perfbench.engine.wire.weights import named_tensors
from perfbench.registry import build_workload, preparer_of
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.ogbg import planted
from perfbench.workloads.wmt import invented

UTTERANCES = dict.fromkeys(tones.NUM_UTTERANCES, 11) | {"train-clean-100": 80}
GRAPHS = {"train": 120, "validation": 45, "test": 50}
PAIRS = {"train": 300, "validation": 23, "test": 31}


def write_graphs(folder: Path) -> None:
    planted.write_graphs(folder, lambda *_: None, seed=2, sizes=GRAPHS, num_tasks=4)


def write_pairs(folder: Path) -> None:
    invented.write_raw(folder, seed=3, num_pairs=PAIRS)


def write_speech(folder: Path) -> None:
    tones.write_corpus(folder, lambda *_: None, num_utterances=UTTERANCES, seed=3)


CASES: dict[str, tuple[Callable[[Path], None], dict[str, object], int]] = {
    "ogbg": (write_graphs, {"expected_counts": GRAPHS, "num_tasks": 4, "eval_train_examples": 37}, 32),
    "wmt": (
        write_pairs,
        {
            "vocab_size": 120,
            "tokenizer_sample_bytes": 40_000,
            "expected_examples": PAIRS,
            "row_length": 32,
            "width": 16,
            "eval_train_examples": 9,
        },
        10,
    ),
    "librispeech_conformer": (
        write_speech,
        {
            "archive_utterances": UTTERANCES,
            "expected_examples": {"train": 102, "validation": 22, "test": 11},
            "vocabulary_size": 40,
            "num_pieces": 40,
            "eval_train_examples": 9,
        },
        10,
    ),
}
"""What writes the public files, parameters, and evaluation batch: no split is a multiple of it."""


@pytest.mark.slow
@pytest.mark.parametrize("family", list(CASES))
def test_two_processes_find_the_metrics_of_one(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", not_compiled)
    write, params, batch_size = CASES[family]
    base = compose_workload(family, scale="mini")
    workload = base.model_copy(
        update={"params": base.params | params, "eval_batch_size": batch_size, "data_family": None}
    )
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw")
    destination = tmp_path / family / workload.scale.value / workload.dataset
    preparer_of(family).prepare(
        PrepareRequest(
            workload=workload,
            destination=destination,
            source=tmp_path / "raw",
            progress=lambda *_: None,
            options={"shard_samples": 100_000},
        )
    )
    (tmp_path / "workload.json").write_text(workload.to_json())

    spawn(evaluate_as_rank, args=(2, tmp_path), nprocs=2)

    expected = evaluated(tmp_path, Solo())
    first, second = (json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert len({name.partition("/")[0] for name in expected}) == len(Split)
    assert first == pytest.approx(expected, rel=1e-6, abs=1e-9)


def not_compiled(model: nn.Module, **_: object) -> nn.Module:
    return model


def evaluate_as_rank(rank: int, num_ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.compile = not_compiled  # type: ignore[assignment]  # sums do not depend on it, and it takes a minute
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(minutes=3),
    )
    metrics = evaluated(folder, ProcessTeam())
    (folder / f"rank_{rank}.json").write_text(json.dumps(metrics))
    dist.barrier()
    dist.destroy_process_group()


def evaluated(folder: Path, team: Team) -> dict[str, float]:
    """Evaluate the model of one seed on all splits."""
    spec = WorkloadSpec.from_json((folder / "workload.json").read_bytes(), where="workload.json")
    workload = build_workload(spec, folder)
    evaluator = Evaluator(
        workload, memory_file("weights"), splits=Split, trial_seed=5, team=team, device=torch.device("cpu")
    )
    evaluator.weights.write(named_tensors(workload.build_model(seed=3)))
    return evaluator.evaluate()
