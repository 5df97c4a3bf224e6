"""Precision as a rule: set once before anything is compiled, read back for the record, and again when a trial ends.

A submission that sets another one gains time by other means than its algorithm: what was set is compared at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from perfbench.spec.environment import PrecisionFacts
from perfbench.spec.ruleset import Precision

_MATMUL = {Precision.FP32: "highest", Precision.TF32: "high", Precision.BF16: "high"}


def set_precision(precision: Precision) -> None:
    """Set in what numbers this process computes on a GPU, for all that runs outside of :func:`autocast_of` too.

    Convolutions are chosen by the library's rule of thumb, not by a race (``cudnn.benchmark``): every rank and every
    attempt then runs the same ones.
    """
    torch.set_float32_matmul_precision(_MATMUL[precision])
    torch.backends.cudnn.allow_tf32 = precision is not Precision.FP32
    torch.backends.cudnn.benchmark = False


@contextmanager
def precision_as_before() -> Iterator[None]:
    """Put back afterwards what this process computed in: for whoever only tries out precisions."""
    cudnn = torch.backends.cudnn
    matmul, allow_tf32, benchmark = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32, cudnn.benchmark = allow_tf32, benchmark


def autocast_of(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which model and loss run, in training and evaluation; the backward runs outside of it."""
    if precision is Precision.BF16:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def precision_now(precision: Precision, device: torch.device) -> PrecisionFacts:
    """Return what torch says now.

    Args:
        precision: The rule: autocast is looked at inside its context.
        device: On which models run.
    """
    with autocast_of(precision, device):
        is_cast = torch.is_autocast_enabled(device.type)
        dtype = str(torch.get_autocast_dtype(device.type)).removeprefix("torch.") if is_cast else None
    return PrecisionFacts(
        matmul=torch.get_float32_matmul_precision(),
        cudnn_tf32=bool(torch.backends.cudnn.allow_tf32),
        cudnn_benchmark=bool(torch.backends.cudnn.benchmark),
        autocast=dtype,
    )


def expected_precision(precision: Precision) -> PrecisionFacts:
    """Return what :func:`precision_now` says as long as nobody has set anything else."""
    return PrecisionFacts(
        matmul=_MATMUL[precision],
        cudnn_tf32=precision is not Precision.FP32,
        cudnn_benchmark=False,
        autocast="bfloat16" if precision is Precision.BF16 else None,
    )
