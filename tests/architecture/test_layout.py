"""What import-linter cannot hold: sizes, names, folders and their YAML, links, and no path of anybody's machine."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfbench.compose import compose_run, compose_submission, compose_workload
from perfbench.config_files import choices
from perfbench.registry import repository_root, submission_names, workload_families
from perfbench.spec.workload import ScaleName

ROOT = repository_root()
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_ARGUMENTS = 7
BANNED_NAMES = {"utils", "helpers", "common", "misc", "manager"}


def python_files(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(found) > 50, "the search found too little to mean anything"
    return found


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


ALL_CODE = ("src", "submissions", "tools", "benchmarks", "tests")


def test_no_file_is_too_long() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files(*ALL_CODE)
        if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }

    assert too_long == {}


def test_no_function_is_too_long_or_takes_too_much() -> None:
    faults = []
    for path in python_files("src", "submissions", "tools", "benchmarks"):
        for function in functions(ast.parse(path.read_text())):
            length = (function.end_lineno or 0) - function.lineno + 1
            arguments = function.args
            count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs)
            has_self = arguments.args[:1] and arguments.args[0].arg in ("self", "cls")
            if length > MAX_FUNCTION_LINES or count - bool(has_self) > MAX_ARGUMENTS:
                faults.append(f"{path.relative_to(ROOT)}: {function.name} ({length} lines, {count} arguments)")

    assert faults == []


def test_modules_are_named_after_what_they_know() -> None:
    assert [path for path in python_files(*ALL_CODE) if path.stem in BANNED_NAMES] == []


def test_public_functions_and_classes_of_the_package_have_docstrings() -> None:
    missing = []
    for path in python_files("src", "submissions"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} has no docstring"
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                missing.append(f"{path.relative_to(ROOT)}: {node.name}")

    assert missing == []


def test_every_family_has_its_yaml_and_every_workload_yaml_a_family() -> None:
    families = workload_families()
    specs = {name: compose_workload(name, scale="mini") for name in choices("workload")}

    assert len(families) >= 1
    assert len(specs) >= 4
    assert set(families) <= set(specs)
    assert {spec.family for spec in specs.values()} == set(families)
    assert all(spec.name == name for name, spec in specs.items())
    for family in families:
        assert (ROOT / "src" / "perfbench" / "workloads" / family / "README.md").exists()


def test_every_submission_has_its_yaml_and_readme_and_the_reverse() -> None:
    names = submission_names()

    assert len(names) >= 3
    assert names == choices("submission")
    for name in names:
        assert compose_submission(name).name == name
        assert (ROOT / "submissions" / name / "README.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("scale", list(ScaleName))
def test_every_workload_composes_at_every_scale(scale: ScaleName) -> None:
    for name in choices("workload"):
        assert compose_workload(name, scale=scale.value).scale is scale


@pytest.mark.slow
def test_every_choice_of_every_group_composes() -> None:
    folders = [path.name for path in (ROOT / "configs").iterdir() if path.is_dir()]
    groups = [name for name in folders if name not in ("benchmark", "suite")]
    composed = 0
    for group in groups:
        for choice in choices(group):
            overrides = [f"{group}={choice}"]
            if choice.startswith("self_tuning"):
                overrides += ["submission.search_space=null", "submission.rulesets=[self_tuning]"]
            compose_run(overrides)
            composed += 1

    assert composed >= 12


def test_names_of_workloads_and_submissions_stand_in_no_code_outside_their_folders() -> None:
    names = {*choices("workload"), *submission_names()}
    assert len(names) >= 7
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        if "workloads" in path.parts and path.parent.name in workload_families():
            continue
        tree = ast.parse(path.read_text())
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
            if not re.search(r"\s", node.value)  # a text for people, such as an example in `--help`
            if names & set(re.split(r"[./:=]", node.value))
        ]

    assert found == []


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    if not listed:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def test_no_tracked_file_names_a_folder_of_somebody_s_machine() -> None:
    pattern = re.compile(r"(^|[^a-zA-Z0-9_.])/(work|farm|root|home/[a-z]+)/")

    found = [
        f"{path.relative_to(ROOT)}: {line.strip()[:80]}"
        for path in tracked_files()
        if path.suffix not in (".png", ".svg")
        for line in path.read_text(errors="replace").splitlines()
        if pattern.search(line) and "re.compile" not in line
    ]

    assert found == []


def test_relative_links_in_documents_lead_somewhere() -> None:
    documents = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    documents += [path for folder in ("docs", "submissions", "src") for path in (ROOT / folder).rglob("*.md")]
    links = [
        (document, target)
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", document.read_text())
    ]

    assert len(documents) >= 12
    assert len(links) >= 15
    assert all(document.is_file() for document in documents)
    assert [f"{d.relative_to(ROOT)} -> {t}" for d, t in links if not (d.parent / t).exists()] == []


def test_every_file_that_the_architecture_page_names_exists() -> None:
    named = re.findall(
        r"`((?:src|configs|submissions|docs|tests)/[^`<> ]*)`", (ROOT / "docs/architecture.md").read_text()
    )

    assert len(named) >= 12
    assert [name for name in named if not (ROOT / name).exists()] == []
