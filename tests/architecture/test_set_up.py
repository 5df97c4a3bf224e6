"""Set-up: what it does again and what it does not, and what it says on machines that lack something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet

from perfbench.registry import repository_root

ROOT = repository_root()
DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "tools")
    return __import__("setup_environment")


@pytest.fixture
def checkout(tmp_path: Path, tool: ModuleType) -> Path:
    """A folder with all that names an environment, and an empty one."""
    for name in tool.STAMP_INPUTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(sys.executable)
    (tmp_path / ".venv/bin/perfbench").touch()
    return tmp_path


@pytest.fixture
def steps_run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Nothing is installed: the commands of each step are kept instead, and any disk has room for that."""
    monkeypatch.setattr(tool.shutil, "disk_usage", lambda _path: DiskUsage(100e9, 0, 100e9))
    commands: list[list[str]] = []
    monkeypatch.setattr(tool, "run_step", lambda _what, command: commands.append(command))
    return commands


def test_what_is_pinned_runs_on_the_python_that_debian_12_has() -> None:
    """``requires-python`` says 3.11: a pin that wants a later patch cannot be installed there."""
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wants = {one.name: SpecifierSet(one.metadata["Requires-Python"] or "") for one in distributions()}
    checked = {name: wanted for name, wanted in wants.items() if name.lower() in pinned}

    assert len(checked) > 100
    assert [f"{name} {wanted}" for name, wanted in checked.items() if "3.11.2" not in wanted] == []


def test_a_second_call_does_nothing(tool: ModuleType, checkout: Path, steps_run: list[list[str]]) -> None:
    tool.set_up(checkout, "dev")
    num_steps = len(steps_run)

    tool.set_up(checkout, "dev")
    tool.set_up(checkout, "run")

    assert num_steps == 3
    assert len(steps_run) == num_steps


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_wishes_are_installed(tool: ModuleType, checkout: Path, steps_run: list[list[str]], name: str) -> None:
    tool.set_up(checkout, "run")
    with (checkout / name).open("a") as file:
        file.write("\n# changed\n")

    tool.set_up(checkout, "run")

    assert len(steps_run) == 6


def test_an_environment_is_widened_and_never_narrowed(
    tool: ModuleType, checkout: Path, steps_run: list[list[str]]
) -> None:
    tool.set_up(checkout, "run")
    tool.set_up(checkout, "dev")
    (checkout / "constraints.txt").write_text("")
    tool.set_up(checkout, "run")

    projects = [command[-1].removeprefix(str(checkout)) for command in steps_run if "--editable" in command]
    assert projects == ["[engine]", "[engine,dev,docs]", "[engine,dev,docs]"]


def test_an_interrupted_set_up_is_completed_by_the_next(
    tool: ModuleType, checkout: Path, steps_run: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_what: str, command: list[str]) -> None:
        if "--editable" in command:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tool, "run_step", interrupted)
        tool.set_up(checkout, "run")
    assert not tool.is_ready(checkout, "run")
    tool.set_up(checkout, "run")

    assert len(steps_run) == 3
    assert tool.is_ready(checkout, "run")


@pytest.mark.parametrize(
    ("settings", "is_replaced"),
    [
        ("version = 3.9.2\ncommand = /usr/bin/python3 -m venv {venv}", True),
        ("version = {here}\ncommand = /usr/bin/python3 -m venv /somewhere/else/.venv", True),
        ("version = {here}\ncommand = /usr/bin/python3 -m venv {venv}", False),
    ],
)
def test_an_environment_of_another_python_or_place_is_made_anew(
    tool: ModuleType, checkout: Path, steps_run: list[list[str]], settings: str, is_replaced: bool
) -> None:
    here = ".".join(map(str, sys.version_info[:3]))
    (checkout / ".venv/pyvenv.cfg").write_text(settings.format(here=here, venv=checkout / ".venv"))

    tool.set_up(checkout, "run")

    assert ("--clear" in steps_run[0]) is is_replaced


def test_an_environment_whose_command_is_gone_is_completed(
    tool: ModuleType, checkout: Path, steps_run: list[list[str]]
) -> None:
    tool.set_up(checkout, "run")
    (checkout / ".venv/bin/perfbench").unlink()

    tool.set_up(checkout, "run")

    assert len(steps_run) == 6
    assert "--clear" not in steps_run[3]


def test_an_environment_whose_python_is_gone_is_made_anew(
    tool: ModuleType, checkout: Path, steps_run: list[list[str]]
) -> None:
    tool.set_up(checkout, "run")
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to("/nowhere/python3")

    tool.set_up(checkout, "run")

    assert len(steps_run) == 6
    assert "--clear" in steps_run[3]


