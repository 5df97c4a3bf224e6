"""Which hyperparameters each trial of a study runs."""

from __future__ import annotations

import math
import random

from perfbench.spec.ruleset import Ruleset
from perfbench.spec.seeds import study_seed
from perfbench.spec.submission import (
    FeasiblePoints,
    HyperparameterPoint,
    PointSpace,
    Range,
    RangeSpace,
    Scaling,
    SubmissionSpec,
)
from perfbench.tuning import halton


def points_for_study(
    submission: SubmissionSpec, ruleset: Ruleset, *, study: int, run_seed: int
) -> list[HyperparameterPoint | None]:
    """Return one point per trial of a study, the same on any machine.

    A list of points is run in its order in every study, cut after ``num_trials``. A range space gives
    ``num_studies * num_trials`` quasi-random points, dealt to the studies in an order that the run seed fixes.
    Under self-tuning there is one trial without hyperparameters.
    """
    if ruleset.kind == "self_tuning":
        return [None]
    match submission.search_space:
        case PointSpace(points=listed):
            return [dict(point) for point in listed[: ruleset.num_trials]]
        case RangeSpace() as space:
            return list(_dealt(space, ruleset, study=study, run_seed=run_seed))
        case None:
            raise AssertionError("a submission under external tuning has a search space")


def _dealt(space: RangeSpace, ruleset: Ruleset, *, study: int, run_seed: int) -> list[HyperparameterPoint]:
    total = ruleset.num_studies * ruleset.num_trials
    drawn = [map_point(space, point) for point in halton.points(len(space.dimensions), num_points=total)]
    random.Random(study_seed(run_seed)).shuffle(drawn)
    return drawn[study * ruleset.num_trials : (study + 1) * ruleset.num_trials]


def map_point(space: RangeSpace, point: tuple[float, ...]) -> HyperparameterPoint:
    """Map a point of the unit cube to hyperparameters, dimension by dimension in the space's order."""
    mapped: HyperparameterPoint = {}
    for (name, dimension), coordinate in zip(space.dimensions.items(), point, strict=True):
        match dimension:
            case FeasiblePoints(values=values):
                mapped[name] = values[math.floor(coordinate * len(values))]
            case Range(min=low, max=high, scaling=Scaling.LOG):
                mapped[name] = low * math.exp(coordinate * math.log(high / low))
            case Range(min=low, max=high):
                mapped[name] = low + coordinate * (high - low)
    return mapped
