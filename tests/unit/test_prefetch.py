"""Copying batches ahead on a stream of their own, on a simulated device: no read or write may be out of order.

The simulation keeps what CUDA and its caching allocator promise and nothing more: operations of one stream are in
order, those of two streams only where one waited for the other; memory that the host lets go of is given out again
at once to the stream that allocated it, unless it was recorded on another stream whose work is not done. The device
never finishes anything by itself: this is the fast host on the slow device, where the predecessor's loader was wrong
(algorithmic-efficiency issue 732).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from perfbench.data.pinning import NUM_BUFFERS
from perfbench.data.prefetch import DeviceBatches, moved_to

NUM_BATCHES = 12
CUDA = torch.device("cuda")


class RaceError(Exception):
    """Two operations on the same memory are in no order."""


@dataclass
class Stream:
    """Everything that has happened before its next operation, as the number of operations seen of each stream."""

    name: str
    seen: dict[str, int] = field(default_factory=dict)

    def launch(self) -> tuple[str, int]:
        self.seen[self.name] = self.seen.get(self.name, 0) + 1
        return self.name, self.seen[self.name]

    def wait_stream(self, other: Stream) -> None:
        for name, count in other.seen.items():
            self.seen[name] = max(self.seen.get(name, 0), count)

    def wait_event(self, event: Event) -> None:
        for name, count in event.seen.items():
            self.seen[name] = max(self.seen.get(name, 0), count)

    def comes_after(self, operation: tuple[str, int]) -> bool:
        return self.seen.get(operation[0], 0) >= operation[1]


class Event:
    """A point in a stream."""

    device: Device
    """Whose events these are."""

    def __init__(self, *, blocking: bool) -> None:
        self.seen: dict[str, int] = {}

    def record(self, stream: Stream) -> None:
        self.seen = dict(stream.seen)

    def synchronize(self) -> None:
        """Let the device get so far."""
        for name, count in self.seen.items():
            self.device.done[name] = max(self.device.done.get(name, 0), count)


@dataclass
class Block:
    """A piece of device memory."""

    content: int = -1
    written: tuple[str, int] | None = None
    reads: list[tuple[str, int]] = field(default_factory=list)
    is_recorded: bool = False


class Device:
    """One GPU as far as this test needs it."""

    def __init__(self) -> None:
        self.consumer = self.current = Stream("consumer")
        self.free: list[Block] = []
        self.num_blocks = 0
        self.num_pinned = 0
        self.done: dict[str, int] = {}
        """Operations that the host knows to be done, of each stream."""
        self.loading_threads: set[int] = set()

    def copy(self, content: int) -> DeviceTensor:
        """Allocate on the current stream and write."""
        stream = self.current
        block = self.free.pop() if self.free else Block()
        self.num_blocks += block.written is None
        if not all(stream.comes_after(read) for read in block.reads):
            raise RaceError(f"batch {content} overwrites batch {block.content} while that is read")
        block.content, block.written, block.reads = content, stream.launch(), []
        return DeviceTensor(self, block)

    def let_go(self, block: Block) -> None:
        if not block.is_recorded:  # else it waits for an event of the slow consumer
            self.free.append(block)

    def read(self, tensor: DeviceTensor) -> int:
        """Launch a kernel of the consumer that reads."""
        if tensor.block.written is None or not self.consumer.comes_after(tensor.block.written):
            raise RaceError("a batch is read before it was copied")
        tensor.block.reads.append(self.consumer.launch())
        return tensor.block.content


class DeviceTensor:
    """A tensor on the device; its memory is let go of with it."""

    def __init__(self, device: Device, block: Block) -> None:
        self.block = block
        weakref.finalize(self, device.let_go, block)

    def record_stream(self, stream: Stream) -> None:
        self.block.is_recorded = True


class HostTensor:
    """A tensor on the host; copies must come from pinned memory."""

    shape, dtype = (2,), torch.float32

    def __init__(self, device: Device, content: int, *, pinned: bool = False) -> None:
        self.device, self.content, self.pinned = device, content, pinned
        self.copied: tuple[str, int] | None = None
        """The last operation of the device that reads this memory."""

    def stride(self) -> tuple[int, ...]:
        return (1,)

    def is_pinned(self) -> bool:
        return self.pinned

    def pin_memory(self) -> HostTensor:
        self.device.loading_threads.add(threading.get_ident())
        return HostTensor(self.device, self.content, pinned=True)

    def copy_(self, other: HostTensor) -> None:
        self.device.loading_threads.add(threading.get_ident())
        if self.copied is not None and self.device.done.get(self.copied[0], 0) < self.copied[1]:
            raise RaceError(f"batch {other.content} overwrites batch {self.content} while that is copied")
        self.content = other.content

    def to(self, device: torch.device, *, non_blocking: bool) -> DeviceTensor:
        assert self.pinned, "a copy from pageable memory blocks"
        assert non_blocking
        moved = self.device.copy(self.content)
        self.copied = moved.block.written
        return moved


def _refuse(device: object) -> None:
    """Do as torch does where a device has no index."""
    message = f"Expected a torch.device with a specified index or an integer, but got: {device}"
    raise ValueError(message)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    simulated = Device()

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        before, simulated.current = simulated.current, stream
        yield
        simulated.current = before

    def pinned_like(tensor: HostTensor, *, pin_memory: bool) -> HostTensor:
        assert pin_memory
        simulated.num_pinned += 1
        return HostTensor(simulated, -1, pinned=True)

    monkeypatch.setattr(Event, "device", simulated, raising=False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None if isinstance(index, int) else _refuse(index))
    monkeypatch.setattr(torch, "empty_like", pinned_like)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream("copying"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: simulated.consumer)
    monkeypatch.setattr(torch.cuda, "stream", on)
    return simulated


def consumed(device: Device, move: Callable[[Any], Iterable[Any]]) -> list[int]:
    """Read every batch with two kernels, and let go of it."""
    batches = ({"x": HostTensor(device, number)} for number in range(NUM_BATCHES))
    found = []
    for batch in move(batches):
        found += [device.read(batch["x"]), device.read(batch["x"])]
        del batch
    return found[::2]


def test_every_batch_arrives_once_and_in_order_without_a_race(device: Device) -> None:
    assert consumed(device, lambda batches: moved_to(CUDA, batches)) == list(range(NUM_BATCHES))


def test_waiting_for_the_consumer_alone_prevents_the_race(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeviceTensor, "record_stream", lambda *_: None)

    assert consumed(device, lambda batches: moved_to(CUDA, batches)) == list(range(NUM_BATCHES))
    assert device.num_blocks < NUM_BATCHES, "memory is used again, or there is nothing to see"


def test_recording_the_stream_alone_prevents_the_race(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = Stream.wait_stream
    only_consumer = lambda self, other: waited(self, other) if self.name == "consumer" else None  # noqa: E731
    monkeypatch.setattr(Stream, "wait_stream", only_consumer)

    assert consumed(device, lambda batches: moved_to(CUDA, batches)) == list(range(NUM_BATCHES))


def test_without_both_the_simulation_sees_the_race(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = Stream.wait_stream
    only_consumer = lambda self, other: waited(self, other) if self.name == "consumer" else None  # noqa: E731
    monkeypatch.setattr(Stream, "wait_stream", only_consumer)
    monkeypatch.setattr(DeviceTensor, "record_stream", lambda *_: None)

    with pytest.raises(RaceError, match=r"batch \d+ overwrites batch \d+ while that is read"):
        consumed(device, lambda batches: moved_to(CUDA, batches))


def test_without_waiting_for_the_copy_the_simulation_sees_the_race(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "wait_event", lambda *_: None)

    with pytest.raises(RaceError, match="read before it was copied"):
        consumed(device, lambda batches: moved_to(CUDA, batches))


def test_a_batch_is_used_while_the_next_one_is_copied(device: Device) -> None:
    batches: Iterable[Any] = ({"x": HostTensor(device, number)} for number in range(NUM_BATCHES))
    is_hidden = []
    for batch in moved_to(CUDA, batches):
        number = device.read(batch["x"])  # type: ignore[arg-type]
        next_copy = ("copying", number + 2)  # counted from 1
        is_hidden.append(not device.consumer.comes_after(next_copy))
        del batch

    assert is_hidden == [True] * NUM_BATCHES


def test_whoever_trains_copies_nothing_in_host_memory(device: Device) -> None:
    consumed(device, lambda batches: moved_to(CUDA, batches))

    assert device.loading_threads
    assert threading.get_ident() not in device.loading_threads


def test_a_few_pinned_buffers_serve_all_batches(device: Device) -> None:
    consumed(device, lambda batches: moved_to(CUDA, batches))

    assert device.num_pinned == NUM_BUFFERS


def test_without_waiting_for_the_copy_the_simulation_sees_a_buffer_overwritten(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Event, "synchronize", lambda _: None)

    with pytest.raises(RaceError, match=r"batch 3 overwrites batch 0 while that is copied"):
        consumed(device, lambda batches: moved_to(CUDA, batches))


def test_what_goes_wrong_while_loading_is_told_where_the_batch_is_wanted(device: Device) -> None:
    def broken() -> Iterator[Any]:
        yield {"x": HostTensor(device, 0)}
        yield {"x": HostTensor(device, 1)}
        message = "a file is damaged"
        raise OSError(message)

    moved = moved_to(CUDA, broken())
    first = next(moved)

    assert device.read(first["x"]) == 0  # type: ignore[arg-type]
    with pytest.raises(OSError, match="a file is damaged"):
        next(moved)


def test_no_thread_is_left_when_the_consumer_stops_early(device: Device) -> None:
    batches: Iterable[Any] = ({"x": HostTensor(device, number)} for number in range(NUM_BATCHES))
    moved = moved_to(CUDA, batches)
    next(moved)

    moved.close()

    assert not [thread for thread in threading.enumerate() if thread.name == "pinning-loader"]


class Numbers:
    """An endless training stream of one number per batch."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.position = 0

    def __iter__(self) -> Numbers:
        return self

    def __next__(self) -> dict[str, Any]:
        self.position += 1
        return {"x": HostTensor(self.device, self.position - 1)}

    def example_ids(self, batch_index: int) -> NDArray[np.int64]:
        return np.asarray([batch_index])

    def state_dict(self) -> dict[str, int]:
        return {"num_returned": self.position}

    def load_state_dict(self, state: Any) -> None:
        self.position = state["num_returned"]

    def close(self) -> None:
        """Nothing is open."""


