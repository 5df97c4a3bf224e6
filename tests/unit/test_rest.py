"""What a trainer's processes do where they should rest is seen, however they hide it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perfbench.engine.referee.device_time import DeviceTime
from perfbench.engine.referee.evaluation import Evaluator
from perfbench.engine.referee.rest import NoTree, TrainerTree
from perfbench.spec.result import TargetReached
from tests.tiny_trials import run

WATCHED = """
import json, subprocess, sys, time
from perfbench.engine.referee.device_time import DeviceTime
from perfbench.engine.referee.rest import TrainerTree, adopt_orphans

adopt_orphans()
tree = TrainerTree(DeviceTime(None))
trainer = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, start_new_session=True)
trainer.stdout.read(1)
tree.begin_rest()
if "suspended" in sys.argv[2:]:
    tree.suspend()
time.sleep(0.6)
charged_s = tree.charge(0)
tree.kill()
time.sleep(0.1)
used_s = tree._processor_s()
time.sleep(0.2)
print(json.dumps([charged_s, tree._processor_s() - used_s]))
"""
"""A referee's view of one process: starts it, lets it rest, and prints what it charges and what lives on."""

SHORT_LIVES = """
import os, time

print("x", flush=True)
while True:
    if os.fork():
        os._exit(0)  # the child has no parent any more, and goes on
    ended_s = time.process_time() + 0.008
    while time.process_time() < ended_s:
        pass
"""
"""One process after the other, each too short for a tick of the clock, none waited for."""

AWAKE_BY_ITSELF = """
import ctypes, signal, time

class Event(ctypes.Structure):
    _fields_ = [
        ("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_char * 48)
    ]

library, timer = ctypes.CDLL(None), ctypes.c_void_p()
event, times = Event(None, signal.SIGCONT, 0, b""), (ctypes.c_long * 4)(0, 50_000_000, 0, 50_000_000)
library.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer))
library.timer_settime(timer, 0, times, None)
print("x", flush=True)
while True:
    pass
"""
"""A timer of the system's sends it the signal to go on, every 50 ms."""


def watched(program: str, *how: str) -> tuple[float, float]:
    """Return the seconds that are charged, and those that its processes used after their end."""
    command = [sys.executable, "-c", WATCHED, program, *how]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    charged_s, after_s = json.loads(ended.stdout)
    return charged_s, after_s


@pytest.mark.parametrize(("program", "how"), [(SHORT_LIVES, ()), (AWAKE_BY_ITSELF, ("suspended",))])
def test_work_at_rest_is_seen_and_ends_with_the_trial(program: str, how: tuple[str, ...]) -> None:
    charged_s, after_s = watched(program, *how)

    assert charged_s > 0.1
    assert after_s == 0.0


class Counted(TrainerTree):
    """Of processes whose use of processors the test says."""

    used_s = 0.0

    def _processor_s(self) -> float:
        return self.used_s


def test_processors_that_are_busy_while_the_clock_scores_are_counted_apart_from_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [0.0]
    monkeypatch.setattr("perfbench.engine.referee.rest.time.monotonic", lambda: now_s[0])
    tree = Counted(DeviceTime(None))

    def passes(seconds: float, used_s: float) -> None:
        now_s[0] += seconds
        tree.used_s += used_s

    passes(20.0, 60.0)  # it compiles; there is no submission yet
    tree.begin_rest()
    for _ in range(2):
        tree.charge(0)
        passes(5.0, 9.0)
        tree.begin_rest()
        passes(3.0, 0.04)

    assert tree.num_processors() == pytest.approx(1.8)


class Sleepless(NoTree):
    """Works for a second during each evaluation."""

    used_s = before_s = charged_s = 0.0

    def begin_rest(self) -> None:
        self.before_s, self.charged_s = self.used_s, 0.0

    def charge(self, num_bytes: int) -> float:
        charged_s, self.charged_s = self.charged_s, self.used_s - self.before_s
        return self.charged_s - charged_s


def test_work_during_an_evaluation_is_charged_before_the_state_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, evaluate = Sleepless(), Evaluator.evaluate
    monkeypatch.setattr("perfbench.launch.debug.NoTree", lambda: tree)

    def watched_evaluation(evaluator: Evaluator) -> dict[str, float]:
        tree.used_s += 1.0
        return evaluate(evaluator)

    monkeypatch.setattr(Evaluator, "evaluate", watched_evaluation)

    result, folder = run(tmp_path)

    assert result is not None
    assert isinstance(result.outcome, TargetReached)
    num_evaluations = len(folder.measurements())
    assert num_evaluations > 1
    assert result.charged_s == num_evaluations - 1  # the last one ends the trial
