"""Connectionist temporal classification as one operator that a full graph can hold: docs/adr/0008.

``torch.nn.functional.ctc_loss`` cannot be traced (its intermediate result has a size that depends on the data). The
operator returns the losses and, where gradients are wanted, the gradient with respect to the log-probabilities, both
of static shape; its backward multiplies. On a CPU it is torch's own inside; on a GPU, where that waits eight times for
the device, kernels of our own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perfbench.data.speech.params import BLANK_ID

_aten = torch.ops.aten


@torch.library.custom_op("perfbench::ctc", mutates_args=())
def _ctc(
    log_probabilities: Tensor,
    labels: Tensor,
    num_frames: Tensor,
    num_labels: Tensor,
    with_gradient: bool,  # noqa: FBT001 - an operator has no keyword arguments of its own
) -> tuple[Tensor, Tensor]:
    """Return losses ``[b]`` and gradients like ``log_probabilities [t, b, v]`` (empty if not wanted)."""
    if log_probabilities.is_cuda:
        from perfbench.data.speech import ctc_kernel  # imports triton, which is of no use on a CPU

        counted = (log_probabilities, labels, num_frames, num_labels)
        if with_gradient:
            return ctc_kernel.losses_and_gradient(*counted)
        return ctc_kernel.losses_only(*counted), log_probabilities.new_empty(0)
    frames, counts = num_frames.tolist(), num_labels.tolist()
    losses, alpha = _aten._ctc_loss(log_probabilities, labels, frames, counts, BLANK_ID)  # noqa: SLF001
    if not with_gradient:
        return losses, log_probabilities.new_empty(0)
    ones = torch.ones_like(losses)
    gradient = _aten._ctc_loss_backward(  # noqa: SLF001
        ones, log_probabilities, labels, frames, counts, losses, alpha, BLANK_ID
    )
    return losses, gradient


@_ctc.register_fake
def _(
    log_probabilities: Tensor,
    labels: Tensor,
    num_frames: Tensor,  # noqa: ARG001
    num_labels: Tensor,  # noqa: ARG001
    with_gradient: bool,  # noqa: FBT001 - an operator has no keyword arguments of its own
) -> tuple[Tensor, Tensor]:
    losses = log_probabilities.new_empty(labels.shape[0])
    return losses, torch.empty_like(log_probabilities) if with_gradient else log_probabilities.new_empty(0)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ANN401, ARG001
    ctx.save_for_backward(output[1])


def _multiply(ctx: Any, grad_losses: Tensor, grad_gradient: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401, ARG001
    (gradient,) = ctx.saved_tensors
    return gradient * grad_losses[None, :, None], None, None, None, None


_ctc.register_autograd(_multiply, setup_context=_keep_gradient)


def ctc_losses(logits_btv: Tensor, labels_bs: Tensor, num_frames: Tensor, num_labels: Tensor) -> Tensor:
    """Return the negative log-likelihood of each example in nats, ``[b]``; infinite if the labels do not fit.

    Args:
        logits_btv: Class 0 is the blank.
        labels_bs: Integers; only the first ``num_labels`` of each row count.
        num_frames: Valid frames ``[b]``, at least 1.
        num_labels: ``[b]``.
    """
    log_probabilities = torch.log_softmax(logits_btv.float(), dim=-1).transpose(0, 1)
    losses: Tensor = _ctc(
        log_probabilities.contiguous(), labels_bs.long(), num_frames.long(), num_labels.long(), torch.is_grad_enabled()
    )[0]
    return losses
