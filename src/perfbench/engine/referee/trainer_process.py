"""Starting a trainer, as early as possible: it takes as long to import torch as the referee does. Imports no torch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from perfbench.engine.wire.channel import Channel
from perfbench.engine.wire.messages import TO_REFEREE, Setup, ToReferee
from perfbench.engine.wire.page import Page, memory_file, page_file

_END_S = 20.0
"""How long a trainer may take to leave after its last word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerProcess:
    """A trainer that was started, and what is shared with it."""

    process: subprocess.Popen[bytes]
    channel: Channel[ToReferee]
    page: Page
    weights_descriptor: int

    def describe_end(self) -> str:
        """Say how the process ended, once it has; waits for a moment."""
        try:
            code = self.process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            return ""
        if code == -signal.SIGKILL:
            return "the trainer was killed (SIGKILL): out of memory or killed by hand"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the trainer ended by itself ({how})"

    def end(self) -> None:
        """Hang up and wait until the process has left; end it if it does not."""
        self.channel.close()
        try:
            self.process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_trainer(setup: Setup, *, environment: Mapping[str, str], folder: str) -> TrainerProcess:
    """Start a trainer in a session of its own and send it its set-up.

    Args:
        setup: What it is to run.
        environment: All that it is to see of ours.
        folder: Where it works. What it prints goes where this process prints.
    """
    ours, theirs = socket.socketpair()
    page, weights = page_file(), memory_file("perfbench-weights")
    inherited = (theirs.fileno(), page, weights)
    kept = inherited if setup.stacks_fd is None else (*inherited, setup.stacks_fd)
    numbers = (*inherited, os.getpid())
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "perfbench.engine.trainer", *map(str, numbers)],
        env=dict(environment),
        cwd=folder,
        pass_fds=kept,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # the referee tells its processes from its own by it
    )
    theirs.close()
    channel = Channel(ours, TO_REFEREE)
    channel.send(setup)
    return TrainerProcess(process=process, channel=channel, page=Page(page), weights_descriptor=weights)
