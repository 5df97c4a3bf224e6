"""A recorded trial against the same trial run again: are its numbers and its times to be had?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from perfbench.results.trials import RecordedTrial
from perfbench.spec.environment import Environment
from perfbench.spec.replay import Replay, ReplayVerdict
from perfbench.spec.result import Measurement

Digests = Mapping[int, Mapping[str, str]]
"""Of traced steps."""


@dataclasses.dataclass(frozen=True, slots=True)
class Allowance:
    """How far a replay may be from the record."""

    metrics: float = 0.05
    """Relative, where device or software differ or do not repeat themselves bit for bit."""
    times: float = 1.25
    """A recorded time may be shorter than the replay's by this factor, on the same hardware."""
    least_time_s: float = 5.0
    """Shorter ones are not judged: a busy moment is a large share of them."""


def compare_with_replay(
    recorded: RecordedTrial,
    replay: RecordedTrial,
    *,
    digests: tuple[Digests, Digests] = ({}, {}),
    allowance: Allowance | None = None,
    is_same_code: bool,
    wall_time_utc: str,
) -> Replay:
    """Compare a trial with its replay, evaluation by evaluation.

    Args:
        recorded: The trial.
        replay: The same one, evaluated at the recorded steps.
        digests: Of traced steps, of both.
        allowance: How far they may differ.
        is_same_code: Whether the replay ran the code that the trial began with.
        wall_time_utc: Now, for the record.

    Raises:
        ValueError: If one of them has no environment on record.
    """
    allowed = allowance or Allowance()
    then, now = recorded.environment, replay.environment
    if then is None or now is None:
        message = "a trial without environment.json is not comparable"
        raise ValueError(message)
    repeats = _repeats_bit_for_bit(then, now)
    tolerance = 0.0 if repeats else allowed.metrics
    by_step = {one.step: one for one in replay.measurements}
    pairs = [(one, by_step[one.step]) for one in recorded.measurements if one.step in by_step]
    wanted = [one for one in recorded.measurements if one.step <= _last_step(replay)]
    differences = [_difference(one.metrics, other.metrics) for one, other in pairs]
    traced = [(step, values) for step, values in digests[0].items() if step in digests[1]]
    num_equal_digests = sum(values == digests[1][step] for step, values in traced)
    is_timed = _hardware(then) == _hardware(now) and bool(pairs)
    is_timed = is_timed and pairs[-1][0].submission_time_s >= allowed.least_time_s
    ratio = _time_ratio(pairs)
    reasons = []
    if not pairs:
        reasons.append("nothing could be compared: the replay has none of the recorded evaluations")
    if len(pairs) < len(wanted):
        reasons.append(f"{len(wanted) - len(pairs)} recorded evaluations are not in the replay")
    far = [(one, gap) for (one, _), gap in zip(pairs, differences, strict=True) if not gap <= tolerance]
    if far:
        one, gap = far[0]
        reasons.append(f"{len(far)} evaluations differ, the first at step {one.step}, by {_percent(gap)}")
    if repeats and num_equal_digests < len(traced):
        reasons.append(f"{len(traced) - num_equal_digests} of {len(traced)} traced steps have another state")
    if is_timed and ratio is not None and ratio > allowed.times:
        reasons.append(f"it took {ratio:.2f} times as long as recorded, more than {allowed.times:.2f}")
    finite = [gap for gap in differences if math.isfinite(gap)]
    return Replay(
        trial_identity=recorded.spec.identity(),
        chain=recorded.chain(),
        verdict=ReplayVerdict.DIFFERS if reasons else ReplayVerdict.CONFIRMED,
        reasons=tuple(reasons),
        num_recorded=len(recorded.measurements),
        num_compared=len(pairs),
        num_equal=sum(gap == 0.0 for gap in differences),
        largest_difference=max(finite) if finite and len(finite) == len(differences) else None,
        tolerance=tolerance,
        num_digests_compared=len(traced),
        num_digests_equal=num_equal_digests,
        time_ratio=ratio,
        time_band=allowed.times if is_timed else None,
        is_same_code=is_same_code,
        isolation="none" if now.isolation is None else now.isolation.value,
        host_digest=now.host_digest,
        wall_time_utc=wall_time_utc,
    )


def _last_step(replay: RecordedTrial) -> int:
    """Return up to which step the replay was asked to go."""
    steps: Sequence[int] = getattr(replay.spec.evaluation, "steps", ())
    return steps[-1] if steps else -1


def _repeats_bit_for_bit(then: Environment, now: Environment) -> bool:
    """Tell whether two runs on these give the same bits: on processors of one kind, with the same software."""
    if then.gpus or now.gpus:
        return False
    packages = ("torch", "numpy")
    same_software = all(then.packages.get(name) == now.packages.get(name) for name in packages)
    return same_software and _hardware(then) == _hardware(now) and then.switches == now.switches


def _hardware(environment: Environment) -> tuple[object, ...]:
    gpus = tuple(gpu.name for gpu in environment.gpus)
    return environment.cpu_model, environment.threads_per_rank, environment.num_ranks, gpus


def _difference(recorded: Mapping[str, float], again: Mapping[str, float]) -> float:
    """Return the largest relative difference of two evaluations; infinite where one lacks a metric."""
    if recorded.keys() != again.keys():
        return math.inf
    return max((_gap(value, again[name]) for name, value in recorded.items()), default=0.0)


def _gap(recorded: float, again: float) -> float:
    if recorded == again or (math.isnan(recorded) and math.isnan(again)):
        return 0.0
    gap = abs(recorded - again) / max(abs(recorded), abs(again))
    return math.inf if math.isnan(gap) else gap


def _time_ratio(pairs: Sequence[tuple[Measurement, Measurement]]) -> float | None:
    if not pairs or not pairs[-1][0].submission_time_s:
        return None
    recorded, again = pairs[-1]
    return again.submission_time_s / recorded.submission_time_s


def _percent(gap: float) -> str:
    return f"{gap:.2%}" if math.isfinite(gap) else "a number that is none, or is missing"
