"""A recorded trial against the same trial run again: are its numbers and its times to be had?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

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
    then, now = recorded.environment, replay.environment
    if then is None or now is None:
        message = "a trial without environment.json is not comparable"
        raise ValueError(message)
    seen = _Seen.of(recorded, replay, then, now, digests, allowance or Allowance())
    reasons = tuple(seen.reasons())
    return Replay(
        trial_identity=recorded.spec.identity(),
        chain=recorded.chain(),
        verdict=ReplayVerdict.DIFFERS if reasons else ReplayVerdict.CONFIRMED,
        reasons=reasons,
        num_recorded=len(recorded.measurements),
        num_compared=len(seen.gaps),
        num_equal=sum(gap == 0.0 for _, gap in seen.gaps),
        largest_difference=seen.largest_difference(),
        tolerance=seen.tolerance,
        num_digests_compared=seen.num_traced,
        num_digests_equal=seen.num_traced_equal,
        time_ratio=seen.time_ratio,
        time_band=seen.time_band,
        is_same_code=is_same_code,
        isolation="none" if now.isolation is None else now.isolation.value,
        host_digest=now.host_digest,
        wall_time_utc=wall_time_utc,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """What stands side by side, and what is allowed."""

    gaps: tuple[tuple[int, float], ...]
    """Step and largest relative difference of each evaluation that both have."""
    num_missing: int
    """Evaluations that the replay was asked for and does not have."""
    num_traced: int
    num_traced_equal: int
    repeats: bool
    """Whether bits repeat."""
    tolerance: float
    time_ratio: float | None
    time_band: float | None
    """``None`` where times are not judged."""

    @classmethod
    def of(
        cls,
        recorded: RecordedTrial,
        replay: RecordedTrial,
        then: Environment,
        now: Environment,
        digests: tuple[Digests, Digests],
        allowed: Allowance,
    ) -> _Seen:
        """Look at both trials."""
        repeats = _repeats_bit_for_bit(then, now)
        by_step = {one.step: one for one in replay.measurements}
        pairs = [(one, by_step[one.step]) for one in recorded.measurements if one.step in by_step]
        num_wanted = sum(one.step <= _last_step(replay) for one in recorded.measurements)
        traced = [(step, values) for step, values in digests[0].items() if step in digests[1]]
        is_timed = bool(pairs) and pairs[-1][0].submission_time_s >= allowed.least_time_s
        return cls(
            gaps=tuple((one.step, _difference(one.metrics, other.metrics)) for one, other in pairs),
            num_missing=num_wanted - len(pairs),
            num_traced=len(traced),
            num_traced_equal=sum(values == digests[1][step] for step, values in traced),
            repeats=repeats,
            tolerance=0.0 if repeats else allowed.metrics,
            time_ratio=_time_ratio(pairs),
            time_band=allowed.times if is_timed and _hardware(then) == _hardware(now) else None,
        )

    def reasons(self) -> Iterator[str]:
        """Yield why the replay differs from the record."""
        if not self.gaps:
            yield "nothing could be compared: the replay has none of the recorded evaluations"
        if self.num_missing > 0:
            yield f"{self.num_missing} recorded evaluations are not in the replay"
        if far := [(step, gap) for step, gap in self.gaps if not gap <= self.tolerance]:
            step, gap = far[0]
            yield f"{len(far)} evaluations differ, the first at step {step}, by {_percent(gap)}"
        if self.repeats and self.num_traced_equal < self.num_traced:
            num_other = self.num_traced - self.num_traced_equal
            yield f"{num_other} of {self.num_traced} traced steps have another state"
        if self.time_band is not None and self.time_ratio is not None and self.time_ratio > self.time_band:
            yield f"it took {self.time_ratio:.2f} times as long as recorded, more than {self.time_band:.2f}"

    def largest_difference(self) -> float | None:
        """Return the largest of the evaluations; ``None`` where one has no finite one, or there is none."""
        largest = max((gap for _, gap in self.gaps), default=math.inf)
        return largest if math.isfinite(largest) else None


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
