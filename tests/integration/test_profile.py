"""Where the time of a step goes: all parts are seen, and the trace can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from perfbench.api.workload import Batch, LossSums, Workload
from perfbench.cli.main import main
from perfbench.engine.wire.precision import precision_as_before
from perfbench.launch.profiling import PARTS
from perfbench.registry import build_workload
from perfbench.spec.workload import WorkloadSpec
from tests.integration import small_criteo


def test_a_step_is_split_into_its_parts_and_traced(
    capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path
) -> None:
    overrides = [item for item in small_criteo.OVERRIDES if not item.startswith("workload=")]
    backward, trace = torch.autograd.backward, tmp_path / "trace.json"
    roots = [f"data_root={data_root}", f"runs_root={tmp_path / 'runs'}"]
    options = ["--no-compile", "--steps", "3", "--warm-up", "1", "--trace", str(trace)]

    assert main(["profile", "criteo", "adamw", *overrides, *roots, *options, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert set(found["part_ms"]) == set(PARTS)
    assert all(found["part_ms"][name] > 0 for name in ("data", "forward", "backward", "optimizer"))
    assert found["step_ms"] > 0
    assert any("AdamW" in one["name"] for one in found["operators"])
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"data", "forward", "backward", "optimizer"} <= names
    assert torch.autograd.backward is backward  # nothing of the measuring is left
    assert not (tmp_path / "runs").exists()  # no trial was run


def test_a_step_computes_in_the_numbers_and_threads_of_a_trial(
    monkeypatch: pytest.MonkeyPatch, data_root: Path, tmp_path: Path
) -> None:
    seen: set[tuple[bool, int]] = set()

    def watched(spec: WorkloadSpec, root: Path) -> Workload:
        workload = build_workload(spec, root)
        plain = workload.loss

        def loss(model: torch.nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
            is_bfloat = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
            seen.add((is_bfloat, torch.get_num_threads()))
            return plain(model, batch, label_smoothing=label_smoothing)

        monkeypatch.setattr(workload, "loss", loss)
        return workload

    monkeypatch.setattr("perfbench.launch.profiling.build_workload", watched)
    required: list[bool] = []
    monkeypatch.setattr("perfbench.launch.profiling.require_determinism", lambda: required.append(True))
    overrides = [item for item in small_criteo.OVERRIDES if not item.startswith("workload=")]
    options = ["--no-compile", "--steps", "1", "--warm-up", "1", "--trace", str(tmp_path / "trace.json")]
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with precision_as_before():
            main(
                [
                    "profile",
                    "criteo",
                    "adamw",
                    *overrides,
                    f"data_root={data_root}",
                    "ruleset.precision=bf16",
                    "deterministic=true",
                    *options,
                ]
            )
    finally:
        torch.set_num_threads(num_threads)

    assert seen == {(True, 1)}
    assert required == [True]


def test_no_steps_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "mnist", "adamw", "--steps", "0"]) == 2

    assert "--steps: must be at least 1, got 0" in capsys.readouterr().err
