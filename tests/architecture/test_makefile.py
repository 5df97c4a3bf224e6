"""The Makefile is the front door: what documents say exists, typing errors are refused, CI runs what a person runs."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from perfbench.registry import repository_root

ROOT = repository_root()
MAKEFILE = (ROOT / "Makefile").read_text()
KNOWN = set(next(re.finditer(r"^VARIABLES := (.*)$", MAKEFILE, re.MULTILINE))[1].split())
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Say what make would do; what was given to a ``make`` that runs these tests is not meant for this one."""
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in KNOWN and "MAKE" not in name}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_commands_in_documents_are_targets() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    used = {
        target
        for document in documents
        for code in re.findall(r"```.*?```|`[^`]+`", document.read_text(), re.DOTALL)
        for target in re.findall(r"(?:^|`)\s*make ([a-z-]+)", code, re.MULTILINE)
    }

    assert {"run", "test", "score", "check"} <= used
    assert used <= TARGETS


def test_variables_in_documents_are_known() -> None:
    text = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    used = {name for line in re.findall(r"^make .*$", text, re.MULTILINE) for name in re.findall(r"\b([A-Z]+)=", line)}

    assert {"WORKLOAD", "SUB", "NPROC"} <= used
    assert used <= KNOWN


def test_every_target_says_what_it_does() -> None:
    described = set(re.findall(r"^([a-z-]+):.*## \S", MAKEFILE, re.MULTILINE))

    assert len(described) >= 20
    assert TARGETS - described == {"environment"}


def test_ci_runs_the_parts_of_check() -> None:
    parts = next(re.finditer(r"^check: ([a-z -]+)", MAKEFILE, re.MULTILINE))[1].split()

    assert parts == ["lint", "types", "arch", "test"]
    assert "for target in $targets" in (ROOT / ".ci/run").read_text()


def test_only_what_was_given_is_passed_on() -> None:
    plain = make("run").stdout.splitlines()[-1].split()
    given = make("run", "SUB=a b", "NPROC=2", "ARGS=trial=2 seed=1").stdout.splitlines()[-1]

    assert plain == [".venv/bin/perfbench", "run", "'workload=criteo'", "'submission=baseline'"]
    assert "'submission=a b'" in given
    assert "'cluster.nproc_per_node=2'" in given
    assert given.endswith(" trial=2 seed=1")


@pytest.mark.parametrize("typo", ["WORKLAOD=criteo", "sub=adamw"])
def test_a_mistyped_variable_is_refused(typo: str) -> None:
    refused = make("run", typo)

    assert refused.returncode == 2
    assert f"unknown variable {typo.partition('=')[0]}; there are WORKLOAD SUB SCALE" in refused.stderr
