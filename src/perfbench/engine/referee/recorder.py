"""What the referee tells about a trial. Records go to the trial folder; the loop knows no console and no dashboard."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from typing import Protocol

from perfbench.results.history import History, history_of
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Measurement, Resumed, TrialResult


class Recorder(Protocol):
    """Receives records outside scored phases."""

    @property
    def history(self) -> History:
        """What attempts before this one left."""
        ...

    def resumed(self, record: Resumed) -> None:
        """Note that this attempt goes on from a checkpoint (or from the start, at step 0)."""
        ...

    def measured(self, measurement: Measurement) -> None:
        """Record an evaluation: durable when this returns."""
        ...

    def telemetry(self, name: str, values: Mapping[str, object]) -> None:
        """Record something that no score depends on."""
        ...

    def finished(self, result: TrialResult) -> TrialResult:
        """Record the end; return it as it was recorded."""
        ...


class SilentRecorder:
    """Ranks other than 0 record nothing."""

    history = History()

    def resumed(self, record: Resumed) -> None:
        """Do nothing."""

    def measured(self, measurement: Measurement) -> None:
        """Do nothing."""

    def telemetry(self, name: str, values: Mapping[str, object]) -> None:
        """Do nothing."""

    def finished(self, result: TrialResult) -> TrialResult:
        """Return the result."""
        return result


class FolderRecorder:
    """Writes a trial's records to its folder; used by rank 0."""

    def __init__(self, folder: TrialFolder) -> None:
        self._folder = folder
        self._num_dropped = 0
        self.history = history_of(folder)

    def resumed(self, record: Resumed) -> None:
        """Append durably."""
        self._folder.append(record)

    def measured(self, measurement: Measurement) -> None:
        """Append durably."""
        self._folder.append(measurement)

    def telemetry(self, name: str, values: Mapping[str, object]) -> None:
        """Append; what a disk does not take is dropped, and said as soon as it takes something again."""
        try:
            if self._num_dropped:
                text = f"{self._num_dropped} lines of telemetry were lost: the disk did not take them"
                self._folder.append_telemetry("warning", {"text": text})
                self._num_dropped = 0
            self._folder.append_telemetry(name, values)
        except OSError as problem:
            if not self._num_dropped:
                print(f"telemetry is being lost: {problem}", file=sys.stderr, flush=True)  # noqa: T201 - the rank's log
            self._num_dropped += 1

    def finished(self, result: TrialResult) -> TrialResult:
        """Write the result, once, with what was seen of suspensions."""
        suspended_s = sum(float(line["seconds"]) for line in self._folder.telemetry("suspended"))
        return self._folder.write_result(result.model_copy(update={"suspended_s": round(suspended_s, 1)}))


def now_utc() -> str:
    """Return the date and time in whole seconds."""
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
