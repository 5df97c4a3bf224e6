"""Whether trials that are compared were asked for alike, and are trials of their own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from perfbench.results.trials import RecordedTrial
from perfbench.scoring.finding import Finding
from perfbench.spec.result import Measurement

_LEAST_EVALUATIONS = 2
"""Fewer may be equal by chance: a first accuracy of 0.1 says nothing."""
_TELLING_CHARACTERS = 10
"""So many digits are never equal by chance."""


def _space_of(trial: RecordedTrial) -> str:
    space = trial.spec.submission.search_space
    return "none" if space is None else space.model_dump_json()


_OF_A_WORKLOAD: dict[str, Callable[[RecordedTrial], str]] = {
    "target": lambda trial: f"{trial.spec.target.metric} {trial.spec.target.threshold}",
    "budget": lambda trial: f"{trial.spec.max_submission_time_s} s",
    "limit of steps": lambda trial: str(trial.spec.max_steps),
    "evaluation period": lambda trial: f"{trial.spec.workload.eval_period_s} s",
    "workload version": lambda trial: str(trial.spec.workload.version),
    "data set": lambda trial: trial.spec.workload.dataset,
    "determinism": lambda trial: "required" if trial.spec.deterministic else "not required",
}
_OF_A_SUBMISSION: dict[str, Callable[[RecordedTrial], str]] = {
    "batch size": lambda trial: str(trial.spec.global_batch_size),
    "search space": _space_of,
    "options": lambda trial: str(dict(trial.spec.submission.options)),
    "submission version": lambda trial: str(trial.spec.submission.version),
    "run seed": lambda trial: str(trial.spec.run_seed),
}


def requests_agree(trials: Sequence[RecordedTrial]) -> Iterator[Finding]:
    """Trials on a workload have one target, budget and data set; those of a submission on it one space and run seed."""
    on_workloads: dict[str, list[RecordedTrial]] = defaultdict(list)
    of_submissions: dict[str, list[RecordedTrial]] = defaultdict(list)
    for trial in trials:
        place = _workload_of(trial)
        on_workloads[place].append(trial)
        of_submissions[f"{trial.key.submission} on {place}"].append(trial)
    for facts, groups in ((_OF_A_WORKLOAD, on_workloads), (_OF_A_SUBMISSION, of_submissions)):
        for place, members in groups.items():
            for name, describe in facts.items():
                values: dict[str, list[RecordedTrial]] = defaultdict(list)
                for member in members:
                    values[describe(member)].append(member)
                yield from _the_fewer(name, place, values)


def _workload_of(trial: RecordedTrial) -> str:
    return f"{trial.key.workload} at scale {trial.spec.scale.name} by {trial.spec.ruleset.setting()}"


def _the_fewer(name: str, place: str, values: dict[str, list[RecordedTrial]]) -> Iterator[Finding]:
    if len(values) == 1:
        return
    common = max(values, key=lambda value: len(values[value]))
    for value, members in values.items():
        if value != common:
            others = f" and {len(members) - 1} more" if len(members) > 1 else ""
            what = f"{name} {value!r}{others}, but most trials of {place} have {common!r}"
            yield Finding("request", members[0].path, what)


def metrics_differ(trials: Sequence[RecordedTrial]) -> Iterator[Finding]:
    """No two trials of a submission on a workload found the same numbers: other seeds never do."""
    seen: dict[tuple[object, ...], RecordedTrial] = {}
    for trial in trials:
        if not any(map(_is_telling, trial.measurements)) and len(trial.measurements) < _LEAST_EVALUATIONS:
            continue
        last = trial.measurements[-1]
        place = (trial.key.submission, trial.key.workload, last.step, *last.metrics.values())
        first = seen.setdefault(place, trial)
        if first.spec.trial_seed != trial.spec.trial_seed and _numbers(first) == _numbers(trial):
            yield Finding("seed", trial.path, f"every metric is equal to that of {first.path}, of another seed")


def _is_telling(measurement: Measurement) -> bool:
    return any(len(repr(value)) > _TELLING_CHARACTERS for value in measurement.metrics.values())


def _numbers(trial: RecordedTrial) -> list[tuple[int, dict[str, float]]]:
    return [(one.step, one.metrics) for one in trial.measurements]


def result_is_there(trial: RecordedTrial) -> Iterator[Finding]:
    """A trial that was begun has an end."""
    if trial.result is None and (trial.records or trial.environment is not None):
        yield Finding("missing", trial.path, "no result.json: it runs, or was interrupted")


def little_was_lost(trial: RecordedTrial) -> Iterator[Finding]:
    """Interruptions did not cost more than the trial itself: many attempts may be somebody's choice among them."""
    result = trial.result
    if result is None or not trial.measurements:
        return
    own_s = trial.measurements[-1].submission_time_s
    if result.lost_s > own_s:
        what = (
            f"{result.lost_s:.1f} s were lost in {result.num_attempts} attempts, more than the {own_s:.1f} s that count"
        )
        yield Finding("attempts", trial.path, what)
