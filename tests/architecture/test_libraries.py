"""The ten packages that the project is built on: each is imported by the product, and installed."""

from __future__ import annotations

import ast
from importlib.util import find_spec

import pytest

from perfbench.registry import repository_root

PACKAGES = (
    "torch", "torchvision", "torchaudio", "torch_geometric", "torchrec", "sentencepiece", "fastmri", "hydra",
    "submitit", "wandb",
)  # fmt: skip


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """Packages that any module of the product imports."""
    found = set()
    for path in (repository_root() / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_the_product_uses_what_it_is_built_on(package: str, imported: set[str]) -> None:
    assert package in imported
    assert find_spec(package) is not None
