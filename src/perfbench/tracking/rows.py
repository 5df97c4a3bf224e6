"""A trial's records as numbered rows for dashboards: a pure function of what is on disk.

The same records give the same rows with the same numbers, whether they are followed while they grow or read at once
years later. So the number of the last row that a dashboard holds is all one has to know to go on: nothing is sent
twice, and nothing is left out.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perfbench.errors import PerfbenchError
from perfbench.spec.result import Measurement, PhaseTimes
from perfbench.spec.run import TrialSpec

_POINTS_OF_A_SEGMENT = 16
_LIMIT = 2000
"""Telemetry rows of one kind before their rate is halved; a dashboard takes 100,000 points per metric."""

TIME_KEY = "submission_time_s"
STEP_KEY = "step"
BY_STEP = "by_step/"
"""What is also shown against the step: a dashboard knows one x axis per name."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a dashboard shows at one moment."""

    number: int
    values: dict[str, float]


@dataclass(slots=True)
class _Pending:
    """A measurement that no later telemetry was seen of."""

    attempt: int
    step: int
    line: str
    is_void: bool = False


class Thinner:
    """Says which of an endless series to keep: the first ``limit``, every second of the next, every fourth, ...

    >>> thinner = Thinner(2)
    >>> [number for number in range(1, 17) if thinner.keep()]
    [1, 2, 4, 6, 8, 12, 16]
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._stride = 1
        self._num_seen = self._num_kept = 0

    def keep(self) -> bool:
        """Tell whether to keep the next one."""
        self._num_seen += 1
        if self._num_seen % self._stride:
            return False
        self._num_kept += 1
        if self._num_kept == self._limit:
            self._num_kept = 0
            self._stride *= 2
        return True


class RowMaker:
    """Turns lines of ``telemetry.jsonl`` and ``measurements.jsonl`` into rows.

    A measurement's place is before the first telemetry of a later step or attempt. So when lines are taken while files
    grow, the records must be read *after* the telemetry: then everything that comes before a line is there.

    Measurements that a resume voided keep their number and are left out.
    """

    def __init__(self, trial: TrialSpec) -> None:
        self._trial = trial
        self._attempt = 1
        self._number = 0
        self._pending: deque[_Pending] = deque()
        self._segment: tuple[int, float, float] | None = (0, 0.0, 0.0)
        self._thinners = {"steps": Thinner(_LIMIT), "resources": Thinner(_LIMIT)}

    def take(self, telemetry: Iterable[str], records: Iterable[str]) -> Iterator[Row]:
        """Yield the rows that complete lines give; a damaged line gives none."""
        for line in records:
            self._take_record(line)
        for line in telemetry:
            try:
                values = json.loads(line)
                yield from self._take_telemetry(values)
            except (ValueError, KeyError, TypeError, IndexError):
                continue  # telemetry is no record: a damaged line costs nothing

    def rest(self) -> Iterator[Row]:
        """Yield what was held back: at the end of an attempt."""
        while self._pending:
            yield from self._measured(self._pending.popleft())

    def _take_record(self, line: str) -> None:
        try:
            record = json.loads(line)
            if record["kind"] == "resumed":
                for pending in self._pending:
                    pending.is_void |= pending.step > record["from_step"]
            else:
                self._pending.append(_Pending(record["attempt"], record["step"], line))
        except (ValueError, KeyError, TypeError):
            return  # scoring complains about it; a mirror cannot show it

    def _take_telemetry(self, line: dict[str, Any]) -> Iterator[Row]:
        kind = line["kind"]
        if kind == "started":
            self._attempt = line["attempt"]
            self._segment = None if self._attempt > 1 else self._segment
        step = line.get("at_step", 0)
        while self._pending and (self._pending[0].attempt, self._pending[0].step) < (self._attempt, step):
            yield from self._measured(self._pending.popleft())
        if kind == "steps":
            yield from self._steps(line)
        elif kind == "resources" and self._thinners["resources"].keep():
            names = (STEP_KEY, TIME_KEY)
            values = {name: value for name, value in line.items() if name not in ("kind", "at_step", TIME_KEY)}
            shown = {f"resources/{name}": value for name, value in values.items()}
            yield self._row(dict(zip(names, (step, line[TIME_KEY]), strict=True)) | shown)

    def _measured(self, pending: _Pending) -> Iterator[Row]:
        self._number += 1
        if pending.is_void:
            return
        try:
            measurement = Measurement.from_json(pending.line)
        except PerfbenchError:
            return  # scoring complains about it; a mirror cannot show it
        target, phases = self._trial.target, measurement.phases
        values = {
            STEP_KEY: float(measurement.step),
            TIME_KEY: measurement.submission_time_s,
            "attempt": float(measurement.attempt),
            **measurement.metrics,
            f"target/{target.metric}": target.threshold,
            "budget/used": measurement.submission_time_s / self._trial.max_submission_time_s,
            "budget/limit": 1.0,
            **accounts(phases),
        }
        if target.metric in values:
            values[BY_STEP + target.metric] = values[target.metric]
        yield Row(self._number - 1, values)

    def _steps(self, line: dict[str, Any]) -> Iterator[Row]:
        """Show some of a segment's steps; their submission time lies between the segment's ends."""
        steps: Sequence[float] = line["step"]
        columns = {name: values for name, values in line.items() if isinstance(values, list) and name != STEP_KEY}
        before, self._segment = self._segment, None
        if "at_step" in line:
            self._segment = (line["at_step"], line[TIME_KEY], line["data_wait_s"])
        stride = max(1, math.ceil(len(steps) / _POINTS_OF_A_SEGMENT))
        for index in reversed(range(len(steps) - 1, -1, -stride)):
            if not self._thinners["steps"].keep():
                continue
            values = {f"train/{name}": column[index] for name, column in columns.items() if index < len(column)}
            values[STEP_KEY] = steps[index]
            if before and self._segment:
                share = (steps[index] - before[0]) / max(1, self._segment[0] - before[0])
                values[TIME_KEY] = before[1] + share * (self._segment[1] - before[1])
            if "train/loss" in values:
                values[f"{BY_STEP}train/loss"] = values["train/loss"]
            if index == len(steps) - 1 and before and self._segment:
                values |= _rates(before, self._segment)
            yield self._row(values)

    def _row(self, values: dict[str, float]) -> Row:
        self._number += 1
        return Row(self._number - 1, {name: value for name, value in values.items() if _is_number(value)})


def accounts(phases: PhaseTimes) -> dict[str, float]:
    """Return the accounting of a trial's time: seconds by account, the wall time, evaluation's share."""
    seconds = {f"time/{name.replace(' ', '_')}_s": value for name, value in phases.accounts().items()}
    return {**seconds, "time/wall_s": phases.wall_s(), "time/eval_share": phases.eval_share()}


def _rates(before: tuple[int, float, float], now: tuple[int, float, float]) -> dict[str, float]:
    seconds = now[1] - before[1]
    if seconds <= 0:
        return {}
    return {
        "train/steps_per_s": (now[0] - before[0]) / seconds,
        "train/data_wait_share": (now[2] - before[2]) / seconds,
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
