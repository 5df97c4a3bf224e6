"""``import perfbench``: the command line's functions, with objects that notebooks can show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perfbench
from perfbench.errors import ConfigError, ResultsError, ScoringError
from perfbench.interface import running
from perfbench.launch.changed_code import OnChangedCode
from perfbench.scoring.overview import frame, rows_of
from tests.trial_folders import TARGET, measurement, trial_spec, write_reaching_trial, write_trial


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two submissions on two workloads; one trial has not ended."""
    for submission, time_s in (("adamw", 20.0), ("shampoo", 10.0)):
        for workload in ("criteo", "ogbg"):
            write_reaching_trial(tmp_path, time_s=time_s, submission=submission, workload=workload)
    open_spec = trial_spec({"hyperparameters": {"x": "<b>2</b>"}}, submission="lion")
    write_trial(tmp_path, open_spec, [measurement(step=5, time_s=1.0, loss=1.0)], is_finished=False)
    return tmp_path


def test_importing_it_loads_nothing_and_reading_results_no_torch(runs: Path) -> None:
    code = (
        "import sys, perfbench\n"
        "assert not {'numpy', 'pydantic', 'polars', 'rich', 'torch'} & set(sys.modules), 'an import is heavy'\n"
        f"perfbench.load_trials({str(runs)!r}).frame(); perfbench.plot_profile({str(runs)!r})._repr_png_()\n"
        "print('torch' in sys.modules, 'hydra' in sys.modules)"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert told.stdout.split() == ["False", "False"], told.stderr


def test_every_name_is_there_and_no_other(runs: Path) -> None:
    assert {name for name in perfbench.__all__ if not callable(getattr(perfbench, name))} == {"__version__"}
    assert set(perfbench.__all__) <= set(dir(perfbench))
    with pytest.raises(AttributeError, match="module 'perfbench' has no attribute 'sweeep'"):
        _ = perfbench.sweeep


def test_a_trial_is_an_object_with_what_it_measured(runs: Path) -> None:
    folder = runs / "adamw" / "study_0" / "criteo" / "trial_1"
    (folder / "telemetry.jsonl").write_text(
        '{"kind": "steps", "step": [1.0, 2.0], "loss": [0.5, 0.25]}\n{"kind": "started", "attempt": 1}\n'
        '{"kind": "steps", "step": [3.0], "loss": [0.125], "rate": [0.1]}\n'
    )

    trial = perfbench.Trial.load(folder)

    assert (trial.is_reached, trial.time_s, trial.row.num_steps) == (True, 20.0, 20)
    assert trial.spec.submission.name == "adamw"
    assert trial.result is not None
    assert trial.environment is None
    assert trial.measurements.to_dicts()[-1] == {
        "step": 20, "submission_time_s": 20.0, "validation/loss": TARGET, "validation/num_examples": 8.0,
    }  # fmt: skip
    assert trial.telemetry()["loss"].to_list() == [0.5, 0.25, 0.125]
    assert trial.telemetry()["rate"].to_list() == [None, None, 0.1]
    assert trial.telemetry("started").to_dicts() == [{"attempt": 1}]
    assert trial.telemetry("resources").is_empty()
    assert "adamw on criteo, study 0, trial 1: reached, 20 steps, 20.0 s on the clock" in repr(trial)


def test_trials_are_frames_of_polars_and_pandas(runs: Path) -> None:
    trials = perfbench.load_trials(runs)

    assert len(trials) == 5
    assert trials.frame().equals(frame(rows_of([trial.record for trial in trials])))
    pandas = trials.to_pandas()
    assert list(pandas.columns) == trials.frame().columns
    assert pandas["submission"].tolist() == trials.frame()["submission"].to_list()
    measured = trials.measurements()
    assert measured.shape == (9, 9)
    assert measured["submission"].n_unique() == 3
    assert [trial.spec.workload.name for trial in trials[:2]] == ["criteo", "ogbg"]
    assert "5 trials" in repr(trials)


def test_what_a_notebook_shows_escapes_what_strangers_wrote(runs: Path) -> None:
    trials = perfbench.load_trials(runs)
    scores = perfbench.score(runs)

    pages = [trials._repr_html_(), *(trial._repr_html_() for trial in trials), scores._repr_html_()]

    assert all("<b>" not in page and page.count("<table>") == page.count("</table>") > 0 for page in pages)
    assert any("x=&lt;b&gt;2&lt;/b&gt;" in page for page in pages)


def test_scores_are_those_of_the_command_line(runs: Path) -> None:
    scores = perfbench.score(runs, only=["adamw", "shampoo", "criteo", "ogbg"])

    table = scores.frame()
    assert table["submission"].to_list() == ["shampoo", "adamw"]
    assert table["score"][0] == 1.0
    assert np.isclose(table["score"][1], scores.board.score["adamw"])
    assert table["criteo"].to_list() == [10.0, 20.0]
    assert "shampoo 1.0000" in repr(scores)
    assert any("studies" in warning for warning in scores.warnings)


def test_several_boards_are_named(tmp_path: Path) -> None:
    write_reaching_trial(tmp_path / "a", time_s=10.0)
    scale = trial_spec().scale.model_dump(mode="json") | {"target": "smoke"}
    write_reaching_trial(tmp_path / "b", time_s=10.0, scale=scale)

    scores = perfbench.score(tmp_path)

    assert len(scores.boards) == 2
    with pytest.raises(ScoringError, match="there are 2 boards"):
        perfbench.plot_profile(scores)
    assert perfbench.plot_profile(scores.boards[0])._repr_png_().startswith(b"\x89PNG")


def test_curves_and_profiles_are_written_as_asked(runs: Path, tmp_path: Path) -> None:
    trials = perfbench.load_trials(runs)
    curves = perfbench.plot_curves([trial for trial in trials if trial.spec.workload.name == "ogbg"])

    assert b"<svg" in curves.save(tmp_path / "curves.svg").read_bytes()
    assert perfbench.plot_profile(runs).save(tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "shampoo" in (tmp_path / "curves.svg").read_text()
    with pytest.raises(ResultsError, match="curves of criteo, ogbg cannot share an axis"):
        perfbench.plot_curves(trials)
    with pytest.raises(ConfigError, match=r"a figure cannot be .pdf"):
        curves.save(tmp_path / "curves.pdf")
    with pytest.raises(ConfigError, match="the figure cannot be written"):
        curves.save(tmp_path / "no folder" / "curves.svg")


def test_no_trial_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no trial: no run.json"):
        perfbench.Trial.load(tmp_path)
    with pytest.raises(ResultsError, match="no trial folder found"):
        perfbench.load_trials(tmp_path)


def test_run_asks_for_what_the_command_line_would(monkeypatch: pytest.MonkeyPatch, runs: Path) -> None:
    asked: dict[str, Any] = {}
    folder = runs / "adamw" / "study_0" / "criteo" / "trial_1"

    class Folder:
        path = folder

    def run_one(overrides: list[str], *rest: Any) -> tuple[None, type[Folder]]:
        asked.update(overrides=overrides, choice=rest[-1])
        return None, Folder

    monkeypatch.setattr(running, "run_one", run_one)
    trial = perfbench.run(
        "criteo", "shampoo", trial=2, hp={"learning_rate": 3e-4, "name": "it's"}, scale="full", fresh=True,
        cluster__nproc_per_node=2, data_root=runs,
    )  # fmt: skip

    assert asked["overrides"] == [
        "workload=criteo", "submission=shampoo", "trial=2", "scale=full", "cluster.nproc_per_node=2",
        f"data_root={runs}", "hp.learning_rate=0.0003", r"hp.name='it\'s'",
    ]  # fmt: skip
    assert asked["choice"] is OnChangedCode.START_ANEW
    assert trial.folder == folder


def test_a_sweep_asks_for_what_the_command_line_would(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[Any] = []
    monkeypatch.setattr(running, "make_sure", lambda *_: None)
    monkeypatch.setattr(running, "run_here", lambda _requests, trials, *_: started.extend(trials))

    trials = perfbench.sweep(
        ["mnist", "criteo"], "adamw", hp={"learning_rate": (1e-4, 1e-2), "beta2": [0.9, 0.99]}, points=2,
        runs_root=tmp_path, progress=False,
    )  # fmt: skip

    assert len(trials) == 0
    assert {trial.workload.name for trial in started} == {"mnist", "criteo"}
    assert len(started) == 8
    assert {(trial.hyperparameters or {})["beta2"] for trial in started} == {0.9, 0.99}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cluster": "slurm"}, "a sweep from Python runs here"),
        ({"cluster": {"nodes": 2}}, "a mapping cannot be set"),
        ({"workloaad__x": 1}, "workloaad"),
    ],
)
def test_what_is_impossible_is_refused_before_anything_starts(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        perfbench.sweep("mnist", "adamw", progress=False, **settings)
