"""``perfbench bench step`` and ``perfbench doctor --gpu``: what they print, with a GPU and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.whole_step import peak_tflops, waits_by_place
from perfbench.cli import gpu_checks
from perfbench.cli.main import main
from perfbench.config_files import choices
from perfbench.engine.wire.precision import precision_as_before
from perfbench.registry import workload_families
from perfbench.spec.ruleset import Precision

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: what is measured on one is not looked at")


@pytest.fixture(autouse=True)
def precision_stays() -> Iterator[None]:
    with precision_as_before():
        yield


@pytest.fixture(autouse=True)
def without_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile to a graph only, where there is no GPU to run it on."""
    if not torch.cuda.is_available():
        compiled = torch.compile
        monkeypatch.setattr(torch, "compile", lambda *a, **k: compiled(*a, **(k | {"backend": "aot_eager"})))


@pytest.mark.slow
def test_a_step_is_measured_on_invented_batches_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--synthetic", "--batch", "16", "--precision", "bf16", "--seconds", "0.05"]
    code = main(
        ["bench", "step", "mnist", *arguments, "--data-root", str(tmp_path / "none"), "--json", str(tmp_path / "seen")]
    )

    assert code == 0
    found = json.loads((tmp_path / "seen").read_text())
    assert "mnist at scale full, 101,770 parameters, invented batches of 16, bf16, baseline" in found["title"]
    printed = capsys.readouterr().out
    assert printed.startswith(f"  building mnist at scale full\n{found['title']}\n  compiling model and loss\n")
    assert (
        printed.index("  timing a whole step")
        < printed.index("  timing forward and backward pass without")
        < printed.index("batch size")
    )
    assert found["num_recompiles"] == 0
    assert found["examples_per_s"] == pytest.approx(16 / found["step_ms"] * 1e3)
    assert found["counted_per_s"] == pytest.approx(found["examples_per_s"])
    # Two products forward; their weights' gradients, and one input's: 16 x (784 + 10) x 128, twice and once.
    assert found["tflop_per_step"] == pytest.approx(2e-12 * 16 * 128 * (2 * 784 + 3 * 10))
    assert found["share_of_peak"] is None or torch.cuda.is_available()


def test_a_step_on_data_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["bench", "step", "criteo", "--data-root", str(tmp_path)])

    assert code != 0
    assert "perfbench bench: error:" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_doctor_says_so_once() -> None:
    ((name, check),) = gpu_checks.checks()

    assert name == "gpu"
    with pytest.raises(RuntimeError, match="no GPU that torch can use"):
        check()


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [
        ("NVIDIA H200", Precision.BF16, 989.4),
        ("NVIDIA A100-SXM4-80GB", Precision.TF32, 156.0),
        ("Tesla T4", Precision.FP32, None),
    ],
)
def test_peaks_are_those_of_known_cards(
    name: str, precision: Precision, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)

    assert peak_tflops(torch.device("cuda"), precision) == expected
    assert peak_tflops(torch.device("cpu"), precision) is None


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize(("name", "check"), gpu_checks.checks() if torch.cuda.is_available() else [])
def test_the_doctor_finds_nothing_wrong_with_a_gpu(name: str, check: object) -> None:
    assert callable(check)
    assert check(), name


@pytest.mark.gpu
@GPU
def test_a_wait_is_counted_where_it_happens() -> None:
    with waits_by_place() as seen:
        torch.ones(1, device="cuda").item()

    assert sum(seen.values()) == 1
    assert any("test_bench_and_doctor" in place for place in seen)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", workload_families())
def test_a_full_size_step_waits_for_nothing_and_compiles_once(name: str, tmp_path: Path) -> None:
    assert name in choices("workload")

    code = main(["bench", "step", name, "--synthetic", "--seconds", "0.2", "--no-eager", "--json", str(tmp_path / "s")])

    found = json.loads((tmp_path / "s").read_text())
    assert code == 0
    assert found["waits_by_place"] == {}
    assert found["num_recompiles"] == 0
