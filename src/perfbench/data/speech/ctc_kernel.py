"""Connectionist temporal classification on a GPU without waiting for it: counts stay on the device.

torch's own operator reads the counts on the host and copies them back: eight waits in each step (measured on an H200).
Here each example has two programs, one that goes ahead in time and one that goes back; a second kernel turns both into
the gradient. Sums have a fixed order: the same input gives the same bits.

An example's lattice has ``2 n + 1`` states for ``n`` labels: a blank before, between and after them. Going back is
going ahead with frames and states in reverse order. Imports triton, which only a GPU needs: import this module where
one is.

Source: Graves et al. (2006), sections 4.1 and 4.2, in logarithms.

Shape suffixes: t frames, b examples, v classes, s labels, l states of the lattice, d directions (ahead, back).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import triton
import triton.language as tl
from torch import Tensor

_kernel = cast("Callable[[Callable[..., Any]], Any]", triton.jit)
_NUM_ENTRIES = tl.constexpr(2)
"""A path begins in the first blank or the first label, and ends in the last of each."""
_FIRST_SKIP = tl.constexpr(3)
"""The first state that can be reached past a blank: that of the second label."""
_NOTHING = tl.constexpr(float("-inf"))
_FRAMES, _STATES, _CLASSES = tl.constexpr(16), tl.constexpr(32), tl.constexpr(64)
"""Of one tile of the gradient's kernel."""


