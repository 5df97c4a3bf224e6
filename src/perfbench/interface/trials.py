"""Trials as objects: what was asked for, what was measured, what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from perfbench.cli.boards import read_own_trials
from perfbench.errors import ResultsError
from perfbench.interface.html import html_table
from perfbench.results.reader import read_trial
from perfbench.results.store import TrialFolder
from perfbench.results.trials import Complaint, RecordedTrial
from perfbench.scoring.overview import TrialRow, frame, rows_of
from perfbench.spec.environment import Environment
from perfbench.spec.result import TrialResult
from perfbench.spec.run import TrialSpec

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from perfbench.scoring.plot import Drawing


class Trial:
    """One trial, read from its folder when it was loaded.

    Args:
        record: All that the folder holds.
    """

    def __init__(self, record: RecordedTrial) -> None:
        self.record = record

    @classmethod
    def load(cls, folder: str | Path) -> Trial:
        """Read a trial's folder.

        Raises:
            ResultsError: If it is none, or its ``run.json`` cannot be read.
        """
        complaints: list[Complaint] = []
        record = read_trial(Path(folder), complaints)
        if record is None:
            first = complaints[0].what if complaints else "no run.json"
            raise ResultsError(f"no trial: {first}", where=str(folder), hint="perfbench.load_trials finds them")
        return cls(record)

    @property
    def folder(self) -> Path:
        """Where the trial is."""
        return self.record.path

    @property
    def spec(self) -> TrialSpec:
        """What was asked for: workload, submission, point, rules."""
        return self.record.spec

    @property
    def result(self) -> TrialResult | None:
        """How it ended; ``None`` while it may still go on."""
        return self.record.result

    @property
    def environment(self) -> Environment | None:
        """What it ran on, last."""
        return self.record.environment

    @property
    def row(self) -> TrialRow:
        """The trial in short: outcome, steps, best metric, seconds."""
        return rows_of([self.record])[0]

    @property
    def is_reached(self) -> bool:
        """Whether the target was reached."""
        return self.row.is_reached

    @property
    def time_s(self) -> float | None:
        """Seconds on the clock: at the target, else at the end."""
        return self.row.time_s

    @property
    def measurements(self) -> pl.DataFrame:
        """The evaluations that count: ``step``, ``submission_time_s``, and a column for each metric."""
        import polars as pl

        return pl.DataFrame(
            [
                {"step": one.step, "submission_time_s": one.submission_time_s, **one.metrics}
                for one in self.record.measurements
            ],
            infer_schema_length=None,
        )

    def telemetry(self, kind: str = "steps") -> pl.DataFrame:
        """Return what was recorded besides measurements; no score depends on it.

        Args:
            kind: ``steps`` (a row for each step that was recorded: loss and whatever the submission reports),
                ``resources``, ``pulse``, ``started``, ``warning`` and others: docs/results-format.md.
        """
        import polars as pl

        lines = [
            {name: value for name, value in line.items() if name != "kind"}
            for line in TrialFolder(self.folder).telemetry(kind)
        ]
        if kind != "steps":
            return pl.DataFrame(lines, infer_schema_length=None)
        # A line has lists of several steps, of equal lengths; later lines may have further values.
        return pl.concat([pl.DataFrame(line) for line in lines], how="diagonal_relaxed") if lines else pl.DataFrame()

    def __repr__(self) -> str:
        """Return one line."""
        row = self.row
        best = "" if row.best_metric is None else f", best {row.metric} {row.best_metric:.5g}"
        time = "" if row.time_s is None else f", {row.time_s:.1f} s on the clock"
        return f"<Trial {self.record.key}: {row.outcome.replace('_', ' ')}, {row.num_steps:,} steps{time}{best}>"

    def _repr_html_(self) -> str:
        row = self.row
        point = ", ".join(f"{name}={value}" for name, value in row.hyperparameters.items())
        target = self.spec.target
        rows = [
            ("outcome", row.outcome.replace("_", " ")),
            ("time on the clock", "-" if row.time_s is None else f"{row.time_s:,.1f} s"),
            ("steps", f"{row.num_steps:,}"),
            ("best", "-" if row.best_metric is None else f"{target.metric} {row.best_metric:.5g}"),
            ("target", f"{target.threshold:g}"),
            ("hyperparameters", point or "none: it tunes itself"),
            ("folder", str(self.folder)),
        ]
        return html_table(("trial", str(self.record.key)), rows)


class Trials(Sequence[Trial]):
    """Several trials.

    Args:
        trials: In the order that they keep.
        complaints: What was wrong on disk.
    """

    def __init__(self, trials: Sequence[Trial], complaints: Sequence[Complaint] = ()) -> None:
        self._trials = tuple(trials)
        self.complaints = tuple(complaints)

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> Trials: ...
    def __getitem__(self, index: int | slice) -> Trial | Trials:
        """Return a trial, or some of them."""
        return Trials(self._trials[index]) if isinstance(index, slice) else self._trials[index]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        """Yield them in order."""
        return iter(self._trials)

    @property
    def rows(self) -> list[TrialRow]:
        """The trials in short, the best of each submission on each workload first."""
        return rows_of([trial.record for trial in self])

    def frame(self) -> pl.DataFrame:
        """Return one row a trial, the best first: what ``perfbench table --parquet`` writes."""
        return frame(self.rows)

    def to_pandas(self) -> pd.DataFrame:
        """Return the same for pandas, which must be installed."""
        import pandas as pd

        return pd.DataFrame(self.frame().to_dict(as_series=False))

    def measurements(self) -> pl.DataFrame:
        """Return the evaluations of all trials below one another, with the trial's names in the first columns."""
        import polars as pl

        named = [
            trial.measurements.select(
                *(pl.lit(value).alias(name) for name, value in trial.record.key._asdict().items()), pl.all()
            )
            for trial in self
            if trial.record.measurements
        ]
        return pl.concat(named, how="diagonal") if named else pl.DataFrame()

    def __repr__(self) -> str:
        """Return a line for each, at most ten."""
        shown = [repr(trial) for trial in self[:10]]
        more = [f"and {len(self) - len(shown)} more"] if len(self) > len(shown) else []
        return "\n".join([f"{len(self)} trials", *shown, *more])

    def _repr_html_(self) -> str:
        rows = [
            (
                row.submission,
                row.workload,
                row.name,
                row.outcome.replace("_", " "),
                f"{row.num_steps:,}",
                "-" if row.best_metric is None else f"{row.best_metric:.5g}",
                "-" if row.time_s is None else f"{row.time_s:,.1f}",
            )
            for row in self.rows
        ]
        header = ("submission", "workload", "trial", "outcome", "steps", "best", "time (s)")
        return html_table(header, rows, caption="; ".join(map(str, self.complaints[:5])))


