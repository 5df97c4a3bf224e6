"""Random kills at random moments: is anything lost, doubled, or another trajectory than an undisturbed one?

Mini trials on one and on two ranks are disturbed again and again, and continued by the same command until they are
done; then every evaluation and every traced state is compared with those of a trial that nobody disturbed.

    python -m benchmarks.kill_campaign [--kills 100] [--seed 0] [--ranks 1,2] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.disturbances import DISTURBANCES, Disturbed, can_fill_a_disk, small_disk, start
from perfbench.results.reader import read_trial
from perfbench.results.store import TrialFolder
from perfbench.results.trials import Complaint
from perfbench.scoring.verify import contradictions

_MOST_ATTEMPTS = 60
"""Of a trial: one that needs more does not come forward."""
_PATIENCE_S = 300.0
_GONE_S = 20.0
"""After the launcher has ended, no process of the trial may live longer."""


@dataclass(slots=True)
class Tally:
    """What the campaign has seen."""

    kills: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    """Where trials were when they were disturbed, by their last pulse."""
    problems: list[str] = field(default_factory=list)
    num_trials: int = 0
    num_equal: int = 0
    num_measurements: int = 0
    attempt_s: list[float] = field(default_factory=list)


def main() -> int:
    """Disturb, continue, compare and print; 1 if anything was lost, doubled, left over or other than undisturbed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", default="1,2", help="of the trials, in turn (default: 1,2)")
    parser.add_argument("--steps", type=int, default=1200, help="of each trial")
    parser.add_argument("--kills-per-trial", type=int, default=5)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no trial after so many")
    parser.add_argument("--keep", type=Path, help="where trials are kept (default: a temporary folder)")
    arguments = parser.parse_args()
    console = Console()
    choose = random.Random(arguments.seed)
    tally = Tally()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        ranks = [int(number) for number in arguments.ranks.split(",")]
        with Progress(console=console) as progress:
            bar = progress.add_task("undisturbed trials", total=arguments.kills)
            undisturbed = {number: _undisturbed(root, number, arguments, tally) for number in ranks}
            deadline_s = time.monotonic() + 60 * arguments.minutes
            while sum(tally.kills.values()) < arguments.kills and time.monotonic() < deadline_s:
                num_ranks = ranks[tally.num_trials % len(ranks)]
                wanted = min(arguments.kills_per_trial, arguments.kills - sum(tally.kills.values()))
                place = root / f"trial_{tally.num_trials}"
                with small_disk(place) as is_small:
                    one = _Campaign(place, num_ranks, arguments, choose, tally, may_fill=is_small)
                    one.run(wanted, lambda: progress.update(bar, completed=sum(tally.kills.values())))
                    one.compare(undisturbed[num_ranks])
                progress.update(bar, description=f"{tally.num_trials} trials")
    _print(console, tally, arguments)
    return 1 if tally.problems else 0


def _undisturbed(root: Path, num_ranks: int, arguments: argparse.Namespace, tally: Tally) -> _Trajectory:
    place, began_s = root / f"undisturbed_{num_ranks}", time.monotonic()
    process = start(place, num_ranks, arguments)
    if process.wait(timeout=_PATIENCE_S):
        raise SystemExit(f"the undisturbed trial failed: {process.said()}")
    tally.attempt_s.append(time.monotonic() - began_s)
    return _Trajectory.of(_folder(place))


def _folder(place: Path) -> TrialFolder:
    return TrialFolder(next(place.glob("*/study_0/*/trial_1"), place / "none"))


@dataclass(frozen=True, slots=True)
class _Trajectory:
    """What must not depend on how often a trial was disturbed."""

    metrics: tuple[tuple[int, dict[str, float]], ...]
    digests: dict[int, tuple[str, ...]]
    outcome: str

    @classmethod
    def of(cls, folder: TrialFolder) -> _Trajectory:
        result = folder.result()
        assert result is not None, "only finished trials are compared"
        digests: dict[int, tuple[str, ...]] = {}
        for line in folder.telemetry("trace"):
            digests[line["at_step"]] = tuple(str(line[name]) for name in ("parameters", "state", "loss", "example_ids"))
        metrics = tuple((one.step, one.metrics) for one in folder.measurements())
        return cls(metrics, digests, f"{result.outcome.kind} at step {result.num_steps}")


