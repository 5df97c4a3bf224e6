"""What two submissions share stands in ``perfbench.api``: no run of equal lines in the folders of two of them."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path

from perfbench.registry import repository_root, submission_names

LONGEST_COPY = 6
"""Lines."""


def code_lines(path: Path) -> list[str]:
    """Return the lines of a module as Python prints them, without what `is_left_out`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [child for child in node.body if not is_left_out(child)] or [ast.Pass()]
    return [line.strip() for line in ast.unparse(tree).splitlines() if line.strip()]


def is_left_out(node: ast.stmt) -> bool:
    """Tell whether a statement says nothing of what is done: texts, imports, and types of overloads."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_overload = isinstance(node, ast.FunctionDef) and "overload" in [ast.unparse(d) for d in node.decorator_list]
    return is_text or is_overload or isinstance(node, ast.Import | ast.ImportFrom)


def runs(lines: list[str], length: int) -> dict[tuple[str, ...], int]:
    return {tuple(lines[start : start + length]): start for start in range(len(lines) - length + 1)}


def copies(one: list[str], other: list[str]) -> list[str]:
    """Return the first lines of what stands in both and is longer than allowed."""
    shared = runs(one, LONGEST_COPY + 1).keys() & runs(other, LONGEST_COPY + 1).keys()
    return sorted(lines[0] for lines in shared)


def test_a_copy_is_found_and_a_short_one_is_not() -> None:
    lines = [f"line {number}" for number in range(20)]

    assert copies(lines, ["other", *lines[3:10], "other"]) == ["line 3"]
    assert copies(lines, ["other", *lines[3:9], "other"]) == []


def test_submissions_do_not_copy_one_another() -> None:
    folders = {name: repository_root() / "submissions" / name for name in submission_names()}
    found = {name: [code_lines(path) for path in folder.glob("*.py")] for name, folder in folders.items()}
    assert len(found) > 30

    copied = [
        f"{one} and {other}: {line}"
        for one, other in combinations(found, 2)
        for first in found[one]
        for second in found[other]
        for line in copies(first, second)
    ]

    assert copied == []
