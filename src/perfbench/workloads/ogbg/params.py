"""Parameters of the family: variants differ in these and in nothing else."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from perfbench.spec.base import Spec

HELD_OUT_FILES = ("validation/*", "test/*")
"""Patterns of prepared files that hold evaluation examples: a confined trainer cannot read them."""

ATOM_CATEGORIES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
"""Size of each atom column: atomic number, chirality, degree, charge, hydrogens, radical electrons, hybridisation,
aromatic, in a ring. Source: Open Graph Benchmark, ``features.py``."""

BOND_CATEGORIES = (5, 6, 2)
"""Size of each bond column: type, stereo, conjugated."""


class Scoring(StrEnum):
    """Which graphs of a split are scored, and which tasks count."""

    EXACT = "exact"
    """Every graph once; a task counts if its labels have both classes (the rule of the Open Graph Benchmark)."""
    AS_PUBLISHED = "as_published"
    """Only the graphs of complete batches, as the predecessor scored on several devices (74.5 % of a split), and a
    task without negatives counts as 1, because missing labels and padding were taken for negatives."""


class Params(Spec):
    """Model and data of one variant at one scale."""

    latent_width: int = Field(ge=1)
    hidden_widths: tuple[int, ...] = Field(min_length=1)
    """Layers of every update."""
    num_rounds: int = Field(ge=1)
    activation: Literal["relu", "gelu", "silu"]
    """``gelu`` is its approximation by tanh."""
    dropout_rate: float = Field(ge=0, lt=1)
    """After the activations of the updates, unless a submission sets another rate."""
    num_tasks: int = Field(ge=2)
    num_packs: int = Field(ge=1)
    """A batch is cut into so many packs, whatever the number of ranks; ranks share them equally."""
    atoms_per_graph: int = Field(ge=1)
    """Room of a pack, for each graph of its share of the batch."""
    bonds_per_graph: int = Field(ge=1)
    scoring: Scoring
    published_eval_batch_size: int = Field(ge=1)
    """Used by ``scoring: as_published``: graphs of an evaluation batch of the predecessor."""
    eval_train_examples: int = Field(ge=1)
    expected_counts: dict[Literal["train", "validation", "test", "atoms", "bonds"], int]
    """Asserted against the prepared data."""