class _Campaign:
    """One trial that is disturbed."""

    def __init__(
        self,
        place: Path,
        num_ranks: int,
        arguments: argparse.Namespace,
        choose: random.Random,
        tally: Tally,
        *,
        may_fill: bool,
    ) -> None:
        self._place = place
        self._num_ranks = num_ranks
        self._arguments = arguments
        self._choose = choose
        self._tally = tally
        self._kinds = [name for name in DISTURBANCES if may_fill or name != "full disk"]
        self._lines: list[str] = []
        """Of the measurements, as they were seen on the disk: none of them may be gone later."""

    def run(self, num_kills: int, tell: object) -> None:
        """Start and disturb; when it was disturbed often enough, let it come to its end."""
        self._tally.num_trials += 1
        seconds = self._tally.attempt_s[-1] if self._tally.attempt_s else 12.0
        for _ in range(_MOST_ATTEMPTS):
            process = start(self._place, self._num_ranks, self._arguments)
            began_s = time.monotonic()
            if num_kills > 0:
                kind = self._choose.choice(self._kinds)
                process.wait_at_most(self._choose.uniform(0.0, 1.2 * seconds))
                if process.is_running():
                    num_kills -= 1
                    self._tally.phases[self._phase()] += 1
                    self._tally.kills[kind] += 1
                    DISTURBANCES[kind](process, self._place)
                    if callable(tell):
                        tell()
            code = process.wait(timeout=_PATIENCE_S)
            if code == 0:
                seconds = time.monotonic() - began_s
                self._tally.attempt_s.append(seconds)
            self._look(process)
            if code == 0 and num_kills == 0:
                return
            if code == 0:  # it was faster than the kill: what is wanted more is for another trial
                return
        self._tally.problems.append(f"{self._place.name}: not done after {_MOST_ATTEMPTS} attempts")

    def _phase(self) -> str:
        pulses = _folder(self._place).telemetry("pulse") if self._place.exists() else []
        return str(pulses[-1]["phase"]) if pulses else "starting"

    def _look(self, process: Disturbed) -> None:
        """Check what must hold after each end: no process left, no record gone, no raw traceback."""
        if left := process.left_over(within_s=_GONE_S):
            self._tally.problems.append(f"{self._place.name}: left over after {_GONE_S:.0f} s: {left}")
        if "Traceback (most recent call last)" in process.said():
            self._tally.problems.append(f"{self._place.name}: a raw traceback: {process.said()[-300:]}")
        path = _folder(self._place).path / "measurements.jsonl"
        text = path.read_text() if path.exists() else ""
        lines = text.splitlines()[: text.count("\n")]
        if lines[: len(self._lines)] != self._lines:
            self._tally.problems.append(f"{self._place.name}: records that were on the disk have changed")
        self._lines = lines

    def compare(self, undisturbed: _Trajectory) -> None:
        """Compare the finished trial with one that nobody disturbed."""
        folder = _folder(self._place)
        if not folder.path.exists() or folder.result() is None:
            return
        found = _Trajectory.of(folder)
        tally, name = self._tally, f"{self._place.name} on {self._num_ranks} ranks"
        tally.num_measurements += len(found.metrics)
        is_equal = found == undisturbed
        tally.num_equal += is_equal
        if not is_equal:
            tally.problems.append(f"{name}: {_first_difference(found, undisturbed)}")
        complaints: list[Complaint] = []
        trial = read_trial(folder.path, complaints)
        tally.problems += [f"{name}: {complaint}" for complaint in complaints if not complaint.is_harmless]
        if trial is not None:
            tally.problems += [f"{name}: {one}" for findings in contradictions([trial]).values() for one in findings]


def _first_difference(found: _Trajectory, undisturbed: _Trajectory) -> str:
    if found.outcome != undisturbed.outcome:
        return f"{found.outcome} instead of {undisturbed.outcome}"
    if [step for step, _ in found.metrics] != [step for step, _ in undisturbed.metrics]:
        return f"measured at {[step for step, _ in found.metrics]}"
    for (step, metrics), (_, wanted) in zip(found.metrics, undisturbed.metrics, strict=True):
        if metrics != wanted:
            return f"other metrics at step {step}: {metrics} instead of {wanted}"
    other = [step for step, digest in undisturbed.digests.items() if found.digests.get(step) != digest]
    return f"other states at steps {other}"


def _print(console: Console, tally: Tally, arguments: argparse.Namespace) -> None:
    table = Table(title=f"{sum(tally.kills.values())} disturbances (seed {arguments.seed})", title_justify="left")
    for heading in ("what was done", "times"):
        table.add_column(heading, justify="left" if heading == "what was done" else "right")
    for name, count in sorted(tally.kills.items()):
        table.add_row(name, str(count))
    console.print(table)
    console.print("in phase: " + ", ".join(f"{name} {count}" for name, count in tally.phases.most_common()))
    if not can_fill_a_disk():
        console.print("not tried: a full disk (only root can mount a small one)")
    median_s = statistics.median(tally.attempt_s) if tally.attempt_s else float("nan")
    console.print(
        f"{tally.num_trials} trials, {tally.num_equal} equal to an undisturbed one in all "
        f"{tally.num_measurements} evaluations and every traced state; a last attempt took {median_s:.0f} s"
    )
    for problem in tally.problems:
        console.print(f"[red]problem[/]: {problem}", highlight=False)
    document = {
        "kills": dict(tally.kills),
        "phases": dict(tally.phases),
        "trials": tally.num_trials,
        "equal": tally.num_equal,
        "evaluations": tally.num_measurements,
        "problems": tally.problems,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    sys.exit(main())
