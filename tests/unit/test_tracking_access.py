"""What is said when the package is missing."""

from __future__ import annotations

import importlib.util

import pytest

from perfbench.errors import LaunchError
from perfbench.spec.run import NoTracking, WandbTracking
from perfbench.tracking.access import check_tracking
from perfbench.tracking.mirror import reason_of


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
