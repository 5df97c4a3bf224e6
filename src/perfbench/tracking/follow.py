"""Reading a running trial's folder as it grows: the watching process never touches the one that trains."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfbench.errors import PerfbenchError
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Measurement

_BLOCK_BYTES = 1 << 20
_PARTS_OF_A_SEGMENT = 16
_RECENT = 6
"""Evaluations through which a line is laid."""


class GrowingFile:
    """Yields the complete lines that were added since the last look.

    Args:
        path: May not exist yet.
        from_start: Whether what is there already counts as added.
    """

    def __init__(self, path: Path, *, from_start: bool = False) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() and not from_start else 0

    def new_lines(self, *, max_bytes: int = _BLOCK_BYTES) -> list[str]:
        """Return complete lines added since the last call, about ``max_bytes`` of them; empty at the end."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            block = file.read(max_bytes)
            while (complete := block.rfind(b"\n") + 1) == 0 and (more := file.read(max_bytes)):
                block += more  # one line is longer than a block
        self._offset += complete
        return block[:complete].decode(errors="replace").splitlines()

    def all_new_lines(self) -> Iterator[str]:
        """Yield complete lines until there is no further one."""
        while lines := self.new_lines():
            yield from lines


@dataclass(slots=True)
class Progress:
    """What is known about a running trial."""

    phase: str = "starting"
    step: int = 0
    submission_time_s: float = 0.0
    next_evaluation_s: float | None = None
    steps_per_s: float | None = None
    loss: float | None = None
    resources: dict[str, float] = field(default_factory=dict)
    measurement: Measurement | None = None
    """The newest."""
    new_measurements: list[Measurement] = field(default_factory=list)
    """Since the last look."""
    recent: deque[Measurement] = field(default_factory=lambda: deque(maxlen=_RECENT))
    """The last ones, by which the target is guessed."""
    new_losses: list[tuple[int, float]] = field(default_factory=list)
    """Step and training loss since the last look, means of a few parts of each segment."""
    phase_began_s: float = field(default_factory=time.monotonic)
    """When the phase was first seen, by the clock of whoever looks."""
    new_warnings: list[str] = field(default_factory=list)
    """Since the last look."""


class Follower:
    """Keeps a :class:`Progress` up to date from a trial's folder; what it holds does not grow with the trial.

    Args:
        folder: Of the trial.
        from_start: Whether telemetry of before is read too: for who comes to a trial that runs already.
    """

    def __init__(self, folder: TrialFolder, *, from_start: bool = False) -> None:
        self._telemetry = GrowingFile(folder.path / "telemetry.jsonl", from_start=from_start)
        self._records = GrowingFile(folder.path / "measurements.jsonl", from_start=True)
        self._rate_origin: tuple[int, float] | None = None
        self.progress = Progress()

    def look(self) -> Progress:
        """Read what was added and return the updated progress."""
        progress = self.progress
        progress.new_measurements, progress.new_warnings, progress.new_losses = [], [], []
        for line in self._telemetry.all_new_lines():
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                continue  # telemetry is no record: a damaged line costs nothing
        for line in self._records.all_new_lines():
            with contextlib.suppress(PerfbenchError):  # a resume, or a damaged record: scoring complains about it
                progress.new_measurements.append(Measurement.from_json(line))
        if progress.new_measurements:
            progress.measurement = progress.new_measurements[-1]
            progress.recent.extend(progress.new_measurements)
        return progress

    def _take(self, line: dict[str, Any]) -> None:
        match line.get("kind"):
            case "pulse":
                self._take_pulse(line)
            case "steps":
                self.progress.loss = line["loss"][-1]
                self.progress.new_losses += _means(line["step"], line["loss"])
            case "warning":
                self.progress.new_warnings.append(line["text"])
            case "resources":
                self.progress.resources = {k: v for k, v in line.items() if k not in ("kind", "at_step")}

    def _take_pulse(self, line: dict[str, Any]) -> None:
        progress = self.progress
        if line["phase"] != progress.phase:
            progress.phase_began_s = time.monotonic()
        progress.phase = line["phase"]
        progress.step = line["at_step"]
        progress.submission_time_s = line["submission_time_s"]
        progress.next_evaluation_s = line["next_evaluation_s"]
        if progress.phase == "training":
            origin = self._rate_origin or (progress.step, progress.submission_time_s)
            self._rate_origin = origin
            seconds = progress.submission_time_s - origin[1]
            if seconds > 0:
                progress.steps_per_s = (progress.step - origin[0]) / seconds


def _means(steps: list[float], losses: list[float]) -> list[tuple[int, float]]:
    """Return the last step and the mean loss of a few parts of a segment: single batches are noise."""
    length = max(1, math.ceil(len(losses) / _PARTS_OF_A_SEGMENT))
    parts = [slice(start, min(start + length, len(losses))) for start in range(0, len(losses), length)]
    return [(int(steps[part.stop - 1]), math.fsum(losses[part]) / len(losses[part])) for part in parts]
