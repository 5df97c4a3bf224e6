"""The process of a mirror: how far it stands back behind the trial, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from perfbench.results.store import TrialFolder
from perfbench.spec.run import WandbTracking
from perfbench.tracking.beside import LOWEST_PRIORITY, mirrored
from tests.trial_folders import measurement, trial_spec, write_trial

pytestmark = pytest.mark.slow

OFFLINE = WandbTracking(kind="wandb_offline")
PATIENCE_S = 200


@pytest.fixture
def folder(tmp_path: Path) -> TrialFolder:
    return write_trial(tmp_path / "runs", trial_spec(), [measurement(step=10, time_s=10.0, loss=0.4)])


def test_it_has_the_lowest_priority(folder: TrialFolder) -> None:
    others = set(psutil.Process().children())
    deadline_s = time.monotonic() + PATIENCE_S

    with mirrored(folder, OFFLINE, lambda _warning: None):
        (process,) = set(psutil.Process().children()) - others
        while process.nice() != LOWEST_PRIORITY:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    assert LOWEST_PRIORITY == 19  # what Linux calls it


def test_one_that_nobody_waits_for_leaves_nothing_of_its_own(folder: TrialFolder, tmp_path: Path) -> None:
    """As after the death of whoever started it: its standard input has ended. It may run out of time to end well."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "perfbench.tracking.mirror", str(folder.path), "--scratch", str(scratch)]
    command += ["--niceness", "0", "--tracking", OFFLINE.to_json(indent=None)]
    own = os.environ | {"TMPDIR": str(scratch)}

    ended = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE_S, env=own)

    assert ended.returncode in (0, 1)
    assert not scratch.exists()
