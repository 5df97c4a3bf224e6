"""Records on a disk that is full for a while."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from perfbench.engine.referee.recorder import FolderRecorder
from perfbench.results import store
from perfbench.results.store import TrialFolder
from tests.trial_folders import measurement, trial_spec


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder.of(tmp_path, trial_spec())
    folder.claim(trial_spec())
    return folder


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_telemetry_goes_on_after_the_disk_was_full_and_says_what_is_missing(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = FolderRecorder(folder)
    recorder.telemetry("pulse", {"at_step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(store, "append_line", full)
        for step in (2, 3, 4):
            recorder.telemetry("pulse", {"at_step": step})
    recorder.telemetry("pulse", {"at_step": 5})

    assert [line["at_step"] for line in folder.telemetry("pulse")] == [1, 5]
    assert [line["text"] for line in folder.telemetry("warning")] == [
        "3 lines of telemetry were lost: the disk did not take them"
    ]
    assert capsys.readouterr().err.count("telemetry is being lost: [Errno 28] No space left on device") == 1


def test_a_measurement_that_cannot_be_recorded_is_an_error(
    folder: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "append_line", full)

    with pytest.raises(OSError, match="No space left on device"):
        FolderRecorder(folder).measured(measurement(step=1, time_s=1.0, loss=1.0))
