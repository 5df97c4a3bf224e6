"""A named set of workloads."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from perfbench.spec.base import MOST_CHARACTERS, Spec


class Selection(StrEnum):
    """How a suite chooses its workloads."""

    LISTED = "listed"
    BASES = "bases"
    """The base of every family on disk."""
    EVERYTHING = "everything"
    """All workloads on disk, variants included."""


class Suite(Spec):
    """Which workloads a suite has: ``configs/suite/<name>.yaml``."""

    description: str = Field(default="", max_length=MOST_CHARACTERS)
    """What it is for, and what may be expected of it."""
    select: Selection
    workloads: tuple[str, ...] = Field(default=())
    """If they are listed."""

    @model_validator(mode="after")
    def _lists_what_is_listed(self) -> Suite:
        if (self.select is Selection.LISTED) != bool(self.workloads):
            msg = "workloads are given if, and only if, select is 'listed'"
            raise ValueError(msg)
        return self