def load_trials(*paths: str | Path) -> Trials:
    """Read all trial folders below some paths.

    Args:
        paths: Folders, at any depth above the trials; ``runs`` where none is given.

    Raises:
        ResultsError: If a path does not exist, or there is no trial.
    """
    reading = read_own_trials([Path(path).expanduser() for path in paths] or [Path("runs")])
    return Trials([Trial(record) for record in reading.trials], reading.complaints)


def plot_curves(trials: Trial | Sequence[Trial]) -> Drawing:
    """Draw the target's metric of trials of one workload against the time on the clock and against steps.

    Raises:
        ResultsError: If there is no trial, or they are of several workloads.
    """
    from perfbench.scoring.curves import curve_of
    from perfbench.scoring.plot import Drawing, trials_figure

    chosen: Sequence[Trial] = [trials] if isinstance(trials, Trial) else trials
    workloads = sorted({trial.spec.workload.name for trial in chosen})
    if len(workloads) != 1:
        raise ResultsError(
            f"curves of {', '.join(workloads) or 'no trial'} cannot share an axis",
            where="plot_curves",
            hint="give trials of one workload: [t for t in trials if t.spec.workload.name == NAME]",
        )
    return Drawing(trials_figure([curve_of(_label(trial, chosen), trial.record) for trial in chosen]))


def _label(trial: Trial, among: Sequence[Trial]) -> str:
    """Return the shortest name that tells a trial from the others."""
    key: Any = trial.record.key
    alike = [one for one in among if one.record.key.submission == key.submission]
    return key.submission if len(alike) == 1 else str(key).replace(f" on {key.workload}", "")
