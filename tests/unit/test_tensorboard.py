"""TensorBoard's files, read back with TensorBoard's reader."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from perfbench.spec.run import TensorboardTracking
from perfbench.tracking.mirror import mirror, open_destination
from tests.trial_folders import write_reaching_trial


def test_every_measurement_is_there_once_however_often_it_is_mirrored(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = write_reaching_trial(tmp_path, time_s=30.0)
    ended = threading.Event()
    ended.set()
    for _ in range(2):
        destination = open_destination(folder, TensorboardTracking(kind="tensorboard"), scratch=tmp_path)
        mirror(folder, destination, ended)

    events = accumulator.EventAccumulator(str(folder.path / "tensorboard")).Reload()

    found = events.Scalars("validation/loss")
    assert [one.step for one in found] == [10, 20]
    assert [one.value for one in found] == pytest.approx([1.001, 0.5])
    assert [one.value for one in events.Scalars("submission_time_s")] == [15.0, 30.0]
    assert not [name for name in events.Tags()["scalars"] if name.startswith("by_step/")]
