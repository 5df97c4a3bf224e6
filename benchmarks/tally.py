"""What a campaign has done to trials, and what it has seen."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from benchmarks.trajectory import Trajectory
from perfbench.results.reader import read_trial
from perfbench.results.store import TrialFolder
from perfbench.results.trials import Complaint
from perfbench.scoring.verify import contradictions


@dataclass(slots=True)
class Tally:
    """What a campaign has seen."""

    kills: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    """Where trials were when they were disturbed, by their last pulse."""
    problems: list[str] = field(default_factory=list)
    num_trials: int = 0
    num_equal: int = 0
    num_measurements: int = 0
    attempt_s: list[float] = field(default_factory=list)
    """Of attempts that ended well."""

    def compare(self, name: str, folder: TrialFolder, undisturbed: Trajectory) -> None:
        """Compare a finished trial with one that nobody disturbed, and look for what ``verify`` would find."""
        found = Trajectory.of(folder)
        self.num_measurements += len(found.metrics)
        is_equal = found == undisturbed
        self.num_equal += is_equal
        if not is_equal:
            self.problems.append(f"{name}: {found.difference_from(undisturbed)}")
        complaints: list[Complaint] = []
        trial = read_trial(folder.path, complaints)
        self.problems += [f"{name}: {complaint}" for complaint in complaints if not complaint.is_harmless]
        if trial is not None:
            self.problems += [f"{name}: {one}" for findings in contradictions([trial]).values() for one in findings]

    def show(self, console: Console, title: str) -> None:
        """Print it as a table, and once more as JSON for a record."""
        table = Table(title=title, title_justify="left")
        table.add_column("what was done")
        table.add_column("times", justify="right")
        for name, count in sorted(self.kills.items()):
            table.add_row(name, str(count))
        console.print(table)
        console.print("in phase: " + ", ".join(f"{name} {count}" for name, count in self.phases.most_common()))
        console.print(
            f"{self.num_trials} trials, {self.num_equal} equal to an undisturbed one in all "
            f"{self.num_measurements} evaluations and every traced state"
        )
        for problem in self.problems:
            console.print(f"[red]problem[/]: {problem}", highlight=False)
        document = {
            "kills": dict(self.kills),
            "phases": dict(self.phases),
            "trials": self.num_trials,
            "equal": self.num_equal,
            "evaluations": self.num_measurements,
            "problems": self.problems,
        }
        print(json.dumps(document))
