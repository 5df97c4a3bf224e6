"""Whether a trial was measured by somebody else than itself: chained records, isolation, rest, what its folder held."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from perfbench.results.files import digest_of_line
from perfbench.results.pulses import Pulses, read_pulses
from perfbench.results.trials import RecordedTrial
from perfbench.scoring.finding import Finding
from perfbench.spec.environment import Isolation
from perfbench.spec.replay import ReplayVerdict
from perfbench.spec.result import Measurement

_FIRST_CHAINED_VERSION = 3
"""Of ``result.json``; records of earlier versions are not chained and say nothing of isolation."""
_PULSE_TOLERANCE_S = 0.1
"""A pulse reads the step and then the time, and may lose the processor in between."""
_LARGEST_CHARGED_SHARE = 0.01
"""Of the submission time: more work at rest than this is no accident."""
_PROCESSORS_BESIDES_THREADS = 1.5
"""For loading, and for what is compiled in first steps: an honest trial that decodes images has kept 0.6 busy so."""
_LARGEST_DATA_BYTES = 100_000
"""Of what lies in a submission's folder and is neither code nor text."""


def records_are_chained(trial: RecordedTrial) -> Iterator[Finding]:
    """Each record holds the digest of the line before it, the result that of the last: nothing was put in or out."""
    if not _is_chained(trial):
        return
    before = ""
    for record in trial.records:
        if record.chain != digest_of_line(before):
            yield Finding("chain", trial.path, f"the record of attempt {record.attempt} does not follow the one before")
            return
        before = record.to_json(indent=None)
    if trial.result is not None and trial.result.chain != digest_of_line(before):
        yield Finding("chain", trial.path, "result.json does not follow the last record of measurements.jsonl")


def _is_chained(trial: RecordedTrial) -> bool:
    if trial.result is not None:
        return trial.result.schema_version >= _FIRST_CHAINED_VERSION
    return any(record.chain is not None for record in trial.records)


def pulses_agree(trial: RecordedTrial) -> Iterator[Finding]:
    """What the referee wrote down twice a second tells the same story as the measurements: an edit forgets one."""
    by_attempt: dict[int, list[Measurement]] = defaultdict(list)
    for record in trial.records:
        if isinstance(record, Measurement):
            by_attempt[record.attempt].append(record)
    if not by_attempt or not _is_chained(trial):
        return
    try:
        pulses = read_pulses(trial.path)
    except OSError as problem:
        yield Finding("telemetry", trial.path, f"telemetry.jsonl cannot be read: {problem.strerror}")
        return
    for attempt, measurements in by_attempt.items():
        own = Pulses(*(column[pulses.attempts == attempt] for column in pulses))
        if not len(own.steps):
            yield Finding("telemetry", trial.path, f"attempt {attempt} left no pulse in telemetry.jsonl")
        else:
            yield from _pulses_between(trial, measurements, own)


def _pulses_between(trial: RecordedTrial, measurements: Sequence[Measurement], pulses: Pulses) -> Iterator[Finding]:
    """Yield the first pulse that is later than the measurement after it, or earlier than the one before it."""
    steps = np.array([one.step for one in measurements])
    times_s = np.array([one.submission_time_s for one in measurements])
    before = np.searchsorted(steps, pulses.steps, side="left") - 1
    after = np.searchsorted(steps, pulses.steps, side="right")
    earliest_s = np.where(before >= 0, times_s[before], -np.inf)
    latest_s = np.where(after < len(times_s), times_s[np.minimum(after, len(times_s) - 1)], np.inf)
    is_early = pulses.submission_times_s < earliest_s - _PULSE_TOLERANCE_S
    is_late = pulses.submission_times_s > latest_s + _PULSE_TOLERANCE_S
    for index in np.flatnonzero(is_early | is_late)[:1]:
        step, pulse_s = int(pulses.steps[index]), float(pulses.submission_times_s[index])
        other = measurements[int(before[index] if is_early[index] else after[index])]
        what = f"a pulse says step {step} at {pulse_s:.1f} s, a measurement step {other.step} at "
        yield Finding("telemetry", trial.path, f"{what}{other.submission_time_s:.1f} s")


def isolation_is_known(trial: RecordedTrial) -> Iterator[Finding]:
    """A trial says how far its submission was kept from what measures it, and is not measured by itself."""
    if trial.environment is None or not _is_chained(trial):
        return
    if trial.environment.isolation in (None, Isolation.NONE):
        yield Finding("isolation", trial.path, "referee and trainer were one process: nothing is attested")
    elif trial.environment.isolation is not trial.spec.isolation:
        what = f"asked for {trial.spec.isolation.value}, ran as {trial.environment.isolation.value}"
        yield Finding("isolation", trial.path, what)


def rest_was_kept(trial: RecordedTrial) -> Iterator[Finding]:
    """Little was charged for work where the submission should have rested, or that its own end threw away."""
    last = trial.measurements[-1].submission_time_s if trial.measurements else 0.0
    charged_s = max((measurement.charged_s for measurement in trial.measurements), default=0.0)
    charged_s = max(charged_s, 0.0 if trial.result is None else trial.result.charged_s)
    if charged_s > _LARGEST_CHARGED_SHARE * max(last, 1.0):
        what = f"{charged_s:.2f} s of {last:.1f} s were charged for work off the clock"
        yield Finding("rest", trial.path, what)


def nothing_was_switched(trial: RecordedTrial) -> Iterator[Finding]:
    """The trial was compiled, computed at its end as at its start, and ran whenever its clock did."""
    result = trial.result
    if result is None:
        return
    if result.num_compiled_graphs == 0:
        yield Finding("environment", trial.path, "nothing was compiled: not the trial that the rules describe")
    facts = trial.environment
    threads = math.inf if facts is None or facts.gpus else facts.threads_per_rank
    if (result.num_processors or 0.0) > threads + _PROCESSORS_BESIDES_THREADS:
        what = f"it kept {result.num_processors} processors busy, where a rank has {threads} of them"
        yield Finding("environment", trial.path, what)
    for change in result.changed_switches:
        yield Finding("environment", trial.path, f"a switch was changed while it trained: {change}")
    if result.suspended_s:
        what = f"its processes could not run for {result.suspended_s:.1f} s, which the clock may have counted"
        yield Finding("clock", trial.path, what)


def replay_agrees(trial: RecordedTrial) -> Iterator[Finding]:
    """Whoever ran the trial again found what is on record."""
    replay = trial.replay
    if replay is None:
        return
    if replay.chain != trial.chain():
        yield Finding("replay", trial.path, "the record was changed since it was run again (replay.json)")
    elif replay.verdict is ReplayVerdict.DIFFERS:
        yield Finding("replay", trial.path, f"run again, it differs: {'; '.join(replay.reasons)}")


def folder_holds_code(trial: RecordedTrial) -> Iterator[Finding]:
    """A submission brings code and text: data may be weights that were trained before."""
    held = None if trial.environment is None else trial.environment.submission_data_bytes
    if held is not None and held > _LARGEST_DATA_BYTES:
        yield Finding(
            "folder",
            trial.path,
            f"the submission brings {held / 1e6:.1f} MB of data, in its folder or beside it: review it",
        )
