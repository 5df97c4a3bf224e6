"""What is said when the package is missing, or the service."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.errors import LaunchError
from perfbench.spec.run import NoTracking, WandbTracking
from perfbench.tracking import access, sync
from perfbench.tracking.access import check_tracking
from perfbench.tracking.mirror import reason_of
from tests.trial_folders import write_reaching_trial


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
