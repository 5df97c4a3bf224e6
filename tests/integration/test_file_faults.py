"""No command answers with a traceback to whatever stands where a file or folder of a trial belongs."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perfbench.cli.main import main
from tests.integration import small_criteo
from tests.trial_folders import write_reaching_trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]  # a pipe that is waited for is a fault too

_CAPABILITY_VERSION = 0x20080522
_WITHOUT_OWNERS = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root read and write everything."""


@contextmanager
def as_a_person() -> Iterator[None]:
    """Let permissions hold for this process, root or not."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    less = (ctypes.c_uint32 * 6)(*before)
    less[0] &= ~_WITHOUT_OWNERS
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def unreadable(path: Path) -> None:
    path.chmod(0)


def missing(path: Path) -> None:
    remove(path)


def garbage(path: Path) -> None:
    remove(path)
    path.write_bytes(b'\xff\x00{"kind": 3}\n[]\n{}\n')


def empty(path: Path) -> None:
    remove(path)
    path.write_bytes(b"")


def link_to_nowhere(path: Path) -> None:
    remove(path)
    path.symlink_to(path.with_name("nowhere"))


def loop(path: Path) -> None:
    remove(path)
    path.symlink_to(path)


def pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


def folder(path: Path) -> None:
    remove(path)
    path.mkdir()


def file(path: Path) -> None:
    remove(path)
    path.write_text("a file")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


FAULTS: list[Callable[[Path], None]] = [unreadable, missing, garbage, empty, link_to_nowhere, loop, pipe, folder]
FILES = ("run.json", "result.json", "measurements.jsonl", "telemetry.jsonl", "environment.json", ".lock")
READERS = (
    ("status",),
    ("verify",),
    ("score", "--no-pictures"),
    ("export", "--out"),
    ("resume",),
    ("resume", "--lost"),
)


def damaged(runs: Path, name: str, fault: Callable[[Path], None]) -> Path:
    """Write two trials, one of them damaged, and return what is damaged."""
    whole = write_reaching_trial(runs, time_s=5.0)
    whole.append_telemetry("started", {"attempt": 1})
    trial = write_reaching_trial(runs, time_s=5.0, trial=2)
    trial.append_telemetry("started", {"attempt": 1})
    for other in ("environment.json", ".lock"):
        (trial.path / other).write_text("{}")
    path = trial.path / name
    fault(path)
    return path


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run a command as a person who owns nothing more than what is theirs; return code and words."""
    with as_a_person():
        code = main(arguments)
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    assert said.err.count("error:") <= 1
    assert code in (0, 1, 2)
    return code, said.out + said.err


@pytest.mark.parametrize("verb", READERS, ids=" ".join)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))
def test_readers_say_what_is_wrong_and_read_the_rest(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: tuple[str, ...], fault: Callable[[Path], None]
) -> None:
    for name in FILES:
        runs = tmp_path / name.strip(".")
        path = damaged(runs, name, fault)
        try:
            out = [str(tmp_path / "out")] if "--out" in verb else []
            code, said = answered(capsys, *verb, *out, str(runs))
        finally:
            if fault is unreadable:
                path.chmod(0o644)
        if verb == ("status",):
            assert code == 0, said
            assert " reached" in said, "the other trial is told of"


PLACES: list[Callable[[Path], None]] = [unreadable, missing, file, link_to_nowhere, loop, pipe]


