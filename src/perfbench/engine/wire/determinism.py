"""The same bits again on a GPU, for whoever asks for it: ``deterministic=true``. On a CPU they are the same anyway."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_FILLS = "fill_uninitialized_memory"
"""A property of a module, which type checkers do not know."""


def require_determinism() -> None:
    """Have this process compute the same bits whenever it computes the same, before it uses a device or compiles.

    Operators whose results depend on the order of atomic additions are replaced by slower ones, and one that has no
    other form is an error that names it. Products get workspaces that do not depend on what else runs (source: NVIDIA,
    cuBLAS library, "Results reproducibility"). Kernels are chosen by rule and never by a race.
    """
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(mode=True)
    setattr(torch.utils.deterministic, _FILLS, False)  # a guard for debugging, which costs a pass
    torch.backends.cudnn.deterministic = True
    _set_choice_of_kernels(is_by_rule=True)


def _set_choice_of_kernels(*, is_by_rule: bool) -> bool | None:
    """Set whether compiled kernels are chosen by rule; return what was set, ``None`` where torch has no such choice."""
    import torch._inductor.config as compiler  # some hundredths of a second, for those only who ask

    before: bool | None = getattr(compiler, "deterministic", None)
    if before is not None:
        compiler.deterministic = is_by_rule
    return before


@contextmanager
def determinism_as_before() -> Iterator[None]:
    """Put back afterwards what this process required: for tests and benchmarks."""
    filled, workspace = getattr(torch.utils.deterministic, _FILLS), os.environ.get(_WORKSPACE)
    is_deterministic, cudnn = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    chosen = _set_choice_of_kernels(is_by_rule=False)
    _set_choice_of_kernels(is_by_rule=bool(chosen))
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=is_deterministic)
        torch.backends.cudnn.deterministic = cudnn
        setattr(torch.utils.deterministic, _FILLS, filled)
        _set_choice_of_kernels(is_by_rule=bool(chosen))
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
