"""Whether records can be believed: each check looks for one thing that must not be, and names where it is.

Checks of single trials come first, then checks of trials that are compared with each other. A check yields findings;
it never stops another one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from perfbench.inherited import spoiling
from perfbench.results.benchmark import BenchmarkWorkload
from perfbench.results.trials import RecordedTrial
from perfbench.scoring.finding import Finding
from perfbench.scoring.target import trial_end
from perfbench.scoring.verify_integrity import (
    folder_holds_code,
    isolation_is_known,
    nothing_was_switched,
    pulses_agree,
    records_are_chained,
    replay_agrees,
    rest_was_kept,
)
from perfbench.scoring.verify_requests import little_was_lost, metrics_differ, requests_agree, result_is_there
from perfbench.spec.result import Measurement, Phase, PhaseTimes, Resumed
from perfbench.spec.ruleset import CompileRule
from perfbench.spec.seeds import trial_seed

_CLOCK_TOLERANCE_S = 2.0
"""Between the trial's clock and the wall clock in the records, which is written in whole seconds."""
_ROUNDING_S = 1e-6
_FILES_SHOWN = 3
_PHASES = tuple(phase.value for phase in Phase)
_MOST_LISTED = 20
"""Numbers that one line, or lines that one group of trials is given."""


def verify_trials(trials: Sequence[RecordedTrial]) -> list[Finding]:
    """Run every check."""
    found = [finding for trial in trials for check in _TRIAL_CHECKS for finding in check(trial)]
    compared = [trial for trial in trials if trial.spec.explored is None]
    found += [finding for check in _GROUP_CHECKS for finding in check(compared)]
    return found


def contradictions(trials: Sequence[RecordedTrial]) -> dict[Path, list[Finding]]:
    """Return, by folder, why a trial cannot count: its records contradict one another, or it repeats another trial.

    Of what :func:`verify_trials` finds these are the findings about single trials that no circumstance explains; other
    machines, code that nobody committed and missing trials are for people to judge.
    """
    found: dict[Path, list[Finding]] = defaultdict(list)
    for trial in trials:
        for check in _CONTRADICTION_CHECKS:
            for finding in check(trial):
                found[finding.path].append(finding)
    for finding in seeds_differ(trials):
        found[finding.path].append(finding)
    return dict(found)


# --- one trial --------------------------------------------------------------------------------------------------


def measurements_in_order(trial: RecordedTrial) -> Iterator[Finding]:
    """Steps rise, submission time never falls, attempts never fall."""
    for earlier, later in pairwise(trial.measurements):
        if later.step <= earlier.step:
            yield Finding("order", trial.path, f"step {later.step} was recorded after step {earlier.step}")
        if later.submission_time_s < earlier.submission_time_s:
            what = f"submission time falls from {earlier.submission_time_s} s to {later.submission_time_s} s"
            yield Finding("order", trial.path, f"{what} at step {later.step}")
    for before, after in pairwise(trial.records):
        if after.attempt < before.attempt:
            yield Finding("order", trial.path, f"attempt {after.attempt} was recorded after attempt {before.attempt}")
        if isinstance(before, Measurement) and isinstance(after, Measurement) and after.attempt > before.attempt:
            yield Finding("order", trial.path, f"attempt {after.attempt} measured without saying what it resumed from")


def clock_adds_up(trial: RecordedTrial) -> Iterator[Finding]:
    """No phase runs backwards, scored phases are submission time, and the phases together are the wall time."""
    for measurement in trial.measurements:
        scored_s = measurement.phases.scored
        if trial.spec.ruleset.compile is CompileRule.SCORED:
            scored_s += measurement.phases.compile
        if measurement.submission_time_s < scored_s - _ROUNDING_S:
            what = f"{measurement.submission_time_s} s of submission time, but {scored_s} s were scored"
            yield Finding("clock", trial.path, f"step {measurement.step}: {what}")
    if not _phases_are_sound(trial.measurements):
        for earlier, later in pairwise(trial.measurements):
            yield from _phases_rise(trial, earlier.phases, later.phases, f"at step {later.step}")
            if earlier.attempt == later.attempt:
                yield from _wall_time(trial, earlier, later)
    if trial.result is not None and trial.measurements:
        yield from _phases_rise(trial, trial.measurements[-1].phases, trial.result.phases, "in result.json")


