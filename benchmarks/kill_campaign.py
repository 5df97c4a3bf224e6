"""Random kills at random moments: is anything lost, doubled, or another trajectory than an undisturbed one?

Mini trials on one and on two ranks are disturbed again and again, and continued by the same command until they are
done; then every evaluation and every traced state is compared with those of a trial that nobody disturbed.

    python -m benchmarks.kill_campaign [--kills 100] [--seed 0] [--ranks 1,2] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.disturbances import DISTURBANCES, Disturbed, can_fill_a_disk, small_disk, start
from benchmarks.tally import Tally
from benchmarks.trajectory import Records, Trajectory, phase_of
from perfbench.results.store import TrialFolder

_MOST_ATTEMPTS = 60
"""Of a trial: one that needs more does not come forward."""
_PATIENCE_S = 300.0
_GONE_S = 20.0
"""After the launcher has ended, no process of the trial may live longer."""


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
    tally.show(console, f"{sum(tally.kills.values())} disturbances (seed {arguments.seed})")
    if not can_fill_a_disk():
        console.print("not tried: a full disk (only root can mount a small one)")
    console.print(f"a last attempt took {statistics.median(tally.attempt_s):.0f} s")
    return 1 if tally.problems else 0


def _undisturbed(root: Path, num_ranks: int, arguments: argparse.Namespace, tally: Tally) -> Trajectory:
    place, began_s = root / f"undisturbed_{num_ranks}", time.monotonic()
    process = start(place, num_ranks, arguments)
    if process.wait(timeout=_PATIENCE_S):
        raise SystemExit(f"the undisturbed trial failed: {process.said()}")
    tally.attempt_s.append(time.monotonic() - began_s)
    return Trajectory.of(_folder(place))


def _folder(place: Path) -> TrialFolder:
    return TrialFolder(next(place.glob("*/study_0/*/trial_1"), place / "none"))


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
        self._records = Records()

    def run(self, num_kills: int, tell: object) -> None:
        """Start and disturb; when it was disturbed often enough, let it come to its end."""
        self._tally.num_trials += 1
        seconds = self._tally.attempt_s[-1] if self._tally.attempt_s else 12.0
        for _ in range(_MOST_ATTEMPTS):
            process = start(self._place, self._num_ranks, self._arguments)
            began_s = time.monotonic()
            if num_kills > 0:
                kind = self._choose.choice(self._kinds)
                process.wait_at_most(self._choose.uniform(0.0, 0.9 * seconds))
                phase = phase_of(_folder(self._place))
                if process.is_running() and DISTURBANCES[kind](process, self._place):
                    num_kills -= 1
                    self._tally.phases[phase] += 1
                    self._tally.kills[kind] += 1
                    if callable(tell):
                        tell()
            code = process.wait(timeout=_PATIENCE_S)
            if code == 0:
                seconds = time.monotonic() - began_s
                self._tally.attempt_s.append(seconds)
            self._look(process)
            if code == 0:  # should it have been faster than the kill, what is wanted more is for another trial
                return
        self._tally.problems.append(f"{self._place.name}: not done after {_MOST_ATTEMPTS} attempts")

    def _look(self, process: Disturbed) -> None:
        """Check what must hold after each end: no process left, no record gone, no raw traceback."""
        if left := process.left_over(within_s=_GONE_S):
            self._tally.problems.append(f"{self._place.name}: left over after {_GONE_S:.0f} s: {left}")
        if "Traceback (most recent call last)" in process.said():
            self._tally.problems.append(f"{self._place.name}: a raw traceback: {process.said()[-300:]}")
        if problem := self._records.problem(_folder(self._place)):
            self._tally.problems.append(f"{self._place.name}: {problem}")

    def compare(self, undisturbed: Trajectory) -> None:
        """Compare the finished trial with one that nobody disturbed."""
        folder = _folder(self._place)
        if not folder.path.exists() or folder.result() is None:
            return
        self._tally.compare(f"{self._place.name} on {self._num_ranks} ranks", folder, undisturbed)


if __name__ == "__main__":
    sys.exit(main())
