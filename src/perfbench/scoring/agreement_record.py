"""What is known of the parts of a board, as one file: what a sweep's plan says of the part that it asks for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from perfbench.errors import ResultsError
from perfbench.results.files import MOST_FACT_BYTES, read_regular_file
from perfbench.scoring.fewer_trials import agreement_of, drawn_boards
from perfbench.scoring.subset_tables import SmallerBoards
from perfbench.spec.base import Spec

_NUM_DRAWS = 100
_ROUNDING = 1e-6
"""Of costs in the file."""


class PartOfBoard(Spec):
    """Some workloads, without their held-out variants."""

    workloads: tuple[str, ...]
    cost: float
    """Share of the whole board's budget, variants, studies and trials included, that one trial of each costs."""
    tau: tuple[tuple[float, ...], ...]
    """``[studies - 1][trials - 1]``: mean of Kendall's tau with the whole board, in sample."""


class ValidatedAt(Spec):
    """What the best choice at a cost is worth on submissions that it was made without."""

    cost: float
    tau: float
    low: float
    high: float


class AgreementRecord(Spec):
    """Of one board: by how many of its own submissions a part of it can be judged."""

    schema_version: int = 1
    board: str
    num_submissions: int
    num_studies: int = Field(ge=1)
    num_trials: int = Field(ge=1)
    repeated: float
    """Tau of the whole board with itself, its studies drawn again."""
    validated: tuple[ValidatedAt, ...]
    """The cheapest first."""
    parts: tuple[PartOfBoard, ...]

    @classmethod
    def read(cls, path: Path) -> AgreementRecord:
        """Read a file.

        Raises:
            ResultsError: If it is not one.
        """
        content = read_regular_file(path, max_bytes=MOST_FACT_BYTES)
        return cls.from_json(content, where=str(path), error=ResultsError)

    def to_lines(self) -> bytes:
        """Return the file, a line for each part, so that differences can be read."""
        head = self.model_copy(update={"parts": (), "validated": ()}).to_json(indent=None).rstrip("}")
        head = head.split(',"validated"')[0]
        validated = ",\n".join(one.to_json(indent=None) for one in self.validated)
        parts = ",\n".join(one.to_json(indent=None) for one in self.parts)
        return f'{head},\n"validated":[\n{validated}\n],\n"parts":[\n{parts}\n]}}\n'.encode()

    def expected(self, workloads: Collection[str], *, num_studies: int, num_trials: int) -> Expected | None:
        """Return what may be expected of a part; ``None`` where nothing is known of it."""
        part = next((one for one in self.parts if set(one.workloads) == set(workloads)), None)
        if part is None or not (1 <= num_studies <= self.num_studies and 1 <= num_trials <= self.num_trials):
            return None
        cost = part.cost * num_studies * num_trials
        paid = [one for one in self.validated if one.cost <= cost + _ROUNDING]
        return Expected(cost, part.tau[num_studies - 1][num_trials - 1], paid[-1] if paid else None)


class Expected(NamedTuple):
    """What may be expected of a part of a board."""

    cost: float
    """Share of the whole board."""
    in_sample: float
    validated: ValidatedAt | None
    """Of the best choice at this cost: it need not be this one."""


def record_of(boards: SmallerBoards, *, seed: int = 0) -> AgreementRecord:
    """Return what is known of every part of a board, by our names of its workloads."""
    times, subsets = boards.subsets.times, boards.subsets.subsets
    num_studies, num_trials = times.times_s.shape[2:]
    drawn = list(drawn_boards(times, _NUM_DRAWS, np.random.default_rng(seed)))
    everyone = np.ones(len(times.submissions), dtype=np.bool_)
    found = agreement_of(drawn, times.medians(), subsets.masks(), times.benchmark, everyone).mean(axis=1)
    ours = {theirs: own for own, theirs in times.benchmark.exported_names.items()}
    by_members = {}
    for number, subset in enumerate(subsets.chosen):
        if subset.members not in by_members or not subset.has_variants:
            by_members[subset.members] = number
    parts = []
    for number in sorted(by_members.values()):
        tau = np.round(found[:, number].reshape(num_studies, num_trials), 2)
        parts.append(
            PartOfBoard(
                workloads=tuple(ours.get(name, name) for name in subsets.names(number)),
                cost=round(float(subsets.cost[number]) / (num_studies * num_trials), 8),
                tau=tuple(tuple(row) for row in tau.tolist()),
            )
        )
    return AgreementRecord(
        board=times.benchmark.name,
        num_submissions=len(times.submissions),
        num_studies=num_studies,
        num_trials=num_trials,
        repeated=round(boards.subsets.repeated.value, 3),
        validated=tuple(
            ValidatedAt(
                cost=round(one.cost, 8),
                tau=round(one.validated.value, 3),
                low=round(one.validated.low, 3),
                high=round(one.validated.high, 3),
            )
            for one in boards.designs
        ),
        parts=tuple(parts),
    )
