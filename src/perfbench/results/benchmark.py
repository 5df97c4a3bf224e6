"""What trials are scored against: workloads with target and budget, and the rules. Data, from trials or from YAML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import Field, model_validator

from perfbench.results.trials import Complaint, RecordedTrial
from perfbench.spec.base import MOST_CHARACTERS, Spec
from perfbench.spec.ruleset import ScoringRule
from perfbench.spec.workload import Target


class BenchmarkWorkload(Spec):
    """One workload as scoring sees it."""

    target: Target
    max_submission_time_s: float = Field(gt=0)
    """The ruleset's factor included."""
    max_steps: int | None = Field(default=None, ge=1)
    eval_period_s: float | None = Field(default=None, gt=0)
    """Of published runs: seconds between evaluations, by which a version's logs can be told from another's."""
    base: str | None = None
    """Of a held-out variant: the workload that counts only where this variant is reached too."""


class AsPublished(Spec):
    """How a published board differs from the rules, for comparison with it."""

    source: str
    grid_points: int = Field(ge=2)
    """The profile was integrated on a grid of this many points."""
    trial_order: tuple[int, ...] = Field(min_length=1)
    """Of a study the trial with the smallest evaluation index counted, not the smallest time; among equal indices
    the first in this order."""


class Benchmark(Spec):
    """The workloads and rules of one board."""

    name: str = Field(min_length=1, max_length=200)
    source: str = Field(max_length=MOST_CHARACTERS)
    num_studies: int = Field(ge=1)
    num_trials: int = Field(ge=1)
    """Per study."""
    budget_factor: float = Field(default=1.0, gt=0)
    """What the workloads' budgets were multiplied by."""
    hardware: str = ""
    """What published runs were timed on."""
    scoring: ScoringRule
    workloads: dict[str, BenchmarkWorkload] = Field(min_length=1)
    name_suffixes: tuple[str, ...] = ()
    """What folder names of published logs add to a workload's name."""
    exported_names: dict[str, str] = Field(default_factory=dict)
    """What our workloads are called there, where the names differ."""
    as_published: AsPublished | None = None
    is_smoke: bool = False
    """Whether the targets are the easier ones, which say that a run is healthy and not how good it is."""

    @model_validator(mode="after")
    def _bases_are_workloads(self) -> Benchmark:
        for name, workload in self.workloads.items():
            if workload.base is not None and workload.base not in self.base_workloads():
                msg = f"workload {name!r} is a variant of {workload.base!r}, which is no base workload here"
                raise ValueError(msg)
        return self

    def base_workloads(self) -> tuple[str, ...]:
        """Return the names of the workloads that make up the score."""
        return tuple(name for name, workload in self.workloads.items() if workload.base is None)


def split_by_setting(trials: Sequence[RecordedTrial]) -> dict[str, list[RecordedTrial]]:
    """Group trials that may stand on one board: one scale, kind of target, ruleset and precision; none is explored."""
    groups: dict[str, list[RecordedTrial]] = {}
    for trial in (trial for trial in trials if trial.spec.explored is None):
        name = f"{trial.spec.scale.name} {trial.spec.ruleset.setting()} {trial.spec.scale.target} target"
        groups.setdefault(name, []).append(trial)
    return dict(sorted(groups.items()))


def benchmark_of(
    name: str, trials: Sequence[RecordedTrial], complaints: list[Complaint]
) -> tuple[Benchmark, list[RecordedTrial]]:
    """Derive the benchmark from trials of one setting, and leave out trials that measured something else.

    A workload's target, budget and parameters are those of most of its trials. A variant is held out where its
    base workload was run too; otherwise it stands for itself.
    """
    rules = Counter(trial.spec.ruleset.digest(exclude={"source"}) for trial in trials)
    common_rule = rules.most_common(1)[0][0]
    ruleset = next(
        trial.spec.ruleset for trial in trials if trial.spec.ruleset.digest(exclude={"source"}) == common_rule
    )
    common = {
        workload: Counter(_measured(trial) for trial in trials if trial.key.workload == workload).most_common(1)[0][0]
        for workload in sorted({trial.key.workload for trial in trials})
    }
    kept = []
    for trial in trials:
        if trial.spec.ruleset.digest(exclude={"source"}) != common_rule:
            complaints.append(Complaint(trial.path, "left out: its ruleset has other numbers than most trials'"))
        elif _measured(trial) != common[trial.key.workload]:
            what = f"left out: workload {trial.key.workload!r} differs from most trials' (target, budget or parameters)"
            complaints.append(Complaint(trial.path, what))
        else:
            kept.append(trial)
    names = {trial.key.workload for trial in kept}
    workloads = {
        trial.key.workload: BenchmarkWorkload(
            target=trial.spec.target,
            max_submission_time_s=trial.spec.max_submission_time_s,
            max_steps=trial.spec.max_steps,
            base=_base(trial, names),
        )
        for trial in sorted(kept, key=lambda trial: trial.key.workload)
    }
    return Benchmark(
        name=name,
        source="the trials' own run.json",
        num_studies=ruleset.num_studies,
        num_trials=ruleset.num_trials,
        scoring=ruleset.scoring,
        workloads=workloads,
        is_smoke=kept[0].spec.scale.target == "smoke",
    ), kept


def _base(trial: RecordedTrial, names: set[str]) -> str | None:
    spec = trial.spec.workload
    return spec.family if spec.is_variant() and spec.family in names else None


def _measured(trial: RecordedTrial) -> str:
    """Return a digest of what two trials must share for their times to be comparable."""
    spec = trial.spec
    workload = spec.workload.digest(exclude={"description", "eval_batch_size"})
    return f"{workload} {spec.target.digest()} {spec.max_submission_time_s} {spec.max_steps}"
