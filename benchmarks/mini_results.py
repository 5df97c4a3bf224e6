"""What the mini board has seen: one JSON file of results in the repository, from which its page is drawn.

A trial that stands here is not run again, on whichever machine the board goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from perfbench.errors import ResultsError
from perfbench.results.files import MOST_FACT_BYTES, read_regular_file, write_text_atomically
from perfbench.spec.base import Spec
from perfbench.spec.workload import Direction, Target
from perfbench.spec.yaml_files import read_yaml_mapping

SCHEMA_VERSION = 1
REACHED = "reached"


class Ran(Spec):
    """One trial of the mini board."""

    workload: str
    submission: str
    point: int = Field(ge=1)
    """Of the submission's search space, as published; 1 under self-tuning."""
    factor: float = Field(default=1.0, gt=0)
    """What the point's learning rate was multiplied by."""
    outcome: str
    """``reached``, or how the trial ended otherwise."""
    step: int | None = None
    """At the target."""
    submission_time_s: float | None = None
    """At the target; of a busy machine."""
    num_steps: int = 0
    best_metric: float | None = None
    machine: str = ""
    date: str = ""
    engine: str = ""
    """What of the engine makes seconds incomparable with other rows; empty for the present one."""


class Results(Spec):
    """Everything that has run, in the order in which it ran."""

    schema_version: int = SCHEMA_VERSION
    num_evaluations: int
    """Per step budget: a step at the target is known to this part of the budget."""
    ran: tuple[Ran, ...] = ()

    @classmethod
    def read(cls, path: Path, *, num_evaluations: int) -> Results:
        """Read the file; nothing has run where it is missing.

        Raises:
            ResultsError: If it is not such a file, or evaluates otherwise.
        """
        if not path.exists():
            return cls(num_evaluations=num_evaluations)
        found = cls.from_json(read_regular_file(path, max_bytes=MOST_FACT_BYTES), where=str(path), error=ResultsError)
        if (found.schema_version, found.num_evaluations) != (SCHEMA_VERSION, num_evaluations):
            raise ResultsError(
                f"version {found.schema_version}, {found.num_evaluations} evaluations; "
                f"this program has {SCHEMA_VERSION} and {num_evaluations}",
                where=str(path),
                hint="move it away, or give another --results",
            )
        return found

    def write(self, path: Path) -> None:
        """Replace the file, a line per trial, so that differences can be read."""
        lines = ",\n  ".join(one.to_json(indent=None) for one in self.ran)
        head = f'{{\n "schema_version": {self.schema_version},\n "num_evaluations": {self.num_evaluations},\n'
        write_text_atomically(path, f'{head} "ran": [\n  {lines}\n ]\n}}\n')

    def with_one(self, ran: Ran) -> Results:
        """Return the results with one trial more; an earlier one of the same name is replaced."""
        kept = tuple(one for one in self.ran if _name(one) != _name(ran))
        return self.model_copy(update={"ran": (*kept, ran)})

    def of(self, workload: str, submission: str, factor: float) -> list[Ran]:
        """Return the trials of a submission on a workload with a factor, by point."""
        wanted = [
            one for one in self.ran if (one.workload, one.submission, one.factor) == (workload, submission, factor)
        ]
        return sorted(wanted, key=lambda one: one.point)


def _name(ran: Ran) -> tuple[str, str, int, float]:
    return ran.workload, ran.submission, ran.point, ran.factor


class PublishedBoard(Spec):
    """Scores of a published board, by our names."""

    name: str
    source: str
    scores: dict[str, float]


class Published(Spec):
    """``benchmarks/published_boards.yaml``."""

    order: tuple[str, ...]
    rescaled_on: str
    boards: tuple[PublishedBoard, ...]

    @classmethod
    def read(cls, path: Path) -> Published:
        """Read the file.

        Raises:
            ConfigError: If it is not one.
        """
        return cls.from_mapping(read_yaml_mapping(path), where=path.name)

    def entries(self) -> list[str]:
        """Return the entries of all boards, each once, in the boards' order."""
        return list(dict.fromkeys(name for board in self.boards for name in board.scores))


class Best(NamedTuple):
    """What a submission did on a workload: the trial that reached the target, else the best of those that ran."""

    ran: Ran
    num_tried: int
    is_over: bool
    """Whether the target is reached, or no point is left to try."""

    @property
    def steps(self) -> float:
        """Return the steps to the target; infinite where it was not reached."""
        return math.inf if self.ran.step is None else float(self.ran.step)

    @property
    def seconds(self) -> float:
        """Return the seconds to the target; infinite where it was not reached."""
        return math.inf if self.ran.submission_time_s is None else self.ran.submission_time_s


def best_of(found: Sequence[Ran], target: Target, *, num_points: int) -> Best | None:
    """Return the first point that reached the target, else the one that came closest; nothing if nothing has run."""
    if not found:
        return None
    reached = [one for one in found if one.outcome == REACHED]
    if reached:
        return Best(reached[0], len(found), is_over=True)
    return Best(min(found, key=lambda one: loss_of(one, target)), len(found), is_over=len(found) >= num_points)


def loss_of(ran: Ran, target: Target) -> float:
    """Return a trial's best metric, turned so that less is better; infinite where there is none."""
    if ran.best_metric is None or not math.isfinite(ran.best_metric):
        return math.inf
    return ran.best_metric if target.direction is Direction.MINIMIZE else -ran.best_metric


def best_factor(tried: Sequence[Ran], target: Target) -> float | None:
    """Return the factor of the rate with the fewest steps to the target, else with the best metric.

    The smaller change of the rate wins where two are equal: one evaluation in forty is what can be told apart.
    """
    if not tried:
        return None

    def rank(one: Ran) -> tuple[float, float, float]:
        steps = math.inf if one.step is None else float(one.step)
        return steps, loss_of(one, target) if math.isinf(steps) else 0.0, abs(math.log(one.factor))

    return min(tried, key=rank).factor
