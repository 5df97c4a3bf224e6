"""Whether a trial that was disturbed has gone the way of one that was not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from perfbench.results.store import TrialFolder


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What must not depend on how often a trial was disturbed."""

    metrics: tuple[tuple[int, dict[str, float]], ...]
    digests: dict[int, tuple[str, ...]]
    """Of parameters, optimizer state, loss and examples, at each traced step."""
    outcome: str

    @classmethod
    def of(cls, folder: TrialFolder) -> Self:
        """Read a finished trial."""
        result = folder.result()
        assert result is not None, "only finished trials are compared"
        digests: dict[int, tuple[str, ...]] = {}
        for line in folder.telemetry("trace"):
            digests[line["at_step"]] = tuple(str(line[name]) for name in ("parameters", "state", "loss", "example_ids"))
        metrics = tuple((one.step, one.metrics) for one in folder.measurements())
        return cls(metrics, digests, f"{result.outcome.kind} at step {result.num_steps}")

    def difference_from(self, undisturbed: Self) -> str:
        """Say the first thing that is other than undisturbed."""
        if self.outcome != undisturbed.outcome:
            return f"{self.outcome} instead of {undisturbed.outcome}"
        if [step for step, _ in self.metrics] != [step for step, _ in undisturbed.metrics]:
            return f"measured at {[step for step, _ in self.metrics]}"
        for (step, metrics), (_, wanted) in zip(self.metrics, undisturbed.metrics, strict=True):
            if metrics != wanted:
                return f"other metrics at step {step}: {metrics} instead of {wanted}"
        other = [step for step, digest in undisturbed.digests.items() if self.digests.get(step) != digest]
        return f"other states at steps {other}"


class Records:
    """The measurements of a trial as they were seen on the disk: none of them may be gone later."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def problem(self, folder: TrialFolder) -> str | None:
        """Read them again; say so if some that were on the disk have changed."""
        path = folder.path / "measurements.jsonl"
        text = path.read_text() if path.exists() else ""
        lines = text.splitlines()[: text.count("\n")]
        before, self._lines = self._lines, lines
        return None if lines[: len(before)] == before else "records that were on the disk have changed"


def phase_of(folder: TrialFolder) -> str:
    """Say where a trial is, by its last pulse."""
    pulses = folder.telemetry("pulse") if folder.path.exists() else []
    return str(pulses[-1]["phase"]) if pulses else "starting"
