"""Ranks that find one another: no port is guessed, so none can be taken by somebody else in between."""

from __future__ import annotations

import json
import multiprocessing
import socket
import threading
from datetime import timedelta

import pytest

from perfbench.engine.wire.rendezvous import VARIABLE, join, opened
from perfbench.errors import LaunchError

PATIENCE = timedelta(seconds=60)


def meet(address: str, rank: int, results: multiprocessing.SimpleQueue[tuple[int, str]]) -> None:
    store = join(rank=rank, num_ranks=3, timeout=PATIENCE, environment={VARIABLE: address})
    store.set(str(rank), f"rank {rank}")
    others = "".join(store.get(str(other)).decode() for other in range(3))
    store.set(f"done {rank}", "")
    if rank == 0:
        store.wait(["done 1", "done 2"])
    results.put((rank, others))


@pytest.mark.timeout(120)
def test_ranks_meet_in_whatever_order_they_come() -> None:
    """Rank 0 last."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[tuple[int, str]] = context.SimpleQueue()
    with opened("127.0.0.1", is_local=True) as address:
        ranks = [context.Process(target=meet, args=(address, rank, results)) for rank in (2, 1, 0)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()

    assert sorted(results.get() for _ in ranks) == [(rank, "rank 0rank 1rank 2") for rank in range(3)]


def ask(address: str, secret: str | None = None, *, place: str | None = None, group: str = "ranks") -> bytes:
    """Return the launcher's answer; empty where it gives none."""
    host, port, own = address.split(":")
    message = {"secret": own if secret is None else secret, "group": group, "place": place}
    try:
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(json.dumps(message).encode() + b"\n")
            return connection.recv(1000)
    except ConnectionError:
        return b""


def test_groups_of_one_launcher_do_not_meet() -> None:
    with opened("127.0.0.1", is_local=True) as address:
        ask(address, place="a:1", group="first")
        ask(address, place="b:2", group="second")

        assert json.loads(ask(address, group="first")) == {"place": "a:1"}
        assert json.loads(ask(address, group="second")) == {"place": "b:2"}


@pytest.mark.parametrize("message", [b"\n", b"GET / HTTP/1.1\r\n", b'{"group": 1}\n', b"\xff" * 5000 + b"\n"])
def test_whoever_else_calls_is_not_answered_and_disturbs_nobody(message: bytes) -> None:
    with opened("127.0.0.1", is_local=True) as address:
        host, port, _ = address.split(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(100)
            except ConnectionResetError:
                answer = b""
        assert answer == b""
        assert ask(address, "another", place="evil:1") == b""
        assert json.loads(ask(address, place="a:1")) == {"place": "a:1"}


def test_ranks_that_wait_learn_that_their_launcher_has_gone() -> None:
    answers: list[bytes] = []
    with opened("127.0.0.1", is_local=True) as address:
        waiting = threading.Thread(target=lambda: answers.append(ask(address)))
        waiting.start()
    waiting.join(20)

    assert answers == [b""]
    with pytest.raises(LaunchError, match="the launcher cannot be reached"):
        join(rank=1, num_ranks=2, timeout=PATIENCE, environment={VARIABLE: address})


def test_a_rank_zero_that_never_comes_is_one_error() -> None:
    with (
        opened("127.0.0.1", is_local=True) as address,
        pytest.raises(LaunchError, match="rank 0 has not said in 0 s where it listens"),
    ):
        join(rank=1, num_ranks=2, timeout=timedelta(seconds=0.2), environment={VARIABLE: address})


def test_a_rank_that_nobody_has_launched_says_so() -> None:
    with pytest.raises(LaunchError, match="nobody says where ranks meet"):
        join(rank=0, num_ranks=2, timeout=PATIENCE, environment={})
