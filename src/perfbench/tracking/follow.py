"""Reading a running trial's folder as it grows: the watching process never touches the one that trains."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfbench.results.store import TrialFolder
from perfbench.spec.result import Measurement


class GrowingFile:
    """Yields the complete lines that were added since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def new_lines(self) -> list[str]:
        """Return complete lines added since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            block = file.read()
        complete = block.rfind(b"\n") + 1
        self._offset += complete
        return block[:complete].decode(errors="replace").splitlines()


@dataclass(slots=True)
class Progress:
    """What is known about a running trial."""

    phase: str = "starting"
    step: int = 0
    submission_time_s: float = 0.0
    next_evaluation_s: float | None = None
    steps_per_s: float | None = None
    loss: float | None = None
    measurements: list[Measurement] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Follower:
    """Keeps a :class:`Progress` up to date from a trial's folder."""

    def __init__(self, folder: TrialFolder) -> None:
        self._folder = folder
        self._telemetry = GrowingFile(folder.path / "telemetry.jsonl")
        self._num_records_bytes = -1
        self._rate_origin: tuple[int, float] | None = None
        self.progress = Progress()

    def look(self) -> Progress:
        """Read what was added and return the updated progress."""
        for line in self._telemetry.new_lines():
            try:
                self._take(json.loads(line))
            except json.JSONDecodeError:
                continue  # telemetry is no record: a damaged line costs nothing
        path = self._folder.path / "measurements.jsonl"
        size_bytes = path.stat().st_size if path.exists() else 0
        if size_bytes != self._num_records_bytes:
            self._num_records_bytes = size_bytes
            self.progress.measurements = self._folder.measurements()
        return self.progress

    def _take(self, line: dict[str, Any]) -> None:
        match line.get("kind"):
            case "pulse":
                self._take_pulse(line)
            case "steps":
                self.progress.loss = line["loss"][-1]
            case "warning":
                self.progress.warnings.append(line["text"])

    def _take_pulse(self, line: dict[str, Any]) -> None:
        progress = self.progress
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