def test_the_position_is_that_of_the_batch_in_hand_however_many_are_loaded_ahead(device: Device) -> None:
    batches = DeviceBatches(Numbers(device), CUDA)
    seen = [device.read(next(batches)["x"]) for _ in range(5)]  # type: ignore[arg-type]
    position = batches.state_dict()
    later = [device.read(next(batches)["x"]) for _ in range(3)]  # type: ignore[arg-type]

    batches.load_state_dict(position)
    again = [device.read(next(batches)["x"]) for _ in range(3)]  # type: ignore[arg-type]
    batches.close()

    assert seen == [0, 1, 2, 3, 4]
    assert position == {"num_returned": 5, "position": {"num_returned": 5}}
    assert again == later == [5, 6, 7]
    assert batches.last_example_ids().tolist() == [7]


def test_on_a_cpu_batches_pass_through() -> None:
    batches = [{"x": torch.ones(2)}, {"x": torch.zeros(2)}]

    assert list(moved_to(torch.device("cpu"), batches)) == batches


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: the prefetch race is tested on a simulation only")
def test_a_slow_consumer_sees_what_a_blocking_copy_gives() -> None:
    device = torch.device("cuda")
    host = [{"x": torch.full((1 << 20,), float(number))} for number in range(64)]
    weight = torch.randn(4096, 4096, device=device)
    sums = []
    for batch in moved_to(device, host):
        for _ in range(4):  # the device falls behind the host
            weight = torch.nn.functional.normalize(weight @ weight)
        sums.append(batch["x"].double().sum())
        del batch

    assert torch.stack(sums).tolist() == [float(number) * (1 << 20) for number in range(64)]
