"""Which levels of isolation this machine has, tried and not looked up; and what a referee takes of its memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_CONFINED = """
import pathlib, socket, sys
from perfbench.engine.trainer.confinement import confine, landlock_version
from perfbench.engine.wire.messages import Sandbox
secret = pathlib.Path(sys.argv[1])
confine(Sandbox(readable=(), listable=(), writable=(), devices=(), has_network=False))
try:
    secret.read_text()
    sys.exit("a confined process has read a file that it was not given")
except PermissionError:
    pass
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
    sys.exit("a confined process has reached the network")
except OSError:
    print(f"Landlock, version {landlock_version()}")
"""
_REFEREE = """
import psutil, torch
import perfbench.launch.refereeing
own = psutil.Process().memory_info().rss
context = 0
if torch.cuda.is_available():
    free = torch.cuda.mem_get_info()[0]
    torch.zeros(1, device="cuda")
    context = free - torch.cuda.mem_get_info()[0]
print(own, context)
"""


def isolation_levels() -> str:
    """Return the levels that trials can have here.

    Raises:
        RuntimeError: If a sandbox is promised and does not hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("seen")
        tried = _python(_CONFINED, str(secret))
    if tried.returncode == 0:
        return f"process (default) and sandbox ({tried.stdout.strip()})"
    last = (tried.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    if "Landlock" not in last and "ENOSYS" not in last:
        message = f"the sandbox does not hold: {last}"
        raise RuntimeError(message)
    return f"process (default) alone, no sandbox: {last.partition(': ')[2] or last}"


def referee_memory() -> str:
    """Return what a rank's referee takes before its model and evaluation data, which are not the submission's.

    Raises:
        RuntimeError: If none can be started.
    """
    tried = _python(_REFEREE)
    if tried.returncode:
        raise RuntimeError((tried.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    own_bytes, context_bytes = map(int, tried.stdout.split())
    device = f", {context_bytes / 1e9:.2f} GB of the device" if context_bytes else ""
    return f"{own_bytes / 1e9:.2f} GB of each rank's host memory{device}, and a model and evaluation data of its own"


def _python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
