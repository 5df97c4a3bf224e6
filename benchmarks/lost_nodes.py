"""Nodes that are lost at random moments, on the Slurm of the tests: is anything lost, doubled, or another trajectory?

A trial on one node and one on both are trained side by side, again and again, while a node's daemon is killed, or the
node with everything on it, or an operator takes it out of service, or Slurm puts a job back; the node returns at once
or when Slurm has noticed. Only what an operator does helps: nodes that Slurm has closed are opened, and ``resume`` is
asked. Then every evaluation and every traced state is compared with those of trials that nobody disturbed.

    python -m benchmarks.lost_nodes [--losses 20] [--seed 0] [--keep FOLDER]

Needs root, slurm-wlm and munge; the cluster is its own and ends with it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.tally import Tally
from benchmarks.trajectory import Records, Trajectory, phase_of
from perfbench.results.store import TrialFolder
from tests.integration import slurm_cluster, small_criteo
from tests.integration.slurm_cluster import TestCluster
from tests.integration.slurm_trials import SLOW, result_path, slow_submission, trials

_NODES = ("n1", "n2")
_LOSSES_PER_ROUND = 4
_LONGEST_UNTIL_LOST_S = 45.0
"""After the one before: while a job waits, starts, trains, evaluates or saves."""
_LONGEST_AWAY_S = 10.0
_PATIENCE_S = 900.0


def main() -> int:
    """Disturb, look after, compare and print; 1 if anything was lost, doubled, or other than undisturbed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new folder for trials (default: a temporary one)")
    arguments = parser.parse_args()
    console, tally = Console(), Tally()
    if missing := slurm_cluster.missing_programs():
        parser.error(f"no Slurm here ({', '.join(missing)}): apt-get install slurm-wlm munge")
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.keep or Path(temporary)).resolve()
        small_criteo.prepare_data(root / "data")
        (root / "slurm").mkdir()
        cluster = slurm_cluster.start(root / "slurm", root / "data")
        try:
            with Progress(console=console) as progress:
                bar = progress.add_task("undisturbed trials", total=arguments.losses)
                campaign = _Campaign(cluster, root, random.Random(arguments.seed), tally)
                while sum(tally.kills.values()) < arguments.losses:
                    wanted = min(_LOSSES_PER_ROUND, arguments.losses - sum(tally.kills.values()))
                    campaign.round(wanted, lambda: progress.update(bar, completed=sum(tally.kills.values())))
                    progress.update(bar, description=f"{tally.num_trials} trials")
        finally:
            slurm_cluster.stop(root / "slurm")
    tally.show(console, f"{sum(tally.kills.values())} losses (seed {arguments.seed})")
    console.print(f"an operator has opened nodes and resumed {campaign.num_resumes} times")
    return 1 if tally.problems else 0


@dataclass(frozen=True, slots=True)
class _Trial:
    """A sweep of one trial with long steps, until there is a file beside its code."""

    root: Path
    num_nodes: int
    records: Records = field(default_factory=Records)

    @property
    def folder(self) -> TrialFolder:
        return TrialFolder(result_path(self.root).parent)

    @property
    def is_done(self) -> bool:
        return result_path(self.root).exists()

    def submit(self, cluster: TestCluster, *, is_slow: bool) -> None:
        code = slow_submission(self.root.with_name(f"code_{self.root.name}"), pause_s=0.2)
        if not is_slow:
            self.hasten()
        nodes = (f"cluster.nodes={self.num_nodes}", "cluster.gpus_per_node=1", "cluster.max_attempts=100")
        done = cluster.sweep(self.root, "submission=baseline", code, trials(1), *SLOW, *nodes, looked_after=True)
        if done.returncode:
            raise SystemExit(f"the sweep was refused: {done.stderr}")

    def hasten(self) -> None:
        self.root.with_name(f"code_{self.root.name}.fast").touch()


