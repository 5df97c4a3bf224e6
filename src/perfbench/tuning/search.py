"""A search for good hyperparameters by Optuna, asked for a point and told what came of it; kept in a journal file.

Nothing here runs a trial. The journal takes several processes at once, on a shared disk too, and whoever opens it
later goes on where it was left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from perfbench.spec.result import TargetReached, TrialResult
from perfbench.spec.submission import HyperparameterPoint, Range, Scaling
from perfbench.spec.workload import Direction, Target
from perfbench.tuning.exploring import Values, rounded

_STARTUP_TRIALS = 5
"""So many run to their end before any is pruned."""
_WARMUP_EVALUATIONS = 2
"""So many evaluations of each trial are not judged."""
_WORST = 2.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A point to try."""

    number: int
    """Its place in the search."""
    point: HyperparameterPoint


class Search:
    """A search over some hyperparameters.

    Args:
        journal: File; its folder must exist.
        name: Of the search: another space or workload is another search.
        axes: What each hyperparameter takes; the order does not matter.
        seed: Of what is suggested.
        prunes: Whether trials may be ended early.
    """

    def __init__(self, journal: Path, *, name: str, axes: Mapping[str, Values], seed: int, prunes: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._axes = dict(sorted(axes.items()))
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if prunes:
            pruner = optuna.pruners.MedianPruner(_STARTUP_TRIALS, n_warmup_steps=_WARMUP_EVALUATIONS)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(
            storage=storage, study_name=name, pruner=pruner, direction="minimize", load_if_exists=True
        )
        # Seeded by what is there already: a search that goes on does not suggest its first points again.
        self._study.sampler = optuna.samplers.TPESampler(seed=(seed + len(self._study.trials)) % 2**32)

    @property
    def num_ended(self) -> int:
        """Return how many trials have ended, well or not."""
        return sum(trial.state.is_finished() for trial in self._study.trials)

    def open_suggestions(self) -> list[Suggestion]:
        """Return what was suggested and has not ended: what a process that was stopped has left, or another runs."""
        return [
            Suggestion(trial.number, self._point(trial.params))
            for trial in self._study.trials
            if trial.state == TrialState.RUNNING and trial.params.keys() == self._axes.keys()
        ]

    def suggest(self) -> Suggestion:
        """Return a new point."""
        trial = self._study.ask({name: _distribution(values) for name, values in self._axes.items()})
        return Suggestion(trial.number, self._point(trial.params))

    def is_hopeless(self, suggestion: Suggestion, *, evaluation: int, loss: float) -> bool:
        """Take an evaluation of a running trial; tell whether the trial should end.

        Args:
            suggestion: What runs.
            evaluation: Its number, from 1.
            loss: The metric, turned so that less is better.
        """
        trial = optuna.trial.Trial(self._study, self._trial_id(suggestion))
        trial.report(loss if math.isfinite(loss) else math.inf, evaluation)
        return bool(trial.should_prune())

    def tell(self, suggestion: Suggestion, value: float) -> None:
        """Take what came of a trial that ended; less is better."""
        self._study.tell(suggestion.number, value)

    def tell_pruned(self, suggestion: Suggestion) -> None:
        """Take that a trial was ended early."""
        self._study.tell(suggestion.number, state=TrialState.PRUNED)

    def tell_failed(self, suggestion: Suggestion) -> None:
        """Take that a trial crashed or was refused."""
        self._study.tell(suggestion.number, state=TrialState.FAIL)

    def _trial_id(self, suggestion: Suggestion) -> int:
        return int(self._study.trials[suggestion.number]._trial_id)  # noqa: SLF001 - Optuna's samplers read it so

    def _point(self, params: Mapping[str, object]) -> HyperparameterPoint:
        """Return the values that a trial runs: of ranges with few digits, of lists the listed one."""
        point: HyperparameterPoint = {}
        for name, values in self._axes.items():
            suggested = params[name]
            if isinstance(values, Range):
                assert isinstance(suggested, float)
                point[name] = rounded(suggested, values)
            else:
                assert isinstance(suggested, int)
                point[name] = values[suggested]
        return point


def value_of(result: TrialResult, target: Target, budget_s: float) -> float:
    """Return what a search makes small: the share of the budget until the target, else 1 and how far it was.

    A trial that reached its target is below 1, one that did not between 1 and 2 by the relative distance ``d`` of its
    best evaluation (``1 + d / (1 + d)``), and one without a finite evaluation is 2.
    """
    if isinstance(result.outcome, TargetReached):
        return result.outcome.submission_time_s / budget_s
    if result.best_metric is None or not math.isfinite(result.best_metric):
        return _WORST
    distance = abs(result.best_metric - target.threshold) / (abs(target.threshold) or 1.0)
    return 1.0 + distance / (1.0 + distance)


def loss_of(value: float, target: Target) -> float:
    """Return a metric turned so that less is better; infinite where it is not finite."""
    if not math.isfinite(value):
        return math.inf
    return value if target.direction is Direction.MINIMIZE else -value


def _distribution(values: Values) -> BaseDistribution:
    if isinstance(values, Range):
        return FloatDistribution(values.min, values.max, log=values.scaling is Scaling.LOG)
    return CategoricalDistribution(range(len(values)))
