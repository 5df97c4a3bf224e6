"""How ranks find one another: whoever launches them tells each where rank 0 listens. No port is ever guessed.

A port that is looked for first and bound later can be taken in between. Here both ports are bound by who uses them and
numbered by the system: the launcher's, which it keeps as long as ranks run, and rank 0's, which rank 0 tells the
launcher. No file is involved, so none can be stale, foreign, or on a disk that shows it late.

    with opened("127.0.0.1", is_local=True) as address:  # the launcher, without torch
        start ranks with PERFBENCH_RENDEZVOUS=address
    store = join(...)                             # every rank
    dist.init_process_group(store=store, ...)
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from perfbench.errors import LaunchError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

VARIABLE = "PERFBENCH_RENDEZVOUS"
"""Of the ranks' environment: where their launcher listens."""
_LONGEST_MESSAGE_BYTES = 4096


class _Exchange(socketserver.ThreadingTCPServer):
    """Keeps where rank 0 of each group listens, and lets those who ask wait until it is known."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, host: str, secret: str) -> None:
        self.secret = secret
        self.is_closed = False
        self.known: dict[str, str] = {}
        self.changed = threading.Condition()
        super().__init__((host, 0), _Answer)


class _Answer(socketserver.StreamRequestHandler):
    """One rank's question, or rank 0's word."""

    server: _Exchange

    def handle(self) -> None:
        """Answer one line with one line; who does not know the secret, or is no rank of ours, is not answered."""
        try:
            message = json.loads(self.rfile.readline(_LONGEST_MESSAGE_BYTES))
            group, place = message["group"], message["place"]
        except (ValueError, KeyError, TypeError, OSError):
            return
        if not secrets.compare_digest(str(message.get("secret")), self.server.secret):
            return
        with self.server.changed:
            if place is not None:
                self.server.known[group] = place
                self.server.changed.notify_all()
            self.server.changed.wait_for(lambda: self.server.is_closed or group in self.server.known)
            answer = self.server.known.get(group)
        if answer is not None:
            self.wfile.write(json.dumps({"place": answer}).encode() + b"\n")


@contextmanager
def opened(host: str, *, is_local: bool) -> Iterator[str]:
    """Let ranks find one another while the block runs; yield the value of ``PERFBENCH_RENDEZVOUS``.

    Args:
        host: The name by which ranks reach this machine.
        is_local: Whether all of them are on it.
    """
    secret = secrets.token_hex(16)
    with _Exchange(host if is_local else "", secret) as exchange:
        thread = threading.Thread(target=exchange.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"{host}:{exchange.server_address[1]}:{secret}"
        finally:
            with exchange.changed:
                exchange.is_closed = True
                exchange.changed.notify_all()
            exchange.shutdown()
            thread.join()


def join(
    *, rank: int, num_ranks: int, timeout: timedelta, group: str = "ranks", environment: dict[str, str] | None = None
) -> Store:
    """Return the store through which a group of ranks forms; rank 0 hosts it, on a port that it has bound.

    Args:
        rank: This one.
        num_ranks: In the group.
        timeout: For all of them to come, and later of the store's own operations.
        group: Which one, where the same launcher starts several.
        environment: With ``PERFBENCH_RENDEZVOUS``; this process's own if not given.

    Raises:
        LaunchError: If the launcher, or rank 0, cannot be found in time.
    """
    from torch._C._distributed_c10d import TCPStore

    address = (os.environ if environment is None else environment).get(VARIABLE, "")
    host, _, rest = address.partition(":")
    port, _, secret = rest.partition(":")
    if not secret:
        raise LaunchError("nobody says where ranks meet", where=VARIABLE, hint="start ranks through `perfbench`")
    timeout_s = timeout.total_seconds()
    question: dict[str, Any] = {"secret": secret, "group": group, "place": None}
    if rank == 0:
        store = TCPStore(host, 0, num_ranks, is_master=True, timeout=timeout, wait_for_workers=False)
        here = host if host == "127.0.0.1" else os.environ.get("SLURMD_NODENAME", host)
        _asked((host, int(port)), question | {"place": f"{here}:{store.port}"}, timeout_s)
        return store
    store_host, _, store_port = _asked((host, int(port)), question, timeout_s).rpartition(":")
    return TCPStore(store_host, int(store_port), num_ranks, is_master=False, timeout=timeout, wait_for_workers=False)


def _asked(address: tuple[str, int], question: dict[str, Any], timeout_s: float) -> str:
    where = f"{address[0]}:{address[1]}"
    try:
        with socket.create_connection(address, timeout_s) as connection, connection.makefile("rwb") as stream:
            stream.write(json.dumps(question).encode() + b"\n")
            stream.flush()
            answer = stream.readline(_LONGEST_MESSAGE_BYTES)
    except TimeoutError:
        raise LaunchError(f"rank 0 has not said in {timeout_s:.0f} s where it listens", where=where) from None
    except OSError as problem:
        raise LaunchError(
            f"the launcher cannot be reached: {problem.strerror or problem}",
            where=where,
            hint="nodes must reach one another by name, on any port",
        ) from None
    try:
        return str(json.loads(answer)["place"])
    except ValueError:
        raise LaunchError("the launcher has gone, or is another one", where=where) from None
