"""A bidirectional LSTM over padded utterances that a full graph can hold: docs/adr/0008.

``nn.LSTM`` and packed sequences cannot be traced, and ``torch.lstm`` does not lower with gradients (torch 2.14). Here
one direction of one layer is an operator: its forward is ``torch.lstm`` (oneDNN on a CPU, cuDNN on a GPU), its
backward runs the library's forward again, for the library's own workspace, and then the library's backward.

Shape suffixes: t frames, b examples, d inputs, h hidden units of a direction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_LSTM = 2
"""Number of the cell type in the libraries' interfaces."""
_aten = torch.ops.aten

_NOT_REVERSED = False
_FORWARD_FLAGS = (True, 1, 0.0, False, False, False)

Weights = tuple[Tensor, Tensor, Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("perfbench::lstm", mutates_args=())
def _lstm(x_tbd: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:
    """Return hidden states ``[t, b, h]`` of one layer in forward direction, from zero states."""
    zeros = _zero_state(x_tbd, weight_hh)
    weights = [weight_ih, weight_hh, bias_ih, bias_hh]
    # biases, layers, dropout, training, both directions, batch first
    out: Tensor = torch.lstm(x_tbd, (zeros, zeros), weights, *_FORWARD_FLAGS)[0]
    return out


@_lstm.register_fake
def _(x_tbd: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor) -> Tensor:  # noqa: ARG001
    return x_tbd.new_empty(x_tbd.shape[0], x_tbd.shape[1], weight_hh.shape[1])


@torch.library.custom_op("perfbench::lstm_backward", mutates_args=())
def _lstm_backward(
    grad_tbh: Tensor, x_tbd: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the operator's five inputs."""
    weights = (weight_ih, weight_hh, bias_ih, bias_hh)
    backward = _cudnn_backward if x_tbd.is_cuda else _onednn_backward
    return backward(grad_tbh.contiguous(), x_tbd, weights)


@_lstm_backward.register_fake
def _(
    grad_tbh: Tensor,  # noqa: ARG001
    x_tbd: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(t) for t in (x_tbd, weight_ih, weight_hh, bias_ih, bias_hh))  # type: ignore[return-value]


def _keep_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ANN401, ARG001
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad_tbh: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
    gradients: tuple[Tensor, ...] = _lstm_backward(grad_tbh, *ctx.saved_tensors)
    return gradients


_lstm.register_autograd(_gradients, setup_context=_keep_inputs)


def _zero_state(x_tbd: Tensor, weight_hh: Tensor) -> Tensor:
    return x_tbd.new_zeros(1, x_tbd.shape[1], weight_hh.shape[1])


def _onednn_backward(grad: Tensor, x: Tensor, weights: Weights) -> Gradients:
    zeros, hidden = _zero_state(x, weights[1]), weights[1].shape[1]
    # hidden size, layers, biases, both directions, batch first, training; the flags have no names in the library
    forward_flags = (_LSTM, hidden, 1, True, False, False, True)
    with torch.enable_grad():  # the library keeps its workspace only where gradients are on
        out, h, c, workspace = _aten.mkldnn_rnn_layer(x, *weights, zeros, zeros, _NOT_REVERSED, [], *forward_flags)
    grads = (grad, torch.zeros_like(h), torch.zeros_like(c))
    backward_flags: tuple[Any, ...] = (_NOT_REVERSED, _LSTM, hidden, 1, True, True, False, [], False)
    gradients = _aten.mkldnn_rnn_layer_backward(
        x, *weights, zeros, zeros, out, h, c, *grads, *backward_flags, workspace
    )
    grad_x, *grad_weights = gradients[:5]
    return _own_memory(grad_x, grad_weights)


def _cudnn_backward(grad: Tensor, x: Tensor, weights: Weights) -> Gradients:
    zeros, hidden = _zero_state(x, weights[1]), weights[1].shape[1]
    # hidden size, projection, layers, batch first, dropout, training, both directions, packed sizes, dropout state
    flags: tuple[Any, ...] = (_LSTM, hidden, 0, 1, False, 0.0, True, False, [], None)
    parts, listed = (zeros, zeros), list(weights)
    out, _, _, reserve, packed = _aten._cudnn_rnn(x, listed, len(listed), None, *parts, *flags)  # noqa: SLF001
    wanted = [True, False, False, True]  # input, states, weights
    grad_x, _, _, grad_weights = _aten._cudnn_rnn_backward(  # noqa: SLF001
        x, listed, len(listed), packed, *parts, out, grad, None, None, *flags, reserve, wanted
    )
    return _own_memory(grad_x, grad_weights)


def _own_memory(grad_x: Tensor, grad_weights: Sequence[Tensor]) -> Gradients:
    """Copy: libraries return views of one buffer, and outputs of an operator must not share memory."""
    weight_ih, weight_hh, bias_ih, bias_hh = (gradient.clone() for gradient in grad_weights)
    return grad_x.clone(), weight_ih, weight_hh, bias_ih, bias_hh


class Direction(nn.Module):
    """The parameters of one direction, initialised as in ``nn.LSTM``: uniform within the inverse root of ``h``."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    def forward(self, x_tbd: Tensor) -> Tensor:
        """Return hidden states ``[t, b, h]``."""
        x_tbd = x_tbd.to(self.weight_ih.dtype).contiguous()
        out: Tensor = _lstm(x_tbd, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return out


class BidirectionalLSTM(nn.Module):
    """Both directions over each utterance's own frames, as a packed sequence would give; 0 at padded frames."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.ahead = Direction(inputs, hidden)
        self.back = Direction(inputs, hidden)

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return ``[b, t, 2 h]``; valid frames stand in front."""
        x_tbd = x_btd.transpose(0, 1)
        places = torch.arange(x_tbd.shape[0], device=x_btd.device)
        # Frame l - 1 - t for the valid ones: the backward direction starts at an utterance's own last frame.
        reversed_bt = (valid_bt.sum(dim=1, keepdim=True) - 1 - places).remainder(x_tbd.shape[0])
        reversed_tb = reversed_bt.transpose(0, 1)
        ahead_tbh = self.ahead(x_tbd)
        back_tbh = _taken(self.back(_taken(x_tbd, reversed_tb)), reversed_tb)
        joined: Tensor = torch.cat([ahead_tbh, back_tbh], dim=-1).transpose(0, 1) * valid_bt[..., None]
        return joined


def _taken(x_tbd: Tensor, frames_tb: Tensor) -> Tensor:
    return x_tbd.gather(0, frames_tb[..., None].expand(-1, -1, x_tbd.shape[-1]))