def losses_and_gradient(
    log_probabilities_tbv: Tensor, labels_bs: Tensor, num_frames: Tensor, num_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return losses ``[b]`` and their gradients with respect to the log-probabilities, ``[t, b, v]``.

    Args:
        log_probabilities_tbv: Normalised, float32; class 0 is the blank.
        labels_bs: Only the first ``num_labels`` of each row count.
        num_frames: Valid frames ``[b]``, at least 1.
        num_labels: ``[b]``.
    """
    tensors, sizes = _prepared(log_probabilities_tbv, labels_bs, num_frames, num_labels, num_directions=2)
    t, b, v = log_probabilities_tbv.shape
    gradient = torch.empty_like(log_probabilities_tbv)
    _walk[(b, 2)](*tensors, sizes)
    _differentiate[(b, triton.cdiv(t, _FRAMES.value), triton.cdiv(v, _CLASSES.value))](*tensors, gradient, sizes)
    return tensors[-1], gradient


def losses_only(log_probabilities_tbv: Tensor, labels_bs: Tensor, num_frames: Tensor, num_labels: Tensor) -> Tensor:
    """Return losses ``[b]``."""
    tensors, sizes = _prepared(log_probabilities_tbv, labels_bs, num_frames, num_labels, num_directions=1)
    _walk[(log_probabilities_tbv.shape[1], 1)](*tensors, sizes)
    return tensors[-1]


def _prepared(
    log_probabilities: Tensor, labels: Tensor, num_frames: Tensor, num_labels: Tensor, *, num_directions: int
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    t, b, v = log_probabilities.shape
    num_slots = labels.shape[1]
    num_states = 2 * num_slots + 1
    lengths = torch.stack([num_frames, num_labels]).to(torch.int32)
    lattice = log_probabilities.new_empty(num_directions, b, t, num_states)
    losses = log_probabilities.new_empty(b)
    tensors = (log_probabilities.contiguous(), labels.to(torch.int32).contiguous(), lengths, lattice, losses)
    return tensors, (t, b, v, num_slots, triton.next_power_of_2(num_states))


@_kernel
def _log_of_sum(stay: tl.tensor, move: tl.tensor, skip: tl.tensor) -> tl.tensor:
    most = tl.maximum(tl.maximum(stay, move), skip)
    shift = tl.where(most == _NOTHING, 0.0, most)
    return shift + tl.log(tl.exp(stay - shift) + tl.exp(move - shift) + tl.exp(skip - shift))


@_kernel
def _log_of_all(values: tl.tensor) -> tl.tensor:
    most = tl.max(values, axis=0)
    shift = tl.where(most == _NOTHING, 0.0, most)
    return shift + tl.log(tl.sum(tl.exp(values - shift), axis=0))


@_kernel
def _lattice_of(labels: tl.tensor, num_labels: tl.tensor, place: tl.tensor, is_back: tl.tensor) -> tl.tuple:
    """Return the states at places along the way, their classes, and whether a path may come from two places before."""
    num_states = 2 * num_labels + 1
    is_label = (place < num_states) & (place % 2 == 1)
    is_skip = is_label & (place >= _FIRST_SKIP)
    state = tl.where(is_back, num_states - 1 - place, place)
    before = tl.where(is_back, state + 2, state - 2)
    label = tl.load(labels + (state - 1) // 2, mask=is_label, other=0)
    label_before = tl.load(labels + (before - 1) // 2, mask=is_skip, other=0)
    return state, label, is_skip & (label != label_before)


@_kernel
def _walk(
    log_probabilities: tl.tensor,
    labels: tl.tensor,
    lengths: tl.tensor,
    lattice: tl.tensor,
    losses: tl.tensor,
    sizes: tl.constexpr,
) -> None:
    """Write the logarithms of all paths' probabilities up to each frame and state: ``lattice [d, b, t, l]``.

    Going ahead, a frame's own probability is counted; going back it is not, so that their product counts it once.
    """
    t_size: tl.constexpr = sizes[0]
    b_size: tl.constexpr = sizes[1]
    v_size: tl.constexpr = sizes[2]
    s_size: tl.constexpr = sizes[3]
    block: tl.constexpr = sizes[4]
    example, direction = tl.program_id(0), tl.program_id(1)
    num_frames = tl.load(lengths + example)
    num_labels = tl.load(lengths + b_size + example)
    place = tl.arange(0, block)
    is_state = place < 2 * num_labels + 1
    state, label, may_skip = _lattice_of(labels + example * s_size, num_labels, place, direction == 1)
    row = lattice + (direction * b_size + example).to(tl.int64) * t_size * (2 * s_size + 1) + state
    one_back, two_back = tl.maximum(place - 1, 0), tl.maximum(place - 2, 0)

    paths = tl.where(is_state & (place < _NUM_ENTRIES), 0.0, _NOTHING)
    for step in range(0, num_frames):
        frame = tl.where(direction == 1, num_frames - 1 - step, step).to(tl.int64)
        if step > 0:
            move = tl.where(place >= 1, tl.gather(paths, one_back, 0), _NOTHING)
            skip = tl.where(may_skip, tl.gather(paths, two_back, 0), _NOTHING)
            paths = tl.where(is_state, _log_of_sum(paths, move, skip), _NOTHING)
        own = tl.load(log_probabilities + (frame * b_size + example) * v_size + label, mask=is_state, other=0.0)
        tl.store(row + frame * (2 * s_size + 1), tl.where(direction == 1, paths, paths + own), mask=is_state)
        paths += own
    total = _log_of_all(tl.where(is_state & (place >= 2 * num_labels + 1 - _NUM_ENTRIES), paths, _NOTHING))
    if direction == 0:
        tl.store(losses + example, -total)


@_kernel
def _differentiate(
    log_probabilities: tl.tensor,
    labels: tl.tensor,
    lengths: tl.tensor,
    lattice: tl.tensor,
    losses: tl.tensor,
    gradient: tl.tensor,
    sizes: tl.constexpr,
) -> None:
    """Write a tile of the gradient: each class's probability, less its share of the paths through the frame."""
    t_size: tl.constexpr = sizes[0]
    b_size: tl.constexpr = sizes[1]
    v_size: tl.constexpr = sizes[2]
    s_size: tl.constexpr = sizes[3]
    l_size: tl.constexpr = 2 * s_size + 1
    example = tl.program_id(0)
    num_frames = tl.load(lengths + example)
    num_states = 2 * tl.load(lengths + b_size + example) + 1
    loss = tl.load(losses + example)
    frame = tl.program_id(1) * _FRAMES + tl.arange(0, _FRAMES)
    class_number = tl.program_id(2) * _CLASSES + tl.arange(0, _CLASSES)
    is_frame = frame < num_frames
    ahead = lattice + ((example.to(tl.int64) * t_size + frame) * l_size)[:, None]
    back = ahead + b_size * t_size * l_size
    share = tl.zeros((_FRAMES, _CLASSES), dtype=tl.float32)
    for first in range(0, num_states, _STATES):
        state = first + tl.arange(0, _STATES)
        is_state = state < num_states
        label = tl.load(labels + example * s_size + (state - 1) // 2, mask=is_state & (state % 2 == 1), other=0)
        is_there = is_frame[:, None] & is_state[None, :]
        paths = tl.load(ahead + state[None, :], mask=is_there, other=_NOTHING)
        paths += tl.load(back + state[None, :], mask=is_there, other=0.0)
        occupied = tl.where(is_there, tl.exp(paths + loss), 0.0)
        is_class = (label[:, None] == class_number[None, :]) & is_state[:, None]
        share += tl.dot(occupied, is_class.to(tl.float32), input_precision="ieee")
    at = (frame.to(tl.int64)[:, None] * b_size + example) * v_size + class_number[None, :]
    is_inside = (frame < t_size)[:, None] & (class_number < v_size)[None, :]
    probability = tl.exp(tl.load(log_probabilities + at, mask=is_inside, other=0.0))
    tl.store(gradient + at, tl.where(is_frame[:, None], probability - share, 0.0), mask=is_inside)
