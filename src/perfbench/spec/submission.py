"""What a submission declares as data: batch sizes and search space. Its code is in ``submissions/<name>/``."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from perfbench.spec.base import MOST_CHARACTERS, NAME_PATTERN, Spec
from perfbench.spec.workload import ScaleName, WorkloadSpec

HyperparameterPoint = dict[str, JsonValue]
"""One value per hyperparameter, as it stands in the search space; the submission's own type reads it."""


class Scaling(StrEnum):
    """How a range is filled: evenly in the value, or evenly in its logarithm."""

    LINEAR = "linear"
    LOG = "log"


class Range(Spec):
    """A continuous hyperparameter."""

    kind: Literal["range"] = "range"
    min: float
    max: float
    scaling: Scaling = Scaling.LINEAR

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if not (math.isfinite(self.min) and math.isfinite(self.max) and self.min <= self.max):
            msg = f"min must not exceed max, both finite ({self.min=}, {self.max=})"
            raise ValueError(msg)
        if self.scaling is Scaling.LOG and self.min <= 0:
            msg = f"a logarithmic range needs min > 0 ({self.min=})"
            raise ValueError(msg)
        return self


class FeasiblePoints(Spec):
    """A hyperparameter that takes one of the listed values."""

    kind: Literal["feasible_points"] = "feasible_points"
    values: tuple[JsonValue, ...] = Field(min_length=1)


Dimension = Annotated[Range | FeasiblePoints, Field(discriminator="kind")]


class RangeSpace(Spec):
    """Points are drawn quasi-randomly, a study's trials together."""

    kind: Literal["ranges"] = "ranges"
    dimensions: dict[str, Dimension] = Field(min_length=1)


class PointSpace(Spec):
    """Points are listed: trial ``i`` of every study runs the ``i``-th."""

    kind: Literal["points"] = "points"
    points: tuple[HyperparameterPoint, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _points_have_the_same_names(self) -> PointSpace:
        first = set(self.points[0])
        for number, point in enumerate(self.points[1:], start=2):
            if set(point) != first:
                differing = ", ".join(sorted(set(point) ^ first))
                msg = f"point {number} and point 1 do not name the same hyperparameters: {differing}"
                raise ValueError(msg)
        return self


SearchSpace = Annotated[RangeSpace | PointSpace, Field(discriminator="kind")]


class UnshippedFile(Spec):
    """A file that a submission needs and this repository does not hold: whoever runs it gives the path."""

    path: str | None = None
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    source: str
    """Where the file can be had."""


class LossSetting(Spec):
    """One way in which a submission calls the loss: each is compiled before the clock starts.

    A point's hyperparameter of that name comes first, then what is given here, then the workload's own.
    """

    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    dropout_rate: float | None = Field(default=None, ge=0, lt=1)
    batch_norm: Literal["update", "freeze"] = "update"
    auxiliary_dropout: Literal["alike", "own"] = "alike"
    """Whether dropout of attention or input has ``dropout_rate``, too, or keeps the workload's."""

    @model_serializer(mode="wrap")
    def _as_on_record(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what later versions added where it says nothing: identities on record stay."""
        written: dict[str, Any] = plain(self)
        if written.get("auxiliary_dropout") == "alike":
            del written["auxiliary_dropout"]
        return written


class SubmissionSpec(Spec):
    """A training algorithm as data."""

    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(ge=1)
    description: str = Field(max_length=MOST_CHARACTERS)
    rulesets: tuple[Literal["external", "self_tuning"], ...] = Field(min_length=1)
    """Which rulesets it may run under."""
    search_space: SearchSpace | None = None
    """Workload-agnostic. ``null`` for a submission that only tunes itself."""
    batch_sizes: dict[ScaleName, dict[str, Annotated[int, Field(ge=1)]]] = Field(default_factory=dict)
    """Global batch size by scale, then by workload or family; the workload's reference size otherwise."""
    state_bytes_per_parameter: float | None = Field(default=None, gt=0)
    """Of everything in its state, on one rank, at most: declared for the small models of the conformance suite, which
    measures it."""
    waits_per_step: float = Field(default=0.0, ge=0)
    """How often per step, on average, it waits for the device; the conformance suite counts."""
    packages: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")], ...] = ()
    """Installed modules that it imports: they are imported before the clock starts, its own code afterwards."""
    loss_settings: tuple[LossSetting, ...] = (LossSetting(),)
    """How it calls the loss; what it calls otherwise is compiled on the clock."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Fixed choices, the same in every trial (such as a behaviour as run or as intended). The submission's own
    ``Options`` type reads them."""
    files: dict[str, UnshippedFile] = Field(default_factory=dict)
    """By the name that its code uses."""
    folder: str | None = None
    """Where the code is, for a submission outside this repository."""
    form: Literal["native", "algoperf"] = "native"
    """Whose interface its code has: ours, or AlgoPerf's, which is adapted as it runs."""

    @model_serializer(mode="wrap")
    def _as_on_record(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave the form out where it is ours: identities on record are of before there was another."""
        written: dict[str, Any] = plain(self)
        if written.get("form") == "native":
            del written["form"]
        return written

    @model_validator(mode="after")
    def _external_tuning_has_a_space(self) -> SubmissionSpec:
        if "external" in self.rulesets and self.search_space is None:
            msg = "external tuning needs a search_space"
            raise ValueError(msg)
        if self.rulesets == ("self_tuning",) and self.search_space is not None:
            msg = "a self-tuning submission must not have a search_space"
            raise ValueError(msg)
        return self

    def with_absolute_paths(self) -> SubmissionSpec:
        """Return the spec with the paths of its files as seen from here: ranks may start in another folder."""
        files = {
            name: file.model_copy(update={"path": str(Path(file.path).expanduser().resolve())}) if file.path else file
            for name, file in self.files.items()
        }
        return self.model_copy(update={"files": files})

    def hyperparameter_names(self) -> tuple[str, ...]:
        """Return what a point of its search space names; nothing where there is none."""
        match self.search_space:
            case PointSpace(points=points):
                return tuple(points[0])
            case RangeSpace(dimensions=dimensions):
                return tuple(dimensions)
            case None:
                return ()

    def loss_settings_at(self, point: HyperparameterPoint | None) -> tuple[LossSetting, ...]:
        """Return how it calls the loss at a point, whose hyperparameters of a setting's name come first."""
        names = ("label_smoothing", "dropout_rate")
        given = {name: float(str(value)) for name, value in (point or {}).items() if name in names}
        return tuple(
            LossSetting(**{**setting.model_dump(exclude_none=True), **given}) for setting in self.loss_settings
        )

    def batch_size_for(self, workload: WorkloadSpec) -> int:
        """Return the global batch size: for the workload, else for its family, else the reference size."""
        sizes = self.batch_sizes.get(workload.scale, {})
        return sizes.get(workload.name, sizes.get(workload.family, workload.reference_batch_size))
