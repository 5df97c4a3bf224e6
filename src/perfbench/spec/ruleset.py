"""Every number of the rules. The values are in ``configs/ruleset/``; no other place may hold one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from perfbench.spec.base import MOST_CHARACTERS, VERSION_PATTERN, Spec
from perfbench.spec.workload import Split


class CompileRule(StrEnum):
    """Whether the first compilation counts on the clock."""

    SCORED = "scored"
    UNSCORED = "unscored"


class Precision(StrEnum):
    """In what numbers models compute on a GPU. Parameters and optimizer state are float32 under every rule.

    A CPU knows no TF32: there, ``fp32`` and ``tf32`` are the same.
    """

    FP32 = "fp32"
    """Float32 everywhere."""
    TF32 = "tf32"
    """Products of matrices, convolutions and recurrent layers read their inputs with 10 bits of mantissa. AlgoPerf v1.0
    ran so on A100."""
    BF16 = "bf16"
    """As ``tf32``, and where torch's autocast finds it safe the model computes in bfloat16."""


class ScoringRule(Spec):
    """How times become scores (DESIGN section 10)."""

    tau_max: float = Field(gt=1)
    """The performance profile is integrated from 1 to this ratio."""
    max_ratio_to_fastest: float = Field(gt=1)
    """A slower workload score counts as not reached."""
    held_out_required: bool
    """A base workload counts only where its sampled held-out variant is reached too."""
    integration: Literal["exact", "grid"]
    grid_points: int = Field(ge=2)
    """Used by ``grid`` integration only."""


class WorkloadBudget(Spec):
    """What rules grant a workload instead of its own budget."""

    step_hint: int = Field(ge=1)
    max_submission_time_s: float = Field(gt=0)
    """Before the ruleset's factor."""
    eval_period_s: float | None = Field(default=None, gt=0)
    """``null`` keeps the workload's own."""


class _RulesetBase(Spec):
    version: str = Field(pattern=VERSION_PATTERN)
    source: str = Field(max_length=MOST_CHARACTERS)
    num_studies: int = Field(ge=1, le=1000)
    num_trials: int = Field(ge=1, le=10_000)
    """Per study; the fastest counts."""
    budget_factor: float = Field(gt=0)
    """Multiplies the workload's time budget."""
    step_cap_factor: float | None = Field(gt=0)
    """Multiplies the workload's step hint to a limit on steps; ``null`` for none."""
    full_scale_budgets: dict[str, WorkloadBudget] = Field(default_factory=dict)
    """By family, for it and its variants at full scale; others keep their own. Laid over the workload when a request is
    composed."""
    compile: CompileRule
    precision: Precision = Precision.TF32
    evaluated_splits: tuple[Split, ...] = Field(min_length=1)
    scoring: ScoringRule

    def setting(self) -> str:
        """Return kind, version and, unless it is the usual one, precision: trials of two settings share no board."""
        kind: str = getattr(self, "kind")  # noqa: B009 - each kind of ruleset has it as a literal of its own
        unusual = "" if self.precision is Precision.TF32 else f" {self.precision}"
        return f"{kind} v{self.version}{unusual}"


class ExternalTuning(_RulesetBase):
    """Trials of a study run points of the submission's search space."""

    kind: Literal["external"] = "external"


class SelfTuning(_RulesetBase):
    """One trial per study; all tuning happens on the clock."""

    kind: Literal["self_tuning"] = "self_tuning"
    num_trials: Literal[1] = 1


Ruleset = Annotated[ExternalTuning | SelfTuning, Field(discriminator="kind")]
