"""What is said when the package is missing, or the service."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.errors import LaunchError
from perfbench.spec.result import TrialResult
from perfbench.spec.run import NoTracking, WandbTracking
from perfbench.tracking import access, sync
from perfbench.tracking.access import check_tracking
from perfbench.tracking.mirror import reason_of
from perfbench.tracking.rows import Row
from tests.trial_folders import measurement, result_of, trial_spec, write_reaching_trial, write_trial


def test_a_missing_package_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(LaunchError, match="needs the package wandb, which is not installed") as refused:
        check_tracking(WandbTracking(kind="wandb_offline"), pytest.fail)

    assert "pip install 'perfbench[wandb]', or use tracking=none" in refused.value.hint
    check_tracking(NoTracking(), pytest.fail)


def test_a_reason_never_holds_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")

    assert reason_of(ValueError("\n key s3cret is wrong\nmore")) == "key *** is wrong"
    assert reason_of(KeyError()) == "KeyError"


def test_sync_does_not_wait_for_an_absent_service_at_every_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reaching_trial(tmp_path, time_s=10.0)
    monkeypatch.setattr(access, "_check_service", lambda _tracking, tell: tell("W&B cannot be reached now (no answer)"))
    monkeypatch.setattr(sync, "sync_trial", lambda *_: pytest.fail("it was asked again"))

    assert main(["sync", str(tmp_path)]) == 2

    said = capsys.readouterr().err
    assert "sync: W&B cannot be reached now (no answer)" in said
    assert "hint: the records are whole; sync again later, or --offline" in said


class Kept:
    """A dashboard that keeps rows by number, and refuses one that it has."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}

    @property
    def next_number(self) -> int:
        return max(self.rows, default=-1) + 1

    def log(self, row: Row) -> None:
        assert row.number not in self.rows
        self.rows[row.number] = row

    def finish(self, _result: TrialResult | None, /) -> None:
        """Nothing is open."""


def test_sync_of_a_running_trial_sends_nothing_twice_and_leaves_nothing_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is recorded of the last evaluation's step after it comes before it in the order of rows."""
    spec = trial_spec()
    folder = write_trial(tmp_path, spec, [measurement(step=20, time_s=20.0, loss=0.9)], is_finished=False)
    at_20 = {"at_step": 20, "submission_time_s": 20.0}
    followed, whole = Kept(), Kept()
    for kept in (followed, whole):
        monkeypatch.setattr(sync, "open_destination", lambda *_, kept=kept, **__: kept)
        if kept is followed:
            with folder.locked():
                sync.sync_trial(folder, WandbTracking(kind="wandb"))
            folder.append_telemetry("resources", {**at_20, "host_memory_bytes": 1})
            folder.write_result(result_of(spec, folder.measurements()))
        sync.sync_trial(folder, WandbTracking(kind="wandb"))

    assert followed.rows == whole.rows
    assert len(whole.rows) == 2
