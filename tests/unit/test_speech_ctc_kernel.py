"""CTC's kernels for a GPU: interpreted against torch's own operator, built for the cards, and run where one is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from perfbench.data.speech.ctc import ctc_losses
from perfbench.registry import repository_root

CASES = """
import torch
generator = torch.Generator().manual_seed(0)
T, B, V, S = 19, 6, 70, 6
logits = 2 * torch.randn(T, B, V, generator=generator)
labels = torch.randint(1, V, (B, S), generator=generator)
labels[0, 1] = labels[0, 0]  # a repeated label needs a blank between
labels[1, :] = labels[1, 0]
frames, counts = torch.tensor([19, 15, 7, 1, 18, 1]), torch.tensor([6, 5, 2, 0, 6, 1])
"""
INTERPRETED = (
    CASES
    + """
from perfbench.api.contracts.conduct import counted_waits
from perfbench.data.speech import ctc_kernel
leaf = torch.log_softmax(logits, -1).requires_grad_()
expected = torch.nn.functional.ctc_loss(leaf, labels, frames, counts, reduction="none")
# The library's gradient takes it that the log-probabilities are a softmax's, as the kernels do.
expected.sum().backward()
with counted_waits() as waits:
    losses, gradient = ctc_kernel.losses_and_gradient(leaf.detach(), labels, frames, counts)
    alone = ctc_kernel.losses_only(leaf.detach(), labels, frames, counts)
assert torch.allclose(losses, expected, rtol=1e-6), (losses, expected)
assert torch.equal(losses, alone)
assert torch.allclose(gradient, leaf.grad, atol=2e-5), (gradient - leaf.grad).abs().max()
assert not gradient[15:, 1].any(), "frames that do not count have a gradient"
read = {name: count for name, count in waits.seen.items() if name in ("tolist", "_local_scalar_dense")}
assert not read, read
print("checked", len(losses))
"""
)
BUILT = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from perfbench.data.speech import ctc_kernel
kinds = ["*fp32", "*i32", "*i32", "*fp32", "*fp32", "*fp32"]
for architecture in (80, 90):
    for kernel in (ctc_kernel._walk, ctc_kernel._differentiate):
        *names, sizes = kernel.arg_names
        signature = dict(zip(names, kinds)) | {sizes: "constexpr"}
        source = ASTSource(fn=kernel, signature=signature, constexprs={(len(names),): (500, 32, 1024, 256, 1024)})
        assert compile(source, target=GPUTarget("cuda", architecture, 32)).asm["cubin"]
print("checked", 2)
"""


def run_apart(code: str, tmp_path: object, **environment: str) -> str:
    """Run code in an interpreter of its own: how triton treats kernels is decided when they are imported."""
    paths = [str(repository_root() / "src"), str(repository_root())]
    settings = {"PYTHONPATH": os.pathsep.join(paths), "TRITON_CACHE_DIR": str(tmp_path)} | environment
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | settings
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout.splitlines()[-1]


@pytest.mark.slow
def test_interpreted_kernels_agree_with_the_library_and_read_nothing_on_the_host(tmp_path: object) -> None:
    pytest.importorskip("triton")

    assert run_apart(INTERPRETED, tmp_path, TRITON_INTERPRET="1") == "checked 6"


@pytest.mark.slow
def test_kernels_can_be_built_for_the_cards_of_the_competition_and_newer_ones(tmp_path: object) -> None:
    pytest.importorskip("triton")

    assert run_apart(BUILT, tmp_path) == "checked 2"


def examples() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return logits of full size with labels that fit, counts all different."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 500, 1024, generator=generator)
    labels = torch.randint(1, 1024, (8, 256), generator=generator)
    labels[:, 10:20] = 7
    return logits, labels, torch.arange(500, 100, -50), torch.tensor([200, 100, 256, 0, 1, 150, 64, 30])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: CTC's kernels are interpreted, not run")
def test_on_a_gpu_losses_and_gradients_are_the_cpu_s_bit_for_bit_twice_and_without_waiting() -> None:
    found = []
    for device in ("cpu", "cuda", "cuda"):
        logits, labels, frames, counts = (tensor.to(device) for tensor in examples())
        logits.requires_grad_()
        ctc_losses(logits, labels, frames, counts)  # builds the kernels
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            losses = ctc_losses(logits, labels, frames, counts)
            losses.sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert logits.grad is not None
        found.append((losses.detach().cpu(), logits.grad.cpu()))
    (on_cpu, cpu_gradient), (first, first_gradient), (second, second_gradient) = found

    assert torch.allclose(first, on_cpu, rtol=1e-5)
    assert torch.allclose(first_gradient, cpu_gradient, atol=1e-4)
    assert torch.equal(first, second)
    assert torch.equal(first_gradient, second_gradient)
