"""The compiled loss without averaging of gradients: each rank's own, added up, averaged by the next pass outside."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from perfbench.engine.trainer.compiling import num_compiled_graphs
from perfbench.engine.trainer.workplace import Workplace
from perfbench.engine.wire.team import ProcessTeam, Solo, Team
from tests.integration import process_group
from tests.tiny_workload import TinyWorkload
from tests.trial_folders import trial_spec

NUM_RANKS = 2


def gradients(place: Workplace) -> Tensor:
    return torch.cat(
        [parameter.grad.flatten().clone() for parameter in place.model.parameters() if parameter.grad is not None]
    )


def seen_by(team: Team) -> dict[str, Tensor | int]:
    """Return gradients of one batch's loss: averaged, in no_sync, of the local loss, and of a pass after no_sync."""
    trial = trial_spec({"num_ranks": team.shard.num_ranks})
    workload = TinyWorkload(trial.workload)
    place = Workplace.build(trial, workload, source=workload, team=team, device=torch.device("cpu"))
    context = place.context(())
    batch = next(place.batches)

    def passed(*, is_local: bool = False, keeps: bool = False) -> Tensor:
        if not keeps:
            place.model.zero_grad(set_to_none=True)
        loss = context.local_loss if is_local else context.loss
        loss(batch).summed.backward()
        return gradients(place)

    averaged = passed()
    num_graphs = num_compiled_graphs()
    with context.no_sync():
        own = passed()
    found: dict[str, Tensor | int] = {"averaged": averaged, "own": own, "after": passed(keeps=True)}
    place.model.zero_grad(set_to_none=True)
    with context.no_sync():
        sums = context.loss(batch)
    sums.summed.backward()
    found["begun_inside"] = gradients(place)
    found["new_graphs"] = num_compiled_graphs() - num_graphs
    return found | {"local": passed(is_local=True)}


def rank_main(rank: int, folder: Path) -> None:
    process_group.join(rank, NUM_RANKS, folder)
    torch.save(seen_by(ProcessTeam(timeout=timedelta(seconds=60))), folder / f"{rank}.pt")
    process_group.leave()


@pytest.mark.slow
def test_gradients_stay_a_rank_s_own_and_the_next_pass_averages_their_sum(tmp_path: Path) -> None:
    spawn(rank_main, args=(tmp_path,), nprocs=NUM_RANKS)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(NUM_RANKS))

    assert not first["own"].equal(second["own"])
    for found in (first, second):
        torch.testing.assert_close(found["own"], found["local"])
        assert found["begun_inside"].equal(found["own"])
        torch.testing.assert_close(found["averaged"], (first["own"] + second["own"]) / 2)
        torch.testing.assert_close(found["after"], first["own"] + second["own"])  # both passes: twice the average
        assert found["new_graphs"] == 0


def test_on_one_rank_it_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)

    found = seen_by(Solo())

    assert torch.equal(found["own"], found["averaged"])  # type: ignore[arg-type]  # both are tensors
    assert torch.equal(found["after"], 2 * found["own"])  # type: ignore[arg-type]  # both are tensors
