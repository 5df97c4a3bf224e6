"""What people see first is short, and true: badges, versions, templates, workflows, containers."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import yaml

import perfbench
from perfbench.registry import repository_root

ROOT = repository_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MOST_LINES = 45
"""About a screen."""
MOST_PICTURE_BYTES = 60_000


def test_the_front_page_is_one_screen_with_a_board() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\((docs/[^)]+)\)", README)

    assert len(README.splitlines()) <= MOST_LINES
    assert pictures == ["docs/images/board.svg"]
    assert (ROOT / pictures[0]).stat().st_size < MOST_PICTURE_BYTES
    assert "shampoo" in (ROOT / pictures[0]).read_text(encoding="utf-8")


def test_badges_say_what_the_project_says() -> None:
    badges = dict(re.findall(r"img.shields.io/badge/([a-z]+)-(.+?)-[0-9a-f]{6}\)", README))

    [torch] = [wish for wish in PROJECT["optional-dependencies"]["core"] if wish.startswith("torch")]
    low, high = re.findall(r"\d+\.(\d+)", torch)
    assert PROJECT["requires-python"] == ">=" + badges.pop("python").removesuffix("%20or%20newer")
    assert badges.pop("torch") == f"2.{low}%20to%202.{int(high) - 1}"
    assert badges.pop("license").replace("--", "-") == PROJECT["license"]
    assert badges == {}


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert citation["version"] == perfbench.__version__
    assert citation["license"] == PROJECT["license"]


def test_workflows_and_templates_can_be_read_and_run_what_a_person_runs() -> None:
    read = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / ".github").rglob("*.yml")}

    assert set(read) == {"bug.yml", "results.yml", "config.yml", "ci.yml", "release.yml"}
    steps = [step.get("run", "") for step in read["ci.yml"]["jobs"]["check"]["steps"]]
    assert any(".ci/run" in step for step in steps)
    release = json.dumps(read["release.yml"])
    assert "src/perfbench/version.py" in release
    assert "perfbench run workload=mnist" in release.replace('bin/perfbench\\"', "bin/perfbench").replace("\\", "")
    for name in ("bug.yml", "results.yml"):
        assert all(part["type"] in ("textarea", "input") for part in read[name]["body"])


def test_containers_are_set_up_as_a_checkout_is() -> None:
    for name in ("Dockerfile", "perfbench.def"):
        text = (ROOT / "container" / name).read_text()
        assert "tools/setup_environment.py --profile dev" in text
        assert "g++ git make" in text
    assert json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["postCreateCommand"] == "make setup"
    copied = re.search(r"^COPY (.+) \./$", (ROOT / "container" / "Dockerfile").read_text(), re.MULTILINE)
    assert copied is not None
    assert all((ROOT / file).is_file() for file in copied[1].split())
