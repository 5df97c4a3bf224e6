"""A visit to a GPU machine: what is planned, what is cut off, and what is left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import visit
from perfbench.registry import repository_root, workload_families


def test_every_workload_is_measured_and_every_test_for_a_gpu_is_run(tmp_path: Path) -> None:
    parts = {part.name: part for part in visit.planned(tmp_path, "bf16")}

    assert {name.partition(":")[2] for name in parts if name.startswith("step:")} == set(workload_families())
    assert list(parts)[:2] == ["doctor", "tests"]
    assert "tests/unit/test_prefetch.py" in parts["tests"].command
    assert all((repository_root() / file).exists() for file in visit.files_with_gpu_tests())
    assert parts["step:wmt"].command[-4:-2] == ["--precision", "bf16"]


def test_a_part_that_hangs_or_fails_costs_itself_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        visit.Part(
            name="hangs", command=["-c", "import time; print('begun', flush=True); time.sleep(60)"], limit_s=1.0
        ),
        visit.Part(name="fails", command=["-c", "raise SystemExit('a reason')"], limit_s=30.0),
        visit.Part(name="step:one", command=["-c", "print('done')"], limit_s=30.0),
    ]
    monkeypatch.setattr(visit, "planned", lambda *_: iter(parts))
    monkeypatch.setattr(sys, "argv", ["visit", "60", "--out", str(tmp_path / "out")])

    assert visit.main() == 1

    seen = json.loads((tmp_path / "out" / "visit.json").read_text())
    assert [(part["status"], part["last_line"]) for part in seen] == [
        ("limit", "begun"),
        ("failed (1)", "a reason"),
        ("ok", "done"),
    ]


def test_nothing_is_begun_that_would_only_be_cut_off(tmp_path: Path) -> None:
    part = visit.Part(name="late", command=["-c", "print('done')"], limit_s=30.0)

    visit.run(part, tmp_path, left_s=5.0)

    assert part.status == "no time"
    assert not list(tmp_path.iterdir())


def test_parts_are_chosen_by_name_or_kind() -> None:
    assert visit.is_wanted("step:wmt", ["step"])
    assert visit.is_wanted("step:wmt", ["doctor", "step:wmt"])
    assert not visit.is_wanted("step:wmt", ["step:criteo"])
