"""What ``pip install`` gives: from an empty folder elsewhere everything works that works in a checkout.

Nothing is downloaded: the wheel is installed without its dependencies into an environment of its own, which finds them
among the packages of the one that runs these tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfbench.compose import compose_run
from perfbench.registry import code_files, repository_root, submission_names

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("installed_package")]
ROOT = repository_root()
SOURCES = ("src", "configs", "submissions", "slurm")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt")
DIGESTS = (
    "from perfbench.compose import compose_run\nfrom perfbench.registry import code_files\n"
    "run = compose_run(['workload=mnist', 'submission=adamw'])\n"
    "print(code_files(run.workload, run.submission).to_json(indent=None))"
)


def nobody_s() -> dict[str, str]:
    """Return an environment in which nothing leads to this checkout."""
    left_out = ("PYTHONPATH", "PERFBENCH_PATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in left_out}


@dataclass(frozen=True)
class Installed:
    """An installed copy, and a folder that has nothing."""

    bin: Path
    folder: Path
    path: str
    """Where the packages are that it finds: ``PYTHONPATH`` of nobody's."""

    def run(self, *command: str, expects: int = 0) -> str:
        """Run a command of the environment in the empty folder and return what it says."""
        environment = nobody_s() | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == expects, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr


def pip(*arguments: str | Path, python: Path | None = None) -> None:
    """Run the pip of these tests, which is told to look nowhere."""
    target = [] if python is None else ["--python", str(python)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *target, *map(str, arguments)]
    ended = subprocess.run(command, env=nobody_s(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def built(sources: Path, target: Path, what: str) -> Path:
    """Build a wheel or a source distribution with the setuptools that is here; return the file."""
    code = f"import setuptools.build_meta as backend; print(backend.build_{what}({str(target)!r}))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=sources, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return target / ended.stdout.split()[-1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that building leaves nothing in it."""
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    (folder / "COMMIT").write_text("0123abcd clean\n")
    return folder


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(sources, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip("install", "--quiet", "--no-index", "--no-deps", wheel, python=python)
    [site] = (environment / "lib").glob("python*/site-packages")
    # A path in a .pth file is searched, its own .pth files (an editable perfbench) are not read.
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "of_these_tests.pth").write_text("\n".join(packages) + "\n")
    return Installed(environment / "bin", tmp_path_factory.mktemp("empty"), str(site))


def names_in(listing: Sequence[str], below: str) -> set[str]:
    return {name.partition(below)[2].partition("/")[0] for name in listing if below in name}


def test_wheel_and_source_distribution_carry_all_that_is_used(sources: Path, wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = archive.namelist()
    with tarfile.open(built(sources, tmp_path, "sdist")) as tar:
        sent = tar.getnames()

    for listing, place in ((inside, "perfbench/_bundled/"), (sent, "/")):
        assert names_in(listing, f"{place}submissions/") - {"__init__.py", ""} == set(submission_names())
        assert len(names_in(listing, f"{place}configs/workload/")) >= 20
        assert "apptainer.sh" in names_in(listing, f"{place}slurm/sites/")
    assert {"perfbench/scoring/page/report.js", "perfbench/_bundled/COMMIT", "perfbench/py.typed"} <= set(inside)
    assert not [name for name in (*inside, *sent) if "__pycache__" in name or name.endswith(".pyc")]


def test_an_installed_copy_has_the_code_that_the_checkout_has(installed: Installed) -> None:
    run = compose_run(["workload=mnist", "submission=adamw"])

    there = json.loads(installed.run("python", "-c", DIGESTS))

    assert installed.path in installed.run("python", "-c", "import perfbench; print(perfbench.__file__)")
    assert there == json.loads(code_files(run.workload, run.submission).to_json())


def test_from_an_empty_folder_a_trial_runs_and_is_scored_and_reported(installed: Installed) -> None:
    assert "criteo_layernorm" in installed.run("perfbench", "show", "workloads")
    assert "perfbench 0." in installed.run("perfbench", "--version")
    written = installed.run("perfbench", "new-submission", "mine")
    assert "perfbench run workload=mnist submission=mine" in written

    ran = installed.run("perfbench", "run", "workload=mnist", "submission=mine")
    scored = installed.run("perfbench", "score", "--no-pictures")
    reported = installed.run("perfbench", "report", "--no-pictures")

    trial = installed.folder / "runs" / "mini" / "mine" / "study_0" / "mnist" / "trial_1"
    environment = json.loads((trial / "environment.json").read_text())
    assert "files" in ran
    assert environment["commit"] == "0123abcd"
    assert "1 trial judged" in scored
    assert "index.html" in reported
    assert "mine" in (installed.folder / "runs" / "report" / "index.html").read_text()


def test_what_needs_a_checkout_says_so(installed: Installed) -> None:
    told = installed.run("perfbench", "bench", "step", "mnist", "--seconds", "0.1", expects=2)

    assert "benchmarks are not part of the installed package" in told


def test_a_reader_needs_no_torch_and_is_told_what_a_trial_needs(installed: Installed) -> None:
    hidden = "import sys, importlib.util as util; sys.modules['torch'] = None; find = util.find_spec\n"
    hidden += "util.find_spec = lambda name, package=None: None if name == 'torch' else find(name, package)\n"
    hidden += "from perfbench.cli.main import main\nsys.exit(main(sys.argv[1:]))"

    told = installed.run("python", "-c", hidden, "run", "workload=mnist", "runs_root=other", expects=2)

    assert "a trial needs torch, which is not installed" in told
    assert "pip install 'perfbench[all]'" in told
    for verb in ("show", "score", "verify", "report"):
        code = 1 if verb == "verify" else 0
        installed.run("python", "-c", hidden, verb, *([] if verb == "show" else ["runs"]), expects=code)
