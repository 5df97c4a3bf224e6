"""What a program can switch that changes how fast or how exactly it computes: read at the start and at the end."""

from __future__ import annotations

import torch


def switches() -> dict[str, str]:
    """Return every switch by its name in torch, as text."""
    backends = torch.backends
    values = {
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn.allow_tf32": backends.cudnn.allow_tf32,
        "cudnn.benchmark": backends.cudnn.benchmark,
        "cudnn.deterministic": backends.cudnn.deterministic,
        "cudnn.enabled": backends.cudnn.enabled,
        "default_dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "flush_denormal": torch.tensor([1e-310], dtype=torch.float64).mul(1.0).item() == 0.0,
    }
    return {name: str(value) for name, value in values.items()}
