"""What a confined process cannot do: Landlock's part, and what it does not watch over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perfbench.compose import compose_workload
from perfbench.data.preparation import MANIFEST_NAME, Manifest, entry_for
from perfbench.engine.trainer.confinement import LEAST_ABI, landlock_version
from perfbench.launch import room
from tests.trial_folders import trial_spec

CONFINED = """
import ctypes, errno, json, os, resource, signal, socket, sys

from perfbench.engine.trainer.confinement import confine
from perfbench.engine.wire.messages import Sandbox

own, other = sys.argv[1:]
system = ("/usr", "/lib", "/lib64", "/proc", sys.base_prefix)
confine(Sandbox(readable=system, listable=(), writable=(own,), devices=("/dev/null",), has_network=False))
library = ctypes.CDLL(None, use_errno=True)


def called(name, *arguments):
    if getattr(library, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


trials = {
    "reads a file": lambda: open(other),
    "kills its parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "looks into its parent": lambda: open(f"/proc/{os.getppid()}/environ"),
    "connects": lambda: socket.create_connection(("127.0.0.1", 9), 1),
    "sends by UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "meets another by a socket's name": lambda: socket.socket(socket.AF_UNIX),
    "leaves a message in a queue": lambda: called("msgget", 4711, 0o1600),
    "leaves numbers in semaphores": lambda: called("semget", 4711, 4, 0o1600),
    "leaves memory": lambda: called("shmget", 4711, 4096, 0o1600),
    "leaves an attribute": lambda: os.setxattr(other, b"user.kept", b"x"),
    "limits its parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (10**6, 10**6)),
    "binds its parent": lambda: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0)),
    "slows its parent down": lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
    "makes its parent idle": lambda: os.sched_setscheduler(os.getppid(), os.SCHED_IDLE, os.sched_param(0)),
    "gets priority": lambda: os.nice(-5),
    "sets the clock": lambda: called("settimeofday", bytes(16), None),
}


def end(trial):
    try:
        trial()
    except OSError as problem:
        return errno.errorcode[problem.errno]
    return "done"


ends = {name: end(trial) for name, trial in trials.items()}
os.chmod(other, 0o777)
os.utime(other, (1, 1))
os.sched_setaffinity(0, os.sched_getaffinity(0))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
mine, theirs = socket.socketpair()
if os.fork() == 0:
    with open(os.path.join(own, "child"), "w") as file:
        file.write(end(trials["reads a file"]))
    os._exit(0)
os.wait()
print(json.dumps(ends))
"""


@pytest.mark.skipif(
    landlock_version() < LEAST_ABI, reason=f"a sandbox needs Landlock {LEAST_ABI} (Linux 6.12); this kernel has less"
)
def test_a_confined_process_reaches_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.write_text("x")
    before = other.stat()

    ended = subprocess.run(
        [sys.executable, "-c", CONFINED, str(own), str(other)], capture_output=True, text=True, timeout=60, check=True
    )

    ends = json.loads(ended.stdout)
    assert {name: code for name, code in ends.items() if code not in ("EACCES", "EPERM")} == {}
    assert (own / "child").read_text() == "EACCES"
    assert (other.stat().st_mode, other.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_a_trainer_is_given_what_the_manifest_names_and_nothing_that_was_left_over(tmp_path: Path) -> None:
    """An interrupted preparation may have left examples of any split."""
    trial = trial_spec().model_copy(update={"workload": compose_workload("mnist", scale="mini")})
    names = ("train.images.npy", "validation.images.npy", "whole.npy")
    for name in names:
        (tmp_path / name).touch()
    manifest = Manifest(
        family="mnist",
        dataset="any",
        format_version=1,
        origin={},
        counts={},
        files={name: entry_for(tmp_path / name) for name in names[:2]},
    )
    manifest.write(tmp_path)

    given = [Path(path).name for path in room._training_files(trial, tmp_path)]

    assert given == [MANIFEST_NAME, "train.images.npy"]
