"""What reading gives: trials as columns of numbers, and complaints about what was not as it should be.

One form for our own trial folders and for published logs, so that scoring knows only this module. Nothing here
opens a file, and nothing decides whether a target was reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from perfbench.errors import printable
from perfbench.results.files import digest_of_line
from perfbench.spec.code import CodeRecord
from perfbench.spec.environment import Environment, Isolation
from perfbench.spec.replay import Replay, ReplayVerdict
from perfbench.spec.result import Measurement, Outcome, Resumed, TrialResult
from perfbench.spec.run import TrialSpec, WallClockSchedule
from perfbench.spec.submission import HyperparameterPoint, SubmissionSpec

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class TrialKey(NamedTuple):
    """What a trial is called; sorts as people list trials."""

    submission: str
    workload: str
    study: int
    trial: int
    explored: str = ""
    """Of an explored trial: what differs from the first trial of study 0."""

    def __str__(self) -> str:
        """Return the name for people."""
        if self.explored:
            return f"{self.submission} on {self.workload}, explored {self.explored}"
        return f"{self.submission} on {self.workload}, study {self.study}, trial {self.trial}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something on disk that is not as it should be; everything else was read."""

    path: Path
    what: str
    is_harmless: bool = False
    """True where the format allows it (a line torn by a crash): shown, but never a reason to refuse."""

    def __str__(self) -> str:
        """Return the line that people see: the file first."""
        return f"{printable(self.path)}: " + "\n".join(map(printable, self.what.split("\n")))


@dataclass(frozen=True, slots=True, eq=False)
class TrialLog:
    """One trial as scoring needs it: an evaluation per element, oldest first, voided ones left out."""

    key: TrialKey
    path: Path
    steps: Integers
    submission_times_s: Floats
    target_metric: Floats
    """The target's metric; NaN where the evaluation did not give one."""
    is_scorable: bool = True
    """False where the rules exclude the trial: evaluated by steps, explored, or continued with changed code."""
    why_unscorable: str = ""
    """In words for people; empty where it is scorable."""
    is_finished: bool = True
    """False while the trial may still go on."""
    is_started: bool = True
    """False where a trial was planned and nothing of it has run."""
    outcome: Outcome | None = None
    """How it ended by its own record; published logs have none."""
    hyperparameters: HyperparameterPoint | None = None
    """The trial's point; ``None`` under self-tuning and in published logs."""
    adapted: str = ""
    """Of a submission whose interface is not ours: whose it is and what its runner's part was; empty for all others."""
    isolation: Isolation | None = None
    """The weakest of its attempts; ``None`` in published logs and in records of before there were levels."""
    replay: ReplayVerdict | None = None
    """Of this very record; ``None`` where nobody has run it again, or the record was changed since."""

    def __len__(self) -> int:
        """Return the number of evaluations."""
        return len(self.steps)


@dataclass(frozen=True, slots=True, eq=False)
class RecordedTrial:
    """Everything one trial folder of ours holds."""

    path: Path
    spec: TrialSpec
    records: tuple[Measurement | Resumed, ...]
    """As written, oldest first."""
    measurements: tuple[Measurement, ...]
    """Those that count."""
    result: TrialResult | None
    environment: Environment | None
    """Of the latest attempt."""
    earlier_environments: tuple[Environment, ...] = ()
    """Of attempts whose work is a part of the trial."""
    code: CodeRecord | None = None
    """Which code it began with; ``None`` in records of earlier versions."""
    replay: Replay | None = None
    """What running it again has shown, if somebody did."""

    def chain(self) -> str:
        """Return the digest of the last record as it stands in the file; of nothing where there is none."""
        return digest_of_line(self.records[-1].to_json(indent=None) if self.records else "")

    @property
    def key(self) -> TrialKey:
        """Return what the trial is called."""
        spec = self.spec
        return TrialKey(spec.submission.name, spec.workload.name, spec.study, spec.trial, spec.explored or "")

    def log(self) -> TrialLog:
        """Return the columns that scoring needs."""
        metric = self.spec.target.metric
        why = why_unscorable(self.spec, self.code, self.result)
        return TrialLog(
            key=self.key,
            path=self.path,
            steps=np.array([one.step for one in self.measurements], dtype=np.int64),
            submission_times_s=np.array([one.submission_time_s for one in self.measurements], dtype=np.float64),
            target_metric=np.array([one.metrics.get(metric, np.nan) for one in self.measurements], dtype=np.float64),
            is_scorable=not why,
            why_unscorable=why,
            is_finished=self.result is not None,
            is_started=bool(self.records) or self.result is not None or self.environment is not None,
            outcome=None if self.result is None else self.result.outcome,
            hyperparameters=self.spec.hyperparameters,
            adapted=_adapted(self.spec.submission),
            isolation=self.isolation(),
            replay=self.replay.verdict if self.replay is not None and self.replay.chain == self.chain() else None,
        )

    def isolation(self) -> Isolation | None:
        """Return the weakest isolation of the attempts whose work is a part of the trial."""
        environments = [one for one in (*self.earlier_environments, self.environment) if one is not None]
        levels = [one.isolation for one in environments]
        if not levels or None in levels:
            return None
        return min((level for level in levels if level is not None), key=list(Isolation).index)


def why_unscorable(spec: TrialSpec, code: CodeRecord | None, result: TrialResult | None) -> str:
    """Say in words for people why the rules exclude a trial; nothing where they do not."""
    if spec.explored is not None:
        return "explored by hand"
    if not isinstance(spec.evaluation, WallClockSchedule):
        return "evaluated after fixed steps, not by wall clock"
    if not spec.is_scorable():
        return "referee and submission were one process"
    if code and code.changes:
        return "continued with changed code"
    if result is not None and not result.scorable:
        return "nothing was compiled" if result.num_compiled_graphs == 0 else "not scorable by its own record"
    return ""


def _adapted(submission: SubmissionSpec) -> str:
    if submission.form == "native":
        return ""
    options = ", ".join(f"{name} {value}" for name, value in sorted(submission.options.items()))
    return f"AlgoPerf's interface, adapted ({options})" if options else "AlgoPerf's interface, adapted"


@dataclass(slots=True)
class Reading:
    """What was found under some paths."""

    trials: list[RecordedTrial] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)


def without_duplicates(trials: Iterable[RecordedTrial], complaints: list[Complaint]) -> list[RecordedTrial]:
    """Keep the first trial of each name and setting, sorted; complain about the others."""
    kept: dict[tuple[str, str, str, TrialKey], RecordedTrial] = {}
    for trial in trials:
        name = (trial.spec.scale.name, trial.spec.scale.target, trial.spec.ruleset.setting(), trial.key)
        if name in kept:
            complaints.append(Complaint(trial.path, f"left out: {trial.key} is also in {kept[name].path}"))
        else:
            kept[name] = trial
    return [kept[name] for name in sorted(kept)]


def is_sorted(values: Sequence[float] | Floats | Integers) -> bool:
    """Tell whether the values never fall.

    >>> is_sorted([1.0, 1.0, 2.0]), is_sorted([2.0, 1.0])
    (True, False)
    """
    return bool(np.all(np.diff(np.asarray(values)) >= 0))