def _phases_are_sound(measurements: Sequence[Measurement]) -> bool:
    """Tell at once what the checks of each pair of measurements would say: thousands of trials have nothing wrong."""
    try:
        wall_s = np.array([datetime.fromisoformat(one.wall_time_utc).timestamp() for one in measurements])
    except (ValueError, TypeError, OverflowError):
        return False
    phases = np.array([[getattr(one.phases, name) for name in _PHASES] for one in measurements]).reshape(
        -1, len(_PHASES)
    )
    spent_s = np.diff(phases, axis=0)
    same_attempt = np.diff([one.attempt for one in measurements]) == 0
    off_s = np.abs(np.diff(wall_s) - spent_s.sum(axis=1))[same_attempt]
    return bool((spent_s >= -_ROUNDING_S).all() and (off_s <= _CLOCK_TOLERANCE_S - _ROUNDING_S).all())


def _phases_rise(trial: RecordedTrial, earlier: PhaseTimes, later: PhaseTimes, where: str) -> Iterator[Finding]:
    for phase in Phase:
        if getattr(later, phase) < getattr(earlier, phase) - _ROUNDING_S:
            yield Finding("clock", trial.path, f"the {phase} phase runs backwards {where}")


def _wall_time(trial: RecordedTrial, earlier: Measurement, later: Measurement) -> Iterator[Finding]:
    try:
        passed = datetime.fromisoformat(later.wall_time_utc) - datetime.fromisoformat(earlier.wall_time_utc)
    except (ValueError, TypeError):
        yield Finding("clock", trial.path, f"wall_time_utc cannot be read at step {later.step}")
        return
    counted_s = later.phases.wall_s() - earlier.phases.wall_s()
    if abs(passed.total_seconds() - counted_s) > _CLOCK_TOLERANCE_S:
        what = f"the phases add up to {counted_s:.1f} s, but {passed.total_seconds():.1f} s passed"
        yield Finding("clock", trial.path, f"up to step {later.step} {what}")


def result_agrees(trial: RecordedTrial) -> Iterator[Finding]:
    """``result.json`` is of this trial and says what the measurements say."""
    result = trial.result
    if result is None:
        return
    if result.trial_identity != trial.spec.identity():
        yield Finding("result", trial.path, "result.json belongs to a trial with another configuration")
    if result.num_measurements != len(trial.measurements):
        what = f"result.json counts {result.num_measurements} measurements, {len(trial.measurements)} are recorded"
        yield Finding("result", trial.path, what)
    spec = trial.spec
    workload = BenchmarkWorkload(
        target=spec.target, max_submission_time_s=spec.max_submission_time_s, max_steps=spec.max_steps
    )
    judged_s = trial_end(trial.log(), workload).time_s
    if judged_s != result.time_to_target_s:
        what = f"result.json says target at {result.time_to_target_s} s, the measurements say {judged_s} s"
        yield Finding("result", trial.path, what)


def seed_is_derived(trial: RecordedTrial) -> Iterator[Finding]:
    """The trial's seed is the one of its run seed, study and trial number."""
    spec = trial.spec
    expected = trial_seed(spec.run_seed, study=spec.study, trial=spec.trial)
    if spec.trial_seed != expected:
        yield Finding("seed", trial.path, f"seed {spec.trial_seed} is not derived from run seed, study and trial")


