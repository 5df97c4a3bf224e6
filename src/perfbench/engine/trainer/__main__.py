"""A trainer's process: ``python -m perfbench.engine.trainer LINE PAGE WEIGHTS PARENT``: three inherited descriptors.

A referee starts it and is its parent. It reads no file of records and is told what to do by messages alone.
"""

from __future__ import annotations

import os
import socket
import sys

from perfbench.engine.wire.lifeline import end_with_parent


def main() -> int:
    """Run the trainer that the referee at the other end of the line wants."""
    line, page, weights, parent = map(int, sys.argv[1:])
    end_with_parent(parent)  # before the imports that take seconds: a parent that dies meanwhile is noticed too
    for descriptor in (line, page, weights):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - what children of a submission shall not have
    from perfbench.engine.trainer.confinement import confine
    from perfbench.engine.wire.channel import Channel
    from perfbench.engine.wire.messages import TO_TRAINER, Setup

    channel = Channel(socket.socket(fileno=line), TO_TRAINER)
    setup = channel.receive()
    assert isinstance(setup, Setup), "the first message says what to run"
    if setup.sandbox is not None:
        confine(setup.sandbox)  # before there are threads: the kernel confines the one that asks, and what it starts
    from perfbench.engine.trainer.process import serve

    return serve(channel, setup, page_descriptor=page, weights_descriptor=weights)


if __name__ == "__main__":
    sys.exit(main())
