"""A submission's YAML is data: it reaches no variable, no other file and no other folder, and ends in bounded work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfbench import compose, config_files
from perfbench.compose import compose_run, compose_sweep
from perfbench.config_files import config_folder
from perfbench.errors import ConfigError
from perfbench.registry import submission_names
from perfbench.spec.workload import WorkloadSpec
from perfbench.spec.yaml_files import read_closed_mapping, read_yaml_mapping
from tests.trial_folders import trial_spec

_GOOD = """\
name: theirs
version: 1
description: a stranger's
rulesets: [external]
search_space: {kind: points, points: [{learning_rate: 1e-3}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "submission.py").write_text("")
    (tmp_path / "submission.yaml").write_text(_GOOD)
    return tmp_path


def test_a_stranger_s_submission_is_composed(folder: Path) -> None:
    submission = compose_run([f"submission={folder}"]).submission

    assert submission.name == "theirs"
    assert submission.folder == str(folder)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("description: ${oc.env:WANDB_API_KEY}", "description"),
        ("description: a ${oc.env:WANDB_API_KEY} b", "description"),
        ("options: {a: {b: ['${oc.decode:x}']}}", r"options.a.b\[0\]"),
        ("options: {'${oc.env:HOME}': 1}", "options"),
        ("description: ${runs_root}", "description"),
    ],
)
def test_nothing_is_looked_up_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str, place: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-that-nobody-may-see")
    lines = [one for one in _GOOD.splitlines() if not one.startswith(line.partition(":")[0])]
    (folder / "submission.yaml").write_text("\n".join([*lines, line, ""]))

    for composed in (compose_run, compose_sweep):
        with pytest.raises(ConfigError, match=f"{place} refers to something else") as problem:
            composed([f"submission={folder}"])
        assert "a-secret" not in str(problem.value)


def test_nor_for_a_file_of_this_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "configs" / "submission"
    own.mkdir(parents=True)
    monkeypatch.setattr(config_files, "config_folder", lambda: own.parent)
    for text, message in (
        (_GOOD + "options: {a: '${oc.env:HOME}'}\n", "refers to something else"),
        (_GOOD + "defaults: [_self_]\n", "'defaults' is not a submission's to say"),
        (_GOOD + "folder: /tmp\n", "'folder' is not a submission's to say"),
        ("# @package _global_\n" + _GOOD, "'@package' would place it somewhere else"),
    ):
        (own / "theirs.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            compose._check_own_submission("theirs")


def test_files_of_this_repository_are_closed() -> None:
    files = sorted((config_folder() / "submission").glob("*.yaml"))

    assert len(files) >= len(submission_names()) > 20
    for file in files:
        assert read_closed_mapping(file)["name"] == file.stem


def _bomb(levels: int = 9) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * 9) + "]" for level in range(1, levels + 1)]
    return _GOOD + "options:\n" + "\n".join(f"  {line}" for line in lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_bomb(), "unfolds to more than 20,000 values"),
        (_GOOD + "options: &a {b: *a}\n", "an alias stands inside of what it names|not YAML"),
        (_GOOD + "options: " + "[" * 300 + "]" * 300 + "\n", "nested deeper than 50 levels"),
        (_GOOD + "options: " + "[" * 100_000 + "\n", "not YAML|nested deeper"),
        (_GOOD + "x: " + "y" * (1 << 20) + "\n", "larger than 1 MiB"),
        (_GOOD + "when: 2026-99-99\n", "not YAML"),
        (_GOOD + "x: !!python/object/apply:os.system [ls]\n", "not YAML"),
        ("1: one\n", "not a name"),
        ("[]\n", "holds no mapping"),
    ],
)
def test_a_file_that_unfolds_without_an_end_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "submission.yaml").write_text(text)

    with pytest.raises(ConfigError, match=message):
        compose_run([f"submission={folder}"])


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))

    with pytest.raises(ConfigError, match="not a file"):
        read_yaml_mapping(tmp_path)
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_yaml_mapping(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "../../etc"),
        ("dataset", "/etc"),
        ("dataset", "x" * 101),
        ("family", "../mnist"),
        ("name", "a/b"),
        ("description", "x" * 2001),
    ],
)
def test_names_that_become_folders_are_names(field: str, value: str) -> None:
    plain = trial_spec().workload.model_dump(mode="json") | {field: value}

    with pytest.raises(ConfigError, match=field):
        WorkloadSpec.from_json(json.dumps(plain))


def test_a_data_set_on_the_command_line_is_a_name() -> None:
    with pytest.raises(ConfigError, match="has no data set '../../etc'"):
        compose_run(["workload=mnist", "data=../../etc"])
    with pytest.raises(ConfigError, match=r"workload.dataset: .*pattern"):
        compose_run(["workload=mnist", "workload.dataset=../../etc"])