def code_is_known(trial: RecordedTrial) -> Iterator[Finding]:
    """There is an environment record, the code was committed when it ran, and no switch made it another trial."""
    if trial.environment is None:
        if trial.measurements:
            yield Finding("environment", trial.path, "no environment.json: nobody knows what this ran on")
        return
    if trial.environment.commit is None:
        what = "no commit is on record: the code was no git checkout, or git refused it (is git installed?)"
        yield Finding("environment", trial.path, what)
    elif trial.environment.is_clean_checkout is False:
        yield Finding("environment", trial.path, "the checkout had changes that no commit holds")
    for name in spoiling(trial.environment.switches):
        what = f"{name}={trial.environment.switches[name]} was set: not the trial that the rules describe"
        yield Finding("environment", trial.path, what)


def environment_stays(trial: RecordedTrial) -> Iterator[Finding]:
    """All attempts of a trial ran on the same hardware, software and code."""
    for environment in trial.earlier_environments:
        earlier = dataclasses.replace(trial, environment=environment)
        for name, describe in _ENVIRONMENT.items():
            before, now = describe(earlier), describe(trial)
            if trial.environment is not None and before != now:
                what = f"{name} {before!r} in attempt {environment.attempt}, {now!r} in the last"
                yield Finding("environment", trial.path, what)


def code_stays(trial: RecordedTrial) -> Iterator[Finding]:
    """No attempt ran other code than the trial began with."""
    for change in trial.code.changes if trial.code is not None else ():
        what = f"continued with changed code in attempt {change.attempt}: {', '.join(change.files[:_FILES_SHOWN])}"
        yield Finding("environment", trial.path, what)


def attempts_are_counted(trial: RecordedTrial) -> Iterator[Finding]:
    """No attempt is recorded beyond those that the result counts."""
    last = max((record.attempt for record in trial.records), default=0)
    if trial.result is not None and last > trial.result.num_attempts:
        yield Finding("result", trial.path, f"result.json counts {trial.result.num_attempts} attempts, {last} recorded")
    resumes = [record for record in trial.records if isinstance(record, Resumed)]
    for earlier, later in pairwise(resumes):
        if later.attempt == earlier.attempt:
            yield Finding("order", trial.path, f"attempt {later.attempt} resumed twice")


# --- trials that are compared -------------------------------------------------------------------------------------


def seeds_differ(trials: Sequence[RecordedTrial]) -> Iterator[Finding]:
    """No two trials of a submission on a workload share a seed under one ruleset: studies are for repetition."""
    seen: dict[tuple[str, str, str, int], RecordedTrial] = {}
    for trial in trials:
        where = f"{trial.key.workload} {trial.spec.scale.name}"
        place = (trial.key.submission, where, _rules(trial), trial.spec.trial_seed)
        if place in seen:
            yield Finding("seed", trial.path, f"the same seed as {seen[place].path}: not a repetition")
        seen.setdefault(place, trial)


def _rules(trial: RecordedTrial) -> str:
    """Return which rules and kind of target a trial has: trials with others are repeated on their own."""
    return f"{trial.spec.ruleset.setting()} {trial.spec.scale.target}"


def environments_agree(trials: Sequence[RecordedTrial]) -> Iterator[Finding]:
    """Trials on one workload ran on the same hardware, software and code; the fewer are named."""
    for name, describe in _ENVIRONMENT.items():
        groups: dict[str, dict[str, list[RecordedTrial]]] = defaultdict(lambda: defaultdict(list))
        for trial in trials:
            if trial.environment is not None:
                place = f"{trial.key.workload} at scale {trial.spec.scale.name}"
                if name == "submission code":
                    place = f"{trial.key.submission} on {place}"
                groups[place][describe(trial)].append(trial)
        for place, values in groups.items():
            common = max(values, key=lambda value: len(values[value]))
            for value, members in values.items():
                if value != common:
                    others = f" and {len(members) - 1} more" if len(members) > 1 else ""
                    what = f"{name} {value!r}{others}, but most trials of {place} have {common!r}"
                    yield Finding("environment", members[0].path, what)


def _packages(trial: RecordedTrial, *names: str) -> str:
    packages = trial.environment.packages if trial.environment else {}
    return ", ".join(f"{name} {packages.get(name, 'absent')}" for name in names)


