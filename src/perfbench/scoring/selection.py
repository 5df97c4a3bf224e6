"""Which submissions and workloads a board is made of, where not all are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from perfbench.errors import ScoringError, nearest_name_hint
from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import TrialLog


@dataclass(frozen=True, slots=True)
class Selection:
    """What to take. A name may be a submission's or a workload's."""

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    common: bool = False
    """Only the workloads that all submissions have finished."""
    provisional: bool = False
    """Whether trials that are not over count as what they have measured so far."""

    def of(self, logs: Sequence[TrialLog], benchmark: Benchmark) -> tuple[list[TrialLog], Benchmark]:
        """Return the trials and the benchmark without what is not wanted.

        Raises:
            ScoringError: If nothing is left.
        """
        submissions = {log.key.submission for log in logs}
        names = set(benchmark.workloads)
        chosen = names & set(self.only) or names
        workloads = {
            name: facts for name, facts in benchmark.workloads.items() if name in chosen and name not in self.exclude
        }
        # A variant whose base is not wanted stands for itself.
        workloads = {
            name: facts if facts.base in workloads else facts.model_copy(update={"base": None})
            for name, facts in workloads.items()
        }
        wanted = (submissions & set(self.only) or submissions) - set(self.exclude)
        kept = [log for log in logs if log.key.submission in wanted and log.key.workload in workloads]
        if not kept:
            raise ScoringError("nothing is left of it", where=benchmark.name, hint="widen --only and --exclude")
        return kept, benchmark.model_copy(update={"workloads": workloads})


def check_names(selection: Selection, logs: Sequence[TrialLog], benchmarks: Sequence[Benchmark]) -> None:
    """Check that every name that is to be taken or left is known.

    Raises:
        ScoringError: With the nearest name.
    """
    known = {log.key.submission for log in logs} | {name for one in benchmarks for name in one.workloads}
    for option, names in (("--only", selection.only), ("--exclude", selection.exclude)):
        for name in names:
            if name not in known:
                raise ScoringError(
                    f"no submission or workload named {name!r} is here",
                    where=option,
                    hint=nearest_name_hint(name, known, kind="names"),
                )
