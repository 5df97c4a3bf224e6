"""One direction of one LSTM layer as an operator that a full graph can hold: docs/adr/0008.

The forward is the library's (oneDNN on a CPU, cuDNN on a GPU) and hands on what the library's backward wants: its own
workspace. A graph must know the size of that; shapes are static, so the library is asked once for each of them.

Shape suffixes: t frames, b examples, d inputs, h hidden units of a direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils.flop_counter import register_flop_formula

_LSTM = 2
"""Number of the cell type in the libraries' interfaces."""
_aten = torch.ops.aten

_NOT_REVERSED = False
_FORWARD_FLAGS = (True, 1, 0.0, False, False, False)
"""Of ``torch.lstm``: biases, layers, dropout, training, both directions, batch first."""

Weights = tuple[Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class Kept(NamedTuple):
    """What a forward leaves to its backward; empty tensors where the library wants none."""

    last_hidden: Tensor
    last_cell: Tensor
    workspace: Tensor
    """Bytes of the library's own making."""
    packed_weights: Tensor


def lstm(x_tbd: Tensor, weights: Weights) -> Tensor:
    """Return hidden states ``[t, b, h]`` of one layer in forward direction, from zero states."""
    out: Tensor = _lstm(x_tbd, *weights, torch.is_grad_enabled())[0]
    return out


@torch.library.custom_op("perfbench::lstm", mutates_args=())
def _lstm(
    x_tbd: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    with_workspace: bool,  # noqa: FBT001 - an operator has no keyword arguments of its own
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return hidden states and, if wanted, what the backward needs."""
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    if with_workspace:
        out, kept = _with_workspace(x_tbd, weights)
        return out, *kept
    zeros = _zero_state(x_tbd, weight_hh)
    with _without_autocast(x_tbd.device):
        out = torch.lstm(x_tbd, (zeros, zeros), list(weights), *_FORWARD_FLAGS)[0]
    return out, *_nothing_kept(x_tbd)


@_lstm.register_fake
def _(
    x_tbd: Tensor,
    weight_ih: Tensor,  # noqa: ARG001
    weight_hh: Tensor,
    bias_ih: Tensor,  # noqa: ARG001
    bias_hh: Tensor,  # noqa: ARG001
    with_workspace: bool,  # noqa: FBT001 - an operator has no keyword arguments of its own
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    frames, examples, inputs = x_tbd.shape
    hidden = weight_hh.shape[1]
    out = x_tbd.new_empty(frames, examples, hidden)
    if not with_workspace:
        return out, *_nothing_kept(x_tbd)
    forms = _forms_of_kept((int(frames), int(examples), int(inputs)), int(hidden), x_tbd.dtype, x_tbd.device)
    return out, *Kept(*(torch.empty(shape, dtype=dtype, device=x_tbd.device) for shape, dtype in forms))


@torch.library.custom_op("perfbench::lstm_backward", mutates_args=())
def _lstm_backward(
    grad_tbh: Tensor,
    x_tbd: Tensor,
    weights: Sequence[Tensor],
    out_tbh: Tensor,
    kept: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the inputs and of the four weights."""
    backward = _cudnn_backward if x_tbd.is_cuda else _onednn_backward
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    return backward(grad_tbh.contiguous(), x_tbd, (weight_ih, weight_hh, bias_ih, bias_hh), out_tbh, Kept(*kept))


@_lstm_backward.register_fake
def _(
    grad_tbh: Tensor,  # noqa: ARG001
    x_tbd: Tensor,
    weights: Sequence[Tensor],
    out_tbh: Tensor,  # noqa: ARG001
    kept: Sequence[Tensor],  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(t) for t in (x_tbd, *weights))  # type: ignore[return-value]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ANN401
    ctx.save_for_backward(*inputs[:5], *output)


def _gradients(ctx: Any, grad_tbh: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    saved = ctx.saved_tensors
    return (*_lstm_backward(grad_tbh, saved[0], list(saved[1:5]), saved[5], list(saved[6:])), None)


_lstm.register_autograd(_gradients, setup_context=_keep)


@register_flop_formula(torch.ops.perfbench.lstm)
def _flops_of_forward(
    x_shape: Sequence[int],
    _: Sequence[int],
    weight_hh_shape: Sequence[int],
    *_others: Any,  # noqa: ANN401
    **_named: Any,  # noqa: ANN401
) -> int:
    """Count the products, as torch counts those of its own operators."""
    frames, examples, inputs = x_shape
    gates, hidden = weight_hh_shape
    return 2 * frames * examples * gates * (inputs + hidden)


@register_flop_formula(torch.ops.perfbench.lstm_backward)
def _flops_of_backward(
    _: Sequence[int],
    x_shape: Sequence[int],
    weight_shapes: Sequence[Sequence[int]],
    *_others: Any,  # noqa: ANN401
    **_named: Any,  # noqa: ANN401
) -> int:
    return 2 * _flops_of_forward(x_shape, weight_shapes[0], weight_shapes[1])


def _zero_state(x_tbd: Tensor, weight_hh: Tensor) -> Tensor:
    return x_tbd.new_zeros(1, x_tbd.shape[1], weight_hh.shape[1])


def _without_autocast(device: torch.device) -> torch.autocast:
    """Let the library compute in the weights' dtype: cast inside of the operator, its backward would not fit."""
    return torch.autocast(device.type, enabled=False)


def _nothing_kept(x: Tensor) -> Kept:
    return Kept(*(x.new_empty(0) for _ in Kept._fields))


def _with_workspace(x: Tensor, weights: Weights) -> tuple[Tensor, Kept]:
    with _without_autocast(x.device):
        return _library_forward(x, weights)


def _library_forward(x: Tensor, weights: Weights) -> tuple[Tensor, Kept]:
    zeros, hidden = _zero_state(x, weights[1]), weights[1].shape[1]
    if x.is_cuda:
        flags = _cudnn_flags(hidden)
        out, h, c, reserve, packed = _aten._cudnn_rnn(x, list(weights), len(weights), None, zeros, zeros, *flags)  # noqa: SLF001
        return out, Kept(h, c, reserve, packed)
    # hidden size, layers, biases, both directions, batch first, training; the flags have no names in the library
    onednn_flags = (_LSTM, hidden, 1, True, False, False, True)
    with torch.enable_grad():  # the library keeps its workspace only where gradients are on
        out, h, c, workspace = _aten.mkldnn_rnn_layer(x, *weights, zeros, zeros, _NOT_REVERSED, [], *onednn_flags)
    return out, Kept(h, c, workspace, x.new_empty(0))


@lru_cache
def _forms_of_kept(
    input_shape: tuple[int, int, int], hidden: int, dtype: torch.dtype, device: torch.device
) -> list[tuple[torch.Size, torch.dtype]]:
    """Return shapes and dtypes of what a forward keeps: run once, on zeros.

    Where a graph is only looked at and the device is not there, the workspace counts nothing.
    """
    with unset_fake_temporarily(), torch.no_grad():
        there = device if device.type == "cpu" or torch.cuda.is_available() else torch.device("cpu")
        x = torch.zeros(input_shape, dtype=dtype, device=there)
        shapes = ((4 * hidden, input_shape[2]), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,))
        weight_ih, weight_hh, bias_ih, bias_hh = (torch.zeros(shape, dtype=dtype, device=there) for shape in shapes)
        if there != device:
            empty = x.new_empty(0)
            kept = Kept(empty, empty, empty.to(torch.uint8), empty)
        else:
            kept = _with_workspace(x, (weight_ih, weight_hh, bias_ih, bias_hh))[1]
        return [(tensor.shape, tensor.dtype) for tensor in kept]


def _onednn_backward(grad: Tensor, x: Tensor, weights: Weights, out: Tensor, kept: Kept) -> Gradients:
    zeros, hidden = _zero_state(x, weights[1]), weights[1].shape[1]
    h, c = kept.last_hidden, kept.last_cell
    grads = (grad, torch.zeros_like(h), torch.zeros_like(c))
    flags: tuple[Any, ...] = (_NOT_REVERSED, _LSTM, hidden, 1, True, True, False, [], False)
    gradients = _aten.mkldnn_rnn_layer_backward(x, *weights, zeros, zeros, out, h, c, *grads, *flags, kept.workspace)
    grad_x, *grad_weights = gradients[:5]
    return _own_memory(grad_x, grad_weights)


def _cudnn_flags(hidden: int) -> tuple[Any, ...]:
    """Return: cell, hidden size, projection, layers, batch first, dropout, training, both directions, sizes, state."""
    return (_LSTM, hidden, 0, 1, False, 0.0, True, False, [], None)


def _cudnn_backward(grad: Tensor, x: Tensor, weights: Weights, out: Tensor, kept: Kept) -> Gradients:
    zeros, listed = _zero_state(x, weights[1]), list(weights)
    reserve = kept.workspace.clone()  # the library writes into it, and the graph may be walked again
    wanted = [True, False, False, True]  # input, states, weights
    grad_x, _, _, grad_weights = _aten._cudnn_rnn_backward(  # noqa: SLF001
        *(x, listed, len(listed), kept.packed_weights, zeros, zeros, out, grad, None, None),
        *_cudnn_flags(weights[1].shape[1]),
        reserve,
        wanted,
    )
    return _own_memory(grad_x, grad_weights)


def _own_memory(grad_x: Tensor, grad_weights: Sequence[Tensor]) -> Gradients:
    """Copy: libraries return views of one buffer, and outputs of an operator must not share memory."""
    weight_ih, weight_hh, bias_ih, bias_hh = (gradient.clone() for gradient in grad_weights)
    return grad_x.clone(), weight_ih, weight_hh, bias_ih, bias_hh
