"""What ranks tell one another between steps, on a process group of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

from perfbench.engine.team import Flags, ProcessTeam


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
