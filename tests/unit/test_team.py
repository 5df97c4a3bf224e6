"""What ranks tell one another between steps, on a process group of one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

from perfbench.engine.team import Flags, ProcessTeam
from perfbench.launch import worker
from perfbench.results.store import TrialFolder
from tests.trial_folders import trial_spec


@pytest.fixture
def team(tmp_path: Path) -> Iterator[ProcessTeam]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        yield ProcessTeam(lag_steps=2)
    finally:
        dist.destroy_process_group()


def test_a_flag_takes_effect_two_steps_later(team: ProcessTeam) -> None:
    assert team.exchange(Flags(evaluate=True)) == Flags()
    assert team.exchange(Flags()) == Flags()
    assert team.exchange(Flags()) == Flags(evaluate=True)


def test_flags_under_way_are_heard_when_a_segment_ends_and_only_then(team: ProcessTeam) -> None:
    team.exchange(Flags(stop=True))
    team.exchange(Flags(checkpoint=True))

    assert team.settle() == Flags(checkpoint=True, stop=True)
    assert team.settle() == Flags()
    assert team.exchange(Flags()) == Flags()


def test_ranks_wait_for_one_another_longer_than_the_watch_over_hangs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that compiles for a quarter of an hour is waited for; one that hangs is found by the watch, with stacks."""
    timeouts: list[timedelta] = []
    place = worker.Place(rank=0, num_ranks=2, local_rank=0, num_local_ranks=2)

    def no_team(*, timeout: timedelta) -> None:
        timeouts.append(timeout)
        raise RuntimeError("enough seen")

    monkeypatch.setattr(worker.Place, "from_environment", lambda: place)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, timeout, **__: timeouts.append(timeout))
    monkeypatch.setattr(worker, "ProcessTeam", no_team)
    folder = TrialFolder.of(tmp_path, trial_spec())
    folder.claim(trial_spec())
    never_asked = object.__new__(worker.StopRequest)  # made as usual, it would take pytest's signals

    assert worker.run_rank(folder, attempt=1, stop_requested=never_asked, hang_timeout_s=1000.0) == 1

    assert timeouts == [timedelta(seconds=1060)] * 2
