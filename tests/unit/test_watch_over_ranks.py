"""The watch over a rank: from its start, by its own ticks; what could not run is not taken for hanging."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perfbench.launch.stacks import any_stacks
from perfbench.launch.watch import Watch
from perfbench.results.store import TrialFolder

SUSPENDED = """
import sys, time
from pathlib import Path
from perfbench.launch.watch import Watch
from perfbench.results.store import TrialFolder
watch = Watch(TrialFolder(Path(sys.argv[1])), attempt=1, rank=0, timeout_s=4.0)
watch.progress = time.monotonic
with watch.on():
    print("on", flush=True)
    sys.stdin.readline()
"""


def folder_of(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder(tmp_path)
    folder.logs.mkdir()
    return folder


def until(folder: TrialFolder, kind: str, *, within_s: float = 30.0) -> list[dict[str, object]]:
    deadline_s = time.monotonic() + within_s
    while not (found := folder.telemetry(kind)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return found


def test_a_rank_that_does_not_even_start_leaves_its_stacks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)

    with Watch(folder, attempt=1, rank=0, timeout_s=0.2).on():
        deadline_s = time.monotonic() + 30.0
        while not any_stacks(folder, 1) and time.monotonic() < deadline_s:
            time.sleep(0.02)

    assert any_stacks(folder, 1)
    assert folder.telemetry("suspended") == []


def test_what_a_trainer_writes_where_its_stacks_go_is_no_hang(tmp_path: Path) -> None:
    """Else it could have the launcher end the trial, and its bad stretch again."""
    folder = folder_of(tmp_path)
    watch = Watch(folder, attempt=1, rank=0, timeout_s=60.0)

    with watch.on():
        assert watch.trainers_stacks_fd is not None
        os.write(watch.trainers_stacks_fd, b"anything")

        assert not any_stacks(folder, 1)


@pytest.mark.slow
def test_a_suspended_process_does_not_hang_and_says_for_how_long_it_was(tmp_path: Path) -> None:
    """Stopped for longer than the watch waits: of real time, and for a real process."""
    folder = folder_of(tmp_path)
    command = [sys.executable, "-c", SUSPENDED, str(tmp_path)]
    rank = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert rank.stdout is not None
    assert rank.stdout.readline() == "on\n"

    os.kill(rank.pid, signal.SIGSTOP)
    time.sleep(7.0)
    os.kill(rank.pid, signal.SIGCONT)
    (line,) = until(folder, "suspended")
    rank.communicate("done\n", timeout=60)

    assert line["attempt"] == 1
    assert 5.0 < float(str(line["seconds"])) < 60.0
    assert not any_stacks(folder, 1)


def test_time_that_passes_between_two_ticks_is_no_progress_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a clock that goes on while nothing runs, only ticks count towards the limit."""
    folder = folder_of(tmp_path)
    jumps = iter([0.0, *(1_000.0 * number for number in range(1, 10_000))])
    monkeypatch.setattr("perfbench.launch.watch.time.monotonic", lambda: next(jumps))

    with Watch(folder, attempt=1, rank=0, timeout_s=0.4).on():
        while len(folder.telemetry("suspended")) < 8:
            pass

    assert not any_stacks(folder, 1)
