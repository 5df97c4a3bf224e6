"""A person's own configurations and submissions come on top, from the working folder and from ``PERFBENCH_PATH``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from perfbench import places
from perfbench.compose import compose_run, compose_sweep
from perfbench.config_files import choices, config_folder
from perfbench.errors import ConfigError
from perfbench.registry import submission_folder, submission_names

THEIRS = places.home() / "submissions" / "adamw"
FACTS = (config_folder() / "submission" / "adamw.yaml").read_text()


def given_submission(root: Path, name: str, *, beside: bool = False) -> Path:
    """Write a submission into a folder, described in its own folder or, as in the repository, beside it."""
    folder = root / "submissions" / name
    folder.mkdir(parents=True)
    shutil.copy(THEIRS / "submission.py", folder)
    facts = root / "configs" / "submission" / f"{name}.yaml" if beside else folder / "submission.yaml"
    facts.parent.mkdir(parents=True, exist_ok=True)
    facts.write_text(FACTS.replace("name: adamw", f"name: {name}"))
    return folder


@pytest.mark.parametrize("beside", [False, True])
def test_a_submission_of_the_working_folder_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    folder = given_submission(tmp_path, "mine", beside=beside)
    monkeypatch.chdir(tmp_path)

    submission = compose_run(["submission=mine"]).submission
    [swept, _] = {run.submission.name: run.submission for run in compose_sweep(["submission=mine,baseline"])}.values()

    assert submission.folder == str(folder)
    assert submission_folder(submission) == folder
    assert swept == submission
    assert "mine" in choices("submission")
    assert "mine" in submission_names()
    assert compose_run(["submission=adamw"]).submission.folder is None


def test_own_files_come_before_ours_and_the_working_folder_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, timeout_s in (("one's own", 77), ("two", 88)):
        own = tmp_path / name / "configs" / "cluster"
        own.mkdir(parents=True)
        (own / "local.yaml").write_text(f"kind: local\nhang_timeout_s: {timeout_s}.0\n")
    (tmp_path / "two" / "configs" / "cluster" / "here.yaml").write_text("kind: debug\n")
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "one's own"))
    monkeypatch.chdir(tmp_path / "two")

    run = compose_run([])

    assert run.cluster.kind == "local"
    assert run.cluster.hang_timeout_s == 77
    assert compose_run(["cluster=here"]).cluster.kind == "debug"
    monkeypatch.setenv(places.VARIABLE, os.pathsep.join([str(tmp_path / "two"), str(tmp_path / "one's own")]))
    assert compose_run(["cluster=local", "cluster.inherit=[A]"]).cluster.hang_timeout_s == 88  # type: ignore[union-attr]


def test_an_own_submission_may_have_a_name_of_ours_and_one_given_by_its_path_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = given_submission(tmp_path, "adamw")
    with pytest.raises(ConfigError, match="this repository has a submission named 'adamw' already"):
        compose_run([f"submission={folder}"])

    monkeypatch.chdir(tmp_path)

    assert compose_run(["submission=adamw"]).submission.folder == str(folder)


def test_a_mistake_in_an_own_file_is_told_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_submission(tmp_path, "mine", beside=True)
    file = tmp_path / "configs" / "submission" / "mine.yaml"
    file.write_text("mistaken: 1\n" + file.read_text())
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=rf"submission.mistaken \({file}:1\)"):
        compose_run(["submission=mine"])


def test_what_is_no_folder_of_ours_is_left_alone_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "run.yaml").write_text("of: another project\n")
    monkeypatch.chdir(tmp_path)

    assert places.own_folders() == ()
    assert compose_run([]).seed == 0
    monkeypatch.setenv(places.VARIABLE, str(tmp_path))
    with pytest.raises(ConfigError, match=rf"PERFBENCH_PATH: {tmp_path} has neither configs/<group>/<name>.yaml nor"):
        compose_run([])


def test_the_checkout_itself_is_not_on_top_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(places.home())
    monkeypatch.setenv(places.VARIABLE, str(places.home()))

    assert places.own_folders() == ()


def test_modules_without_their_configurations_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src" / "perfbench").mkdir(parents=True)
    monkeypatch.setattr(places, "package_folder", lambda: tmp_path / "src" / "perfbench")

    with pytest.raises(ConfigError, match="this copy of perfbench has no configs/"):
        places.home()
