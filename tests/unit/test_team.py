"""What ranks tell one another between steps, on a process group of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from perfbench.engine.wire.messages import Setup
from perfbench.engine.wire.page import CHECKPOINT, EVALUATE, STOP
from perfbench.engine.wire.team import ProcessTeam
from perfbench.launch import worker
from perfbench.launch.watch import Watch
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
    assert [team.exchange(flags) for flags in (EVALUATE, 0, 0)] == [0, 0, EVALUATE]


def test_flags_under_way_are_heard_when_a_segment_ends_and_only_then(team: ProcessTeam) -> None:
    team.exchange(STOP)
    team.exchange(CHECKPOINT)

    assert team.settle() == CHECKPOINT | STOP
    assert team.settle() == 0
    assert team.exchange(0) == 0


def test_texts_travel_as_plain_bytes(team: ProcessTeam) -> None:
    assert team.texts('Grüße, with "quotes"') == ['Grüße, with "quotes"']
    assert team.texts("") == [""]


def test_ranks_wait_for_one_another_longer_than_the_watch_over_hangs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that compiles for a quarter of an hour is waited for; one that hangs is found by the watch, with stacks."""
    setups: list[Setup] = []

    def started(setup: Setup, **_: object) -> None:
        setups.append(setup)
        raise RuntimeError("enough seen")

    monkeypatch.setattr(worker, "start_trainer", started)
    folder = TrialFolder.of(tmp_path, trial_spec())
    folder.claim(trial_spec())
    watch = Watch(folder, attempt=1, rank=0, timeout_s=1000.0)
    never_asked = object.__new__(worker.StopRequest)  # made as usual, it would take pytest's signals

    assert worker.run_rank(folder, watch, stop_requested=never_asked, hang_timeout_s=1000.0) == 1

    assert [setup.timeout_s for setup in setups] == [1060]
