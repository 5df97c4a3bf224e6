"""What a workload is, at one scale: target, budget, evaluation and parameters. Facts only, no behaviour."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field, JsonValue, model_validator

from perfbench.spec.base import MOST_CHARACTERS, NAME_PATTERN, Spec


class Direction(StrEnum):
    """Whether a metric is better when smaller or when larger."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class ScaleName(StrEnum):
    """``full`` is the competition's setting; ``mini`` the same code at a size for two CPU cores."""

    FULL = "full"
    MINI = "mini"


class TargetKind(StrEnum):
    """``scored`` is the benchmark's target; ``smoke`` an easier one that every healthy run reaches."""

    SCORED = "scored"
    SMOKE = "smoke"


class Split(StrEnum):
    """The parts of a data set on which a model is evaluated."""

    EVAL_TRAIN = "eval_train"
    VALIDATION = "validation"
    TEST = "test"


class Target(Spec):
    """The evaluation result that ends a trial. Inclusive: equality reaches it."""

    metric: str = Field(pattern=r"^(eval_train|validation|test)/[A-Za-z0-9_]{1,99}$")
    """``<split>/<name>``."""
    direction: Direction
    threshold: float = Field(allow_inf_nan=False)
    """In the metric's own unit."""
    source: str = Field(max_length=MOST_CHARACTERS)
    """Where the number comes from: paper and table, or the seeds and versions of our own measurement."""

    def is_reached_by(self, metrics: Mapping[str, float]) -> bool:
        """Tell whether the metrics reach the target; a missing or non-finite metric never does."""
        value = metrics.get(self.metric, math.nan)
        if not math.isfinite(value):
            return False
        if self.direction is Direction.MINIMIZE:
            return value <= self.threshold
        return value >= self.threshold


class WorkloadSpec(Spec):
    """A workload at one scale, with everything that a comparison of training algorithms holds fixed."""

    name: str = Field(pattern=NAME_PATTERN)
    family: str = Field(pattern=NAME_PATTERN)
    """The folder that implements it: a variant differs from its family's base in parameters only."""
    data_family: str | None = Field(default=None, pattern=NAME_PATTERN)
    """Families that train on the same prepared data give it one name here; ``None``: the family's own."""
    version: int = Field(ge=1)
    """Raised whenever results stop being comparable."""
    description: str = Field(max_length=MOST_CHARACTERS)
    scale: ScaleName
    dataset: str = Field(pattern=NAME_PATTERN)
    """Which data set of this scale; it belongs to the target."""
    targets: dict[TargetKind, Target]
    test_target: Target | None = None
    """Reported beside the validation target; it never ends a trial."""
    step_hint: int = Field(ge=1)
    """The horizon that schedules may use; a property of the workload, whatever the batch size."""
    max_submission_time_s: float = Field(gt=0)
    """Budget on the clock before the ruleset's factor."""
    eval_period_s: float = Field(gt=0)
    """An evaluation is due when this much wall-clock time has passed since the last one ended."""
    eval_batch_size: int = Field(ge=1)
    """Global: over all ranks together."""
    reference_batch_size: int = Field(ge=1)
    """Global training batch of a submission that names none."""
    params: dict[str, JsonValue]
    """Model and data parameters; the family's own ``Params`` reads them as strictly as this."""

    @model_validator(mode="after")
    def _targets_measure_one_metric(self) -> WorkloadSpec:
        if not self.targets:
            msg = "needs at least one target"
            raise ValueError(msg)
        if len({(target.metric, target.direction) for target in self.targets.values()}) > 1:
            msg = "all targets of a workload must name the same metric and direction"
            raise ValueError(msg)
        return self

    def num_train_examples(self) -> int | None:
        """Return how many training examples its facts name; ``None`` where they name none."""
        for name in ("expected_examples", "expected_counts"):
            counts = self.params.get(name)
            number = counts.get("train") if isinstance(counts, dict) else None
            if isinstance(number, int):
                return number
        return None

    def is_variant(self) -> bool:
        """Tell whether this is a changed model of its family (a held-out workload)."""
        return self.name != self.family
