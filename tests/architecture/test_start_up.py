"""What a person waits for before anything happens: imports stay light, and ``--help`` is immediate."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from perfbench.registry import repository_root, workload_families

HEAVY = ("torch", "hydra", "omegaconf", "pydantic", "numpy", "polars", "rich", "matplotlib")
HELP_LIMIT_S = 0.5


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and return which of the heavy packages it loaded."""
    report = f"{code}\nimport sys; print('loaded', *sorted(set(sys.modules) & set({HEAVY})))"
    output = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True).stdout
    return set(output.splitlines()[-1].split()[1:])


def test_the_probe_sees_what_is_loaded() -> None:
    assert loaded_after("import pydantic") >= {"pydantic"}


@pytest.mark.parametrize("module", ["perfbench", "perfbench.errors", "perfbench.cli.main"])
def test_importing_the_front_door_loads_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == set()


@pytest.mark.parametrize("module", ["perfbench.spec.run", "perfbench.results.reader", "perfbench.tuning.sampler"])
def test_facts_and_records_load_no_torch(module: str) -> None:
    assert "torch" not in loaded_after(f"import {module}")


@pytest.mark.slow
@pytest.mark.parametrize("family", workload_families())
def test_a_trial_needs_no_polars(family: str) -> None:
    """Only preparing data and reading published logs do: a wheel of 50 MB that a cluster's image may lack."""
    code = (
        "import sys\nsys.modules['polars'] = None\n"
        "from pathlib import Path\nfrom perfbench.compose import compose_workload\n"
        "from perfbench.registry import build_workload, preparer_of\nimport perfbench.launch.worker\n"
        f"preparer_of({family!r})\n"
        f"build_workload(compose_workload({family!r}, scale='mini'), Path('/nonexistent'))\n"
        "del sys.modules['polars']"
    )

    assert "torch" in loaded_after(code)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import contextlib\nfrom perfbench.cli.main import main\nwith contextlib.suppress(SystemExit): main(['--help'])"
    )

    assert loaded_after(code) == set()


def test_help_is_immediate() -> None:
    durations_s = []
    for _ in range(5):
        started_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "perfbench", "--help"], capture_output=True, check=True)
        durations_s.append(time.perf_counter() - started_s)

    assert min(durations_s) < HELP_LIMIT_S


def test_every_verb_has_a_module_and_every_module_with_arguments_is_a_verb() -> None:
    from perfbench.cli.main import VERBS

    folder = repository_root() / "src" / "perfbench" / "cli"
    modules = {path.stem for path in folder.glob("*.py") if "def add_arguments(" in path.read_text()}

    assert len(modules) >= 10
    assert modules == {verb.replace("-", "_") for verb in VERBS}