class _Campaign:
    """Rounds of two trials on two nodes."""

    def __init__(self, cluster: TestCluster, root: Path, choose: random.Random, tally: Tally) -> None:
        self._cluster = cluster
        self._root = root
        self._choose = choose
        self._tally = tally
        self.num_resumes = 0
        whole = [_Trial(root / f"undisturbed_on_{number}", number) for number in (1, 2)]
        for trial in whole:
            trial.submit(cluster, is_slow=False)
        cluster.wait_until(lambda: all(trial.is_done for trial in whole), "undisturbed trials end")
        self._undisturbed = {trial.num_nodes: Trajectory.of(trial.folder) for trial in whole}

    def round(self, num_losses: int, tell: Callable[[], None]) -> None:
        """Train two trials to their end, and lose nodes meanwhile."""
        number = self._tally.num_trials
        pair = [_Trial(self._root / f"trial_{number + index}_on_{index + 1}", index + 1) for index in (0, 1)]
        self._tally.num_trials += len(pair)
        for trial in pair:
            trial.submit(self._cluster, is_slow=True)
        for _ in range(num_losses):
            self._look_after(pair, self._choose.uniform(0.0, _LONGEST_UNTIL_LOST_S))
            kind = self._choose.choice(list(_LOSSES))
            self._tally.phases.update(phase_of(trial.folder) for trial in pair)
            _LOSSES[kind](self, self._choose.choice(_NODES))
            self._tally.kills[kind] += 1
            tell()
        for trial in pair:
            trial.hasten()
        self._look_after(pair, _PATIENCE_S)
        for trial in pair:
            name = f"{trial.root.name} on {trial.num_nodes} nodes"
            if not trial.is_done:
                self._tally.problems.append(f"{name}: not done after {_PATIENCE_S:.0f} s\n{self._cluster.accounts()}")
            else:
                self._tally.compare(name, trial.folder, self._undisturbed[trial.num_nodes])

    def _look_after(self, pair: list[_Trial], seconds: float) -> None:
        """Wait, doing what an operator does; no longer than until both trials have ended."""
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s and not all(trial.is_done for trial in pair):
            self._cluster.hasten()
            for trial in pair:
                if problem := trial.records.problem(trial.folder):
                    self._tally.problems.append(f"{trial.root.name}: {problem}")
                if not trial.is_done and "held (" in self._cluster.perfbench("status", str(trial.root)).stdout:
                    self._cluster.open_nodes()
                    self._cluster.perfbench("resume", str(trial.root))
                    self.num_resumes += 1
            time.sleep(1.0)

    def cut(self, node: str, *, is_noticed: bool, takes_all: bool) -> None:
        """Lose a node: its daemon, or everything on it; it returns at once, or when Slurm has noticed."""
        self._cluster.kill_daemon(node)
        if takes_all:
            self._cluster.end_processes(node)
        if is_noticed:
            self._cluster.wait_until(lambda: node in self._down(), f"{node} counts as down")
        else:
            time.sleep(self._choose.uniform(0.0, _LONGEST_AWAY_S))
        self._cluster.start_daemon(node)

    def take_out(self, node: str) -> None:
        """Take a node out of service while its jobs run, as an operator does, and put it back."""
        self._cluster.slurm("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost")
        time.sleep(self._choose.uniform(0.0, _LONGEST_AWAY_S))
        self._cluster.open_node(node)

    def put_back(self, _node: str) -> None:
        """Have Slurm requeue what runs, as a job of higher priority does."""
        for job in self._cluster.slurm("squeue", "--noheader", "--states=RUNNING", "--format=%A").split():
            self._cluster.slurm("scontrol", "requeue", job)

    def _down(self) -> list[str]:
        return self._cluster.slurm("sinfo", "--noheader", "--Node", "--states=DOWN", "--format=%N").split()


_LOSSES: Mapping[str, Callable[[_Campaign, str], None]] = {
    "daemon killed, back at once": lambda one, node: one.cut(node, is_noticed=False, takes_all=False),
    "daemon killed, back when it was noticed": lambda one, node: one.cut(node, is_noticed=True, takes_all=False),
    "node died, back at once": lambda one, node: one.cut(node, is_noticed=False, takes_all=True),
    "node died, back when it was noticed": lambda one, node: one.cut(node, is_noticed=True, takes_all=True),
    "node taken out of service": lambda one, node: one.take_out(node),
    "jobs requeued": lambda one, node: one.put_back(node),
}


if __name__ == "__main__":
    sys.exit(main())