@pytest.mark.parametrize("fault", PLACES, ids=lambda fault: str(fault.__name__))
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_readers_say_which_folder_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fault: Callable[[Path], None], depth: int
) -> None:
    """The run folder, a submission's, a study's, a workload's, a trial's."""
    runs = tmp_path / "runs"
    trial = write_reaching_trial(runs, time_s=5.0).path
    place = [runs, *reversed([trial, *list(trial.parents)[:3]])][depth]
    fault(place)
    try:
        for verb in READERS:
            out = [str(tmp_path / "out")] if "--out" in verb else []
            answered(capsys, *verb, *out, str(runs))
    finally:
        if fault is unreadable:
            place.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "fault", "expected"),
    [
        ("run.json", unreadable, "run.json: the record cannot be read: Permission denied"),
        ("run.json", garbage, "run.json"),
        ("run.json", link_to_nowhere, "run.json: the record cannot be read: No such file or directory"),
        ("run.json", pipe, "run.json: the record cannot be read: a pipe or a device is where a file belongs"),
        ("run.json", folder, "run.json: the record cannot be read: Is a directory"),
        (".", unreadable, "run.json: Permission denied"),
        (".", file, "the run folder cannot be written: Not a directory"),
        ("logs", file, "logs"),
        (".lock", unreadable, ".lock: the lock cannot be opened: Permission denied"),
        (".lock", loop, ".lock: the lock cannot be opened: Too many levels of symbolic links"),
        (".lock", folder, ".lock: the lock cannot be opened: Is a directory"),
        (".lock", pipe, ".lock: the lock cannot be opened: a pipe or a device is where a file belongs"),
        ("telemetry.jsonl", loop, "telemetry.jsonl: Too many levels of symbolic links"),
        ("telemetry.jsonl", folder, "telemetry.jsonl: Is a directory"),
        ("telemetry.jsonl", unreadable, "telemetry.jsonl: Permission denied"),
        ("result.json", pipe, "result.json: the record cannot be read: a pipe or a device is where a file belongs"),
    ],
)
def test_a_run_is_refused_with_the_file_that_is_wrong(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    data_root: Path,
    name: str,
    fault: Callable[[Path], None],
    expected: str,
) -> None:
    arguments = small_criteo.command(data_root, tmp_path / "runs", "submission=adamw")[3:]
    trial = small_criteo.trial_folder(tmp_path / "runs", "adamw")
    trial.mkdir(parents=True)
    claimed = write_reaching_trial(tmp_path / "other", time_s=1.0).path / "run.json"
    if name == "run.json":
        shutil.copy(claimed, trial / name)
    if name not in ("run.json", "."):
        from perfbench.compose import compose_run
        from perfbench.launch.changed_code import CodeNow, OnChangedCode, make_ready
        from perfbench.launch.plan import plan_trial
        from perfbench.results.store import TrialFolder

        planned = plan_trial(compose_run(arguments[1:]))
        make_ready(planned, TrialFolder(trial), OnChangedCode.REFUSE, code=CodeNow(), tell=print)
    path = trial / name
    if not path.exists() and fault is unreadable:
        path.write_text("")
    fault(path)
    try:
        code, said = answered(capsys, *arguments)
    finally:
        if fault is unreadable:
            path.chmod(0o755)

    assert code in (1, 2)
    assert expected in said


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (unreadable, "the data cannot be read: Permission denied"),
        (file, "Not a directory"),
        (loop, "Too many levels of symbolic links"),
    ],
)
def test_data_that_cannot_be_used_is_one_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fault: Callable[[Path], None], expected: str
) -> None:
    """A colleague's data, or what is no folder."""
    data = tmp_path / "data"
    (data / "criteo").mkdir(parents=True)
    fault(data / "criteo")
    try:
        arguments = small_criteo.command(data, tmp_path / "runs", "submission=adamw")[3:]
        code, said = answered(capsys, *arguments)
    finally:
        if fault is unreadable:
            (data / "criteo").chmod(0o755)

    assert code == 2
    assert expected in said
    assert not (tmp_path / "runs").exists()


def test_sync_leaves_a_colleague_s_folder_out_and_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    trial = write_reaching_trial(tmp_path, time_s=5.0)
    trial.path.chmod(0o555)
    try:
        code, said = answered(capsys, "sync", "--offline", str(tmp_path))
    finally:
        trial.path.chmod(0o755)

    assert code == 1
    assert f"left out: {trial.path / '.mirror.lock'}: the lock cannot be opened: Permission denied" in said
    assert "0 of 1 trials are in perfbench" in said
