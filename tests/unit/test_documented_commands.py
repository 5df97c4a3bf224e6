"""Commands and code in documents: every command can be parsed, every piece of code read."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from perfbench.cli.main import VERBS, parser_of
from perfbench.registry import repository_root

ROOT = repository_root()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS += sorted((ROOT / "src").rglob("README.md")) + sorted((ROOT / "submissions").rglob("README.md"))
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^(?:\$ |srun [-=\w]+ )?(?:\.venv/bin/)?perfbench ([a-z-]+)(.*)$")


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    for path in DOCUMENTS:
        for found in _BLOCK.finditer(path.read_text(encoding="utf-8")):
            if found[1] == language:
                yield path, found[2]


def commands() -> list[tuple[str, str, str]]:
    """Return place, verb and arguments of every command of ours in a code block."""
    found = []
    for path, text in blocks(""):
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            parts = [part.strip() for part in re.split(r"&&|;|\|", line.split("  #")[0])]
            matches = [match for part in parts if (match := _COMMAND.match(part))]
            found += [(str(path.relative_to(ROOT)), match[1], match[2]) for match in matches]
    return found


def test_every_command_in_a_document_can_be_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    faults = []
    for place, verb, arguments in commands():
        if verb not in VERBS:
            faults.append(f"{place}: no verb {verb}")
            continue
        try:
            parser_of(verb).parse_intermixed_args(shlex.split(arguments.replace("...", ""), comments=True))
        except SystemExit:
            faults.append(f"{place}: perfbench {verb}{arguments}: {capsys.readouterr().err.splitlines()[-1]}")

    assert len(commands()) >= 30
    assert faults == []


def test_every_piece_of_python_and_yaml_can_be_read() -> None:
    python, yamls = list(blocks("python")), list(blocks("yaml"))

    assert len(python) >= 8
    assert len(yamls) >= 2
    for path, text in python:
        ast.parse(text, filename=str(path))
    for _, text in yamls:
        assert yaml.safe_load(text) is not None


def test_the_tutorial_s_optimizer_optimizes() -> None:
    text, _ = [text for path, text in blocks("python") if path.name == "first-optimizer.md"]
    names: dict[str, type[torch.optim.Optimizer]] = {}
    exec(compile(text, "first-optimizer.md", "exec"), names)
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = names["SignDescent"]([weight], lr=0.05)  # type: ignore[call-arg]

    for _ in range(60):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()

    assert float(weight.detach().abs().max()) < 0.3
