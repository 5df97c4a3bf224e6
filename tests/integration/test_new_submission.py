"""A written submission keeps the contract at once, inside the repository's rules or outside of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.compose import compose_run, compose_sweep
from perfbench.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("outside")
    assert main(["new-submission", "first_idea", "--folder", str(parent)]) == 0
    return parent / "first_idea"


def test_a_new_submission_keeps_the_contract(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "submission", str(folder)]) == 0

    assert "checks passed" in capsys.readouterr().out


def test_a_path_is_a_choice_of_submission(folder: Path) -> None:
    request = compose_run([f"submission={folder}", "ruleset=external"])

    assert request.submission.name == "first_idea"
    assert request.submission.folder == str(folder)


def test_a_sweep_takes_paths_beside_names(folder: Path) -> None:
    requests = compose_sweep([f"submission={folder},adamw", "workload=criteo,mnist"])

    assert [(r.submission.name, r.workload.name) for r in requests] == [
        ("first_idea", "criteo"),
        ("first_idea", "mnist"),
        ("adamw", "criteo"),
        ("adamw", "mnist"),
    ]


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    assert main(["new-submission", "first_idea", "--folder", str(folder.parent)]) == 2

    assert "exists already, and nothing is overwritten" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("Mine", "'Mine' cannot be a submission's name"), ("adamw", "there is a submission named 'adamw' already")],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-submission", name]) == 2

    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "a submission's folder holds submission.py and submission.yaml"),
        ("name: adamw\n", "this repository has a submission named 'adamw' already"),
        ("- a list\n", "holds no mapping"),
        ("name: [unclosed\n", "it must be YAML"),
        ("name: fine\nversion: 1\n", "description"),
    ],
)
def test_a_folder_that_is_no_submission_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "submission.yaml").write_text(text)

    with pytest.raises(ConfigError) as refused:
        compose_run([f"submission={tmp_path}"])

    assert message in str(refused.value)