def test_a_missing_compiler_is_named(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)

    with pytest.raises(tool.SetupError, match=r"no C\+\+ compiler on PATH .*apt-get install g\+\+; Red Hat"):
        tool.check_compiler()


def test_missing_headers_are_named(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tool.sysconfig, "get_path", lambda _name: str(tmp_path))

    with pytest.raises(tool.SetupError, match=rf"no {tmp_path}/Python.h; .*apt-get install python3-dev"):
        tool.check_python()


def test_a_python_without_venv_is_named(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "find_spec", lambda _name: None)

    with pytest.raises(tool.SetupError, match="cannot create virtual environments; .*apt-get install python3-venv"):
        tool.check_python()


def test_a_full_disk_is_named(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tool.shutil, "disk_usage", lambda _path: DiskUsage(100e9, 98e9, 2e9))

    with pytest.raises(tool.SetupError, match=rf"2\.0 GB free in {tmp_path}, about 10 GB needed; free some space"):
        tool.check_disk(tmp_path)


def test_a_failed_step_shows_its_last_words_and_the_way_on(tool: ModuleType) -> None:
    failing = [sys.executable, "-c", "print('no such package'); raise SystemExit(1)"]

    with pytest.raises(tool.SetupError, match=r"step failed: \[1/1\] try\nno such package\n\nthe same command"):
        tool.run_step("[1/1] try", failing)


def find_python(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / "tools/find_python.sh")],
        env={"PATH": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_named_and_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.9.2;; *) exit 1;; esac\n')
    old.chmod(0o755)

    refused = find_python(tmp_path)

    assert refused.returncode == 2
    assert "Python 3.11 or newer is needed; found: python3 is 3.9.2 (looked for python3.11 " in refused.stderr
    assert "apt-get install python3 python3-venv python3-dev" in refused.stderr


def test_no_python_is_named(tmp_path: Path) -> None:
    assert "found: none (looked for" in find_python(tmp_path).stderr


def test_a_newer_python_beside_an_old_one_is_found(tmp_path: Path) -> None:
    (tmp_path / "python3.12").symlink_to(os.path.realpath(sys.executable))

    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3.12")
    assert find_python(tmp_path, PYTHON=sys.executable).stdout.strip() == sys.executable


def test_tests_of_a_group_run_in_one_process(tmp_path: Path) -> None:
    """What shares a cluster or expensive results relies on it, and versions of the runner have lost it in silence."""
    (tmp_path / "test_grouped.py").write_text(
        "import os, time\n"
        "import pytest\n"
        "@pytest.mark.parametrize('number', range(6))\n"
        "@pytest.mark.xdist_group('together')\n"
        "def test_it(number):\n"
        "    time.sleep(0.05)\n"
        "    with open('processes', 'a') as file:\n"
        "        file.write(f'{os.getpid()}\\n')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-c", os.devnull, "."]

    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    assert ended.returncode == 0, ended.stdout
    processes = (tmp_path / "processes").read_text().split()
    assert len(processes) == 6
    assert len(set(processes)) == 1


def test_uv_does_the_same_where_it_is_installed(
    tool: ModuleType, checkout: Path, steps_run: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool.shutil, "which", lambda name: "/bin/uv" if name == "uv" else "/bin/g++")
    monkeypatch.setattr(tool, "indexes_of_pip", lambda: ["--find-links", "/wheels"])

    tool.set_up(checkout, "dev")

    create, project, lean = steps_run
    python = str(checkout / ".venv/bin/python")
    assert create[:3] == ["/bin/uv", "venv", "--quiet"]
    assert {"--seed", "--allow-existing", sys.executable} <= set(create)
    for command in (project, lean):
        assert command[:3] == ["/bin/uv", "pip", "install"]
        assert command[command.index("--python") + 1] == python
        assert command[command.index("--find-links") + 1] == "/wheels"
    assert str(checkout / "constraints.txt") in project
    assert lean[lean.index("--no-deps") + 1 :] == [*tool.DATA_PACKAGES, *tool.LEAN_LIBRARIES]


def test_uv_looks_where_pip_looks(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "global.index-url='https://a/simple'\nglobal.extra-index-url='https://b/simple https://c/simple'\n"
    told += ":env:.find-links='/wheels'\nglobal.cert='/etc/certificates'\n"

    def config(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-m", "pip", "config", "list"]
        return subprocess.CompletedProcess(command, 0, stdout=told)

    monkeypatch.setattr(tool.subprocess, "run", config)

    assert tool.indexes_of_pip() == [
        "--default-index", "https://a/simple", "--index", "https://b/simple", "--index", "https://c/simple",
        "--find-links", "/wheels", "--index-strategy", "unsafe-best-match",
    ]  # fmt: skip
