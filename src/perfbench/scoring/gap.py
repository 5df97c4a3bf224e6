"""What is missing from a board: one fact each, which knows its cause, so that a page can group by it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why something is missing, as a heading."""

    OPEN = "Studies that are not over"
    UNRANKED = "Submissions that cannot be ranked yet"
    LEFT_OUT = "Workloads that nobody has finished"
    PROVISIONAL = "Trials that are not over, counted as measured so far"
    UNSCORABLE = "Trials that the rules exclude"
    NOT_RUN = "Workloads that were not run"
    STUDIES = "Fewer studies than the rules ask for"
    TRIALS = "Fewer trials in a study than the rules ask for"
    CRASHED = "Trials that crashed"


@dataclass(frozen=True, slots=True)
class Gap:
    """One thing that is missing; as text the line that people and programs read."""

    cause: Cause
    subject: str
    """A submission, or a workload that is left out for all."""
    text: str
    submission: str | None = None
    """Whose result it weakens; ``None`` where it is everybody's."""

    def __str__(self) -> str:
        """Return the whole line."""
        return f"{self.subject}: {self.text}"
