"""A search asks, trials answer: points, pruning, what is left open, and what the journal keeps. No trial trains."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from perfbench.cli import tune
from perfbench.cli.main import main
from perfbench.errors import TrialFailedError, TrialInterruptedError
from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.spec.result import BudgetSpent, PhaseTimes, TargetReached, TrialResult
from perfbench.spec.run import TrialSpec
from perfbench.spec.submission import Range, Scaling
from perfbench.spec.workload import Direction, Target
from perfbench.tracking.views import View
from perfbench.tuning.exploring import Values
from perfbench.tuning.search import Search, loss_of, value_of
from tests.trial_folders import measurement

TARGET = Target(metric="validation/accuracy", direction=Direction.MAXIMIZE, threshold=0.9, source="test")
AXES: dict[str, Values] = {"rate": Range(min=1e-4, max=1.0, scaling=Scaling.LOG), "kind": ["plain", "other"]}


def search(folder: Path, *, prunes: bool = True) -> Search:
    return Search(folder / "journal", name="a search", axes=AXES, seed=0, prunes=prunes)


def result(*, best: float | None, reached_s: float | None = None) -> TrialResult:
    outcome = (
        BudgetSpent(resource="steps", step=10, submission_time_s=10.0)
        if reached_s is None
        else TargetReached(step=10, submission_time_s=reached_s)
    )
    return TrialResult(
        trial_identity="",
        outcome=outcome,
        scorable=False,
        num_attempts=1,
        num_steps=10,
        num_measurements=1,
        phases=PhaseTimes(),
        num_recompiles_after_warmup=0,
        best_metric=best,
    )


def test_sooner_is_better_and_closer_is_better_than_farther() -> None:
    values = [
        value_of(result(best=0.95, reached_s=2.0), TARGET, 10.0),
        value_of(result(best=0.91, reached_s=9.0), TARGET, 10.0),
        value_of(result(best=0.89), TARGET, 10.0),
        value_of(result(best=0.10), TARGET, 10.0),
        value_of(result(best=None), TARGET, 10.0),
    ]

    assert values == sorted(values)
    assert values[0] == pytest.approx(0.2)
    assert values[1] < 1 < values[2]
    assert (loss_of(0.3, TARGET), loss_of(math.nan, TARGET)) == (-0.3, math.inf)


def test_points_are_what_a_trial_can_run(tmp_path: Path) -> None:
    found = [search(tmp_path).suggest().point for _ in range(6)]

    assert all(isinstance(point["rate"], float) and 1e-4 <= point["rate"] <= 1.0 for point in found)
    assert all(float(f"{point['rate']:.6g}") == point["rate"] for point in found)
    assert {point["kind"] for point in found} == {"plain", "other"}


def test_whoever_opens_the_journal_later_goes_on(tmp_path: Path) -> None:
    first = search(tmp_path)
    ended, left = first.suggest(), first.suggest()
    first.tell(ended, 0.5)

    later = search(tmp_path)

    assert later.num_ended == 1
    assert later.open_suggestions() == [left]
    later.tell(left, 0.7)
    assert search(tmp_path).open_suggestions() == []


def test_a_trial_far_behind_the_others_is_hopeless(tmp_path: Path) -> None:
    one = search(tmp_path)
    for _ in range(5):
        suggestion = one.suggest()
        for evaluation in range(1, 6):
            assert not one.is_hopeless(suggestion, evaluation=evaluation, loss=1.0 / evaluation)
        one.tell(suggestion, 0.5)
    suggestion = one.suggest()

    seen = [one.is_hopeless(suggestion, evaluation=evaluation, loss=5.0) for evaluation in range(1, 5)]

    assert seen[0] is False  # the first evaluations of a trial are not judged
    assert seen[-1] is True


Answer = Callable[[TrialSpec, TrialFolder, View], TrialResult]


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command on trials that answer at once."""

    def run(answer: Answer, *arguments: str) -> int:
        def execute(
            trial: TrialSpec, _cluster: object, _tracking: object, runs_root: Path, view: View, **_: object
        ) -> tuple[TrialResult, TrialFolder]:
            folder = TrialFolder.of(runs_root, trial)
            folder.claim(trial)
            if (done := folder.result()) is None:
                done = answer(trial, folder, view)
                folder.write_result(done)
            return done, folder

        monkeypatch.setattr(tune, "execute_trial", execute)
        monkeypatch.setattr(tune, "check_trial", lambda *_: None)
        return main(["tune", "adamw", "mnist", "hp.learning_rate=1e-5..1e-1", f"runs_root={tmp_path}", *arguments])

    return run


