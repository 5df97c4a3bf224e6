"""What a trial leaves behind: measurements, the accounting of its time, and its outcome."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from perfbench.spec.base import Spec


class Phase(StrEnum):
    """What the clock is counting. Exactly one phase runs at any time of a trial."""

    COMPILE = "compile"
    SCORED = "scored"
    EVAL = "eval"
    CHECKPOINT = "checkpoint"
    LOGGING = "logging"
    IDLE = "idle"


EVAL_SHARE_LIMIT = 0.2
"""More evaluation than this, as a share of training and evaluation, is worth a warning.

Source: AlgoPerf's documentation (docs/DOCUMENTATION.md) promises "between 10% and 20%"; users saw 75 % (issue 858).
"""


class PhaseTimes(Spec):
    """Seconds in each phase; together they are the wall time. Data wait is no phase: it lies inside the scored one."""

    compile: float = Field(default=0.0, ge=0)
    scored: float = Field(default=0.0, ge=0)
    eval: float = Field(default=0.0, ge=0)
    checkpoint: float = Field(default=0.0, ge=0)
    logging: float = Field(default=0.0, ge=0)
    idle: float = Field(default=0.0, ge=0)
    data_wait: float = Field(default=0.0, ge=0)
    """Seconds of ``scored`` in which the host waited for training batches; 0 in records of schema version 1."""

    def wall_s(self) -> float:
        """Return the sum of all phases in seconds."""
        return math.fsum((self.compile, self.scored, self.eval, self.checkpoint, self.logging, self.idle))

    def accounts(self) -> dict[str, float]:
        """Return seconds by account, the wait for data taken out of the scored phase; they add up to the wall time.

        >>> PhaseTimes(scored=3.0, eval=1.0, data_wait=0.5).accounts()["scored"]
        2.5
        """
        seconds: dict[str, float] = {}
        for phase in Phase:
            seconds[phase.value] = getattr(self, phase.value)
            if phase is Phase.SCORED:
                seconds["scored"] = max(0.0, self.scored - self.data_wait)
                seconds["data wait"] = min(self.scored, self.data_wait)
        return seconds

    def eval_share(self) -> float:
        """Return evaluation as a share of training and evaluation; 0 before either.

        >>> PhaseTimes(scored=30.0, eval=10.0).eval_share()
        0.25
        """
        both_s = self.scored + self.eval
        return self.eval / both_s if both_s else 0.0


class Measurement(Spec):
    """One evaluation. Written the moment it is known, never changed."""

    kind: Literal["measurement"] = "measurement"
    attempt: int = Field(ge=1)
    """How often the trial had been started when this was measured."""
    step: int = Field(ge=0)
    submission_time_s: float = Field(ge=0)
    """Seconds on the clock, the slowest rank's."""
    charged_s: float = Field(default=0.0, ge=0)
    """Of them, what was charged for work that was done where the submission should have rested."""
    metrics: dict[str, float]
    """``<split>/<name>``, and ``<split>/num_examples``."""
    phases: PhaseTimes
    """Accumulated over all attempts, rank 0's."""
    wall_time_utc: str
    """ISO 8601, for people: no rule reads it."""
    chain: str | None = None
    """Digest of the line before this one in the file."""


class Resumed(Spec):
    """A later attempt went on from a checkpoint: earlier attempts' measurements after that step are void."""

    kind: Literal["resumed"] = "resumed"
    attempt: int = Field(ge=2)
    from_step: int = Field(ge=0)
    submission_time_s: float = Field(ge=0)
    lost_s: float = Field(default=0.0, ge=0)
    """Seconds on the clock after that step, which are done again and counted then; read from the last pulse, so
    up to half a second short."""
    wall_time_utc: str
    chain: str | None = None
    """Digest of the line before this one in the file."""


MeasurementRecord = Annotated[Measurement | Resumed, Field(discriminator="kind")]


class TargetReached(Spec):
    """An evaluation inside the budget reached the target."""

    kind: Literal["reached"] = "reached"
    step: int
    submission_time_s: float


class BudgetSpent(Spec):
    """Time or steps ran out before the target was reached."""

    kind: Literal["budget_spent"] = "budget_spent"
    resource: Literal["time", "steps"]
    step: int
    submission_time_s: float


class Diverged(Spec):
    """An evaluation gave no finite number for the target's metric, or the submission found numbers not finite."""

    kind: Literal["diverged"] = "diverged"
    step: int
    submission_time_s: float
    metric: str
    message: str = ""
    """What the submission found; empty where an evaluation showed it."""

    @property
    def what(self) -> str:
        """Return what was not finite, for people."""
        return self.message or f"{self.metric} is not finite"


class Completed(Spec):
    """The submission said that it has nothing more to do, short of the target."""

    kind: Literal["completed"] = "completed"
    step: int
    submission_time_s: float


class FailureReason(StrEnum):
    """Why a trial crashed."""

    OUT_OF_MEMORY = "oom"
    SUBMISSION = "submission"
    DATA = "data"
    NODE = "node"
    HANG = "hang"
    ENGINE = "engine"


class Crashed(Spec):
    """The trial ended with an error: always recorded, never a skipped evaluation."""

    kind: Literal["crashed"] = "crashed"
    reason: FailureReason
    rank: int
    error_type: str
    message: str
    step: int


Outcome = Annotated[TargetReached | BudgetSpent | Diverged | Completed | Crashed, Field(discriminator="kind")]


class TrialResult(Spec):
    """The end of a trial. Stored as ``result.json``, written once, atomically."""

    schema_version: Literal[1, 2, 3] = 3
    """Version 2 added ``phases.data_wait``, version 3 ``charged_s``, ``chain`` and what follows
    ``num_recompiles_after_warmup``."""
    trial_identity: str
    outcome: Outcome
    scorable: bool
    num_attempts: int
    num_steps: int
    num_batches: int | None = None
    """Batches that the submission took, rank 0's: more than steps where one call makes several updates. ``null`` in
    earlier records and after a crash."""
    num_measurements: int
    phases: PhaseTimes
    lost_s: float = Field(default=0.0, ge=0)
    """Seconds on the clock that interruptions cost: done again, counted once; the sum over all resumes."""
    charged_s: float = Field(default=0.0, ge=0)
    """Seconds on the clock for work where the submission should have rested, or that its own end threw away."""
    chain: str | None = None
    """Digest of the last line of the measurements."""
    num_recompiles_after_warmup: int
    num_compiled_graphs: int | None = None
    """By the last attempt's trainer; a trial in which nothing was compiled is not scorable. ``null`` if it crashed."""
    num_processors: float | None = Field(default=None, ge=0)
    """Kept busy by rank 0's trainer and all that it started while the clock scored, on average over the last attempt;
    ``null`` in earlier records and after a crash."""
    changed_switches: tuple[str, ...] = ()
    """Threads, precision and backend flags that were others at the end than before there was a submission."""
    suspended_s: float = Field(default=0.0, ge=0)
    """Seconds in which the trial's processes could not run (a suspended job): the clock does not stop for them."""
    best_metric: float | None
    best_test_metric: float | None = None

    @property
    def time_to_target_s(self) -> float:
        """Seconds on the clock until the target was reached; infinite where it was not."""
        return self.outcome.submission_time_s if isinstance(self.outcome, TargetReached) else math.inf