def _switches(trial: RecordedTrial) -> str:
    found = trial.environment.switches if trial.environment else {}
    return ", ".join(f"{name}={value}" for name, value in found.items()) or "none"


def _gpus(trial: RecordedTrial) -> str:
    gpus = trial.environment.gpus if trial.environment else ()
    return ", ".join(f"{gpu.name} (driver {gpu.driver}, {gpu.power_limit_w} W)" for gpu in gpus) or "none"


def _environment(attribute: str) -> Callable[[RecordedTrial], str]:
    return lambda trial: str(getattr(trial.environment, attribute))


_ENVIRONMENT: dict[str, Callable[[RecordedTrial], str]] = {
    "GPUs": _gpus,
    "CPU": _environment("cpu_model"),
    "cores": _environment("num_cores"),
    "ranks": _environment("num_ranks"),
    "threads per rank": _environment("threads_per_rank"),
    "backend": _environment("backend"),
    "Python": _environment("python"),
    "packages": lambda trial: _packages(trial, "torch", "triton", "numpy"),
    "switches": _switches,
    "workload code": _environment("workload_digest"),
    "submission code": _environment("submission_digest"),
}


def trials_are_complete(trials: Sequence[RecordedTrial]) -> Iterator[Finding]:
    """Every submission ran every trial of every study on every workload that it was started on."""
    cells: dict[tuple[str, str, str, str], list[RecordedTrial]] = defaultdict(list)
    for trial in trials:
        cells[trial.key.submission, trial.key.workload, trial.spec.scale.name, _rules(trial)].append(trial)
    for (submission, workload, scale, _), members in cells.items():
        ruleset = members[0].spec.ruleset
        folder = members[0].path.parent.parent.parent
        studies: dict[int, set[int]] = defaultdict(set)
        for member in members:
            studies[member.key.study].add(member.key.trial)
        name = f"{submission} on {workload} at scale {scale}"
        empty = [study for study in range(ruleset.num_studies) if study not in studies]
        for study in empty[:_MOST_LISTED]:
            yield Finding("missing", folder, f"{name}: study {study} has no trial")
        if len(empty) > _MOST_LISTED:
            what = f"{name}: {len(empty) - _MOST_LISTED} more of {ruleset.num_studies} studies have no trial"
            yield Finding("missing", folder, what)
        for study, numbers in sorted(studies.items()):
            inside = {number for number in numbers if 1 <= number <= ruleset.num_trials}
            if study < ruleset.num_studies and (num_missing := ruleset.num_trials - len(inside)):
                absent = itertools.islice(
                    (n for n in range(1, ruleset.num_trials + 1) if n not in inside), _MOST_LISTED
                )
                listed = ", ".join(map(str, absent)) + (
                    f" and {num_missing - _MOST_LISTED} more" if num_missing > _MOST_LISTED else ""
                )
                yield Finding("missing", folder, f"{name}: study {study} is without trial {listed}")
            for number in sorted(numbers if study >= ruleset.num_studies else numbers - inside):
                what = f"{submission} on {workload}: study {study}, trial {number} is beyond the ruleset's numbers"
                yield Finding("missing", folder, what)


_TRIAL_CHECKS = (
    measurements_in_order,
    clock_adds_up,
    result_agrees,
    seed_is_derived,
    code_is_known,
    environment_stays,
    code_stays,
    attempts_are_counted,
    records_are_chained,
    pulses_agree,
    isolation_is_known,
    rest_was_kept,
    nothing_was_switched,
    replay_agrees,
    folder_holds_code,
    result_is_there,
    little_was_lost,
)
_CONTRADICTION_CHECKS = (
    measurements_in_order,
    clock_adds_up,
    result_agrees,
    seed_is_derived,
    attempts_are_counted,
    records_are_chained,
)
_GROUP_CHECKS = (seeds_differ, metrics_differ, requests_agree, environments_agree, trials_are_complete)