def by_rate(trial: TrialSpec, _folder: TrialFolder, _view: View) -> TrialResult:
    """Reach the target the sooner, the nearer the rate is to 1e-3."""
    rate = (trial.hyperparameters or {})["learning_rate"]
    assert isinstance(rate, float)
    return result(best=0.95, reached_s=1.0 + abs(math.log10(rate) + 3.0))


def test_the_budget_is_spent_and_the_best_stands_first(
    capsys: pytest.CaptureFixture[str], tuned: Callable[..., int], tmp_path: Path
) -> None:
    assert tuned(by_rate, "--trials", "15") == 0

    trials = read_trials([tmp_path]).trials
    assert len(trials) == 15
    assert all(trial.spec.explored and not trial.spec.is_scorable() for trial in trials)
    best = min(trials, key=lambda trial: trial.result.time_to_target_s if trial.result else math.inf)
    out = capsys.readouterr().out
    assert f"hp.learning_rate={(best.spec.hyperparameters or {})['learning_rate']}" in out
    assert abs(math.log10(float(str((best.spec.hyperparameters or {})["learning_rate"]))) + 3.0) < 0.5
    assert "15 trials of the search ended" in out


@pytest.mark.slow
def test_the_same_command_goes_on_and_a_spent_budget_runs_nothing(tuned: Callable[..., int], tmp_path: Path) -> None:
    assert tuned(by_rate, "--trials", "3") == 0
    assert tuned(by_rate, "--trials", "3") == 0
    assert len(read_trials([tmp_path]).trials) == 3
    assert tuned(by_rate, "--trials", "5") == 0
    assert len(read_trials([tmp_path]).trials) == 5


def test_an_interrupted_trial_stays_open_and_a_crashed_one_is_counted(
    tuned: Callable[..., int], tmp_path: Path
) -> None:
    asked: list[str | None] = []

    def stops_then_crashes(trial: TrialSpec, folder: TrialFolder, view: View) -> TrialResult:
        asked.append(trial.explored)
        if len(asked) == 1:
            raise TrialInterruptedError("told to stop")
        if len(asked) == 2:
            raise TrialFailedError("a mistake")
        return by_rate(trial, folder, view)

    assert tuned(stops_then_crashes, "--trials", "3") == 1
    assert tuned(stops_then_crashes, "--trials", "3") == 0

    assert asked[0] == asked[1]  # the one that was left open comes first
    assert len(asked) == 4  # stopped, crashed, and two that end


def test_a_hopeless_trial_is_told_to_stop_as_by_a_person(tuned: Callable[..., int], tmp_path: Path) -> None:
    told = threading.Event()
    count = 0

    def run(trial: TrialSpec, folder: TrialFolder, view: View) -> TrialResult:
        nonlocal count
        count += 1
        loss = 1.0 if count <= 5 else 0.1  # an accuracy: the sixth is far behind
        before = signal.signal(signal.SIGTERM, lambda *_: told.set())
        try:
            with view.showing(trial, folder) as watch:
                for number in range(1, 6):
                    one = measurement(step=number, time_s=float(number), loss=0.0)
                    folder.append(one.model_copy(update={"metrics": {trial.target.metric: 0.8 * loss}}))
                    watch()
        finally:
            signal.signal(signal.SIGTERM, before)
        if told.is_set():
            raise TrialInterruptedError("told to stop")
        return result(best=0.8 * loss)

    assert tuned(run, "--trials", "6") == 0

    assert told.is_set()
    pruned = [trial.path for trial in read_trials([tmp_path]).trials if TrialFolder(trial.path).telemetry("pruned")]
    assert len(pruned) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cluster=slurm",), "cluster: a search runs here"),
        (("--trials", "0"), "--trials: must be at least 1, got 0"),
        (("hp.learning_rat=1e-4..1e-2",), "learning_rat: unknown field"),
    ],
)
def test_what_cannot_be_searched_is_explained(
    capsys: pytest.CaptureFixture[str], tuned: Callable[..., int], arguments: tuple[str, ...], message: str
) -> None:
    assert tuned(by_rate, *arguments) == 2

    assert message in capsys.readouterr().err


def test_listed_points_are_no_space(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "schedule_free_prodigy", "mnist"]) == 2

    assert "has no ranges to search: its points are listed" in capsys.readouterr().err
