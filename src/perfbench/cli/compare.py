"""``perfbench compare A B``: what differs between trials, and what came of it."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from perfbench.cli.listing import Listing
    from perfbench.results.trials import RecordedTrial
    from perfbench.scoring.curves import Curve
    from perfbench.scoring.tables import Table

_LETTERS = "ABCDEFGH"
_DIFF_LINES = 60
_HEIGHT = 16
_LONGEST_VALUE = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="TRIAL", help="two to eight trial folders")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object, and nothing else")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="the curves as a picture, .png or .svg, or a page, .html"
    )
    parser.add_argument(
        "--all-lines", action="store_true", help=f"of the code's diff, not only the first {_DIFF_LINES}"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison."""
    from rich.console import Console

    from perfbench.errors import ExitCode
    from perfbench.scoring.curves import curve_of

    trials = _read(arguments.paths)
    curves = [curve_of(letter, trial) for letter, trial in zip(_LETTERS, trials, strict=False)]
    found = comparison(trials, curves)
    if arguments.picture is not None:
        _draw(arguments.picture, trials, curves, found)
    if arguments.json:
        print(json.dumps(found, indent=2))  # noqa: T201 - the command line's own output
        return int(ExitCode.DONE)
    console = Console(soft_wrap=False)
    _print(console, found, curves, all_lines=arguments.all_lines)
    if arguments.picture is not None:
        console.print(f"wrote {arguments.picture}", soft_wrap=True)
    return int(ExitCode.DONE)


def _read(paths: Sequence[Path]) -> list[RecordedTrial]:
    """Read one trial from each path.

    Raises:
        ConfigError: If there are fewer than two paths, or too many.
        ResultsError: If a path holds no trial, or several.
    """
    from perfbench.errors import ConfigError, ResultsError
    from perfbench.results.reader import read_trials

    if not 1 < len(paths) <= len(_LETTERS):
        raise ConfigError(
            f"{len(paths)} trial(s) given",
            where="TRIAL",
            hint=f"name 2 to {len(_LETTERS)}; `perfbench table` lists them",
        )
    trials = []
    for path in paths:
        found = read_trials([path]).trials
        if not found:
            raise ResultsError(
                "holds no trial", where=str(path), hint="`perfbench table` lists trials and their folders"
            )
        if len(found) > 1:
            names = "".join(f"\n  - {trial.path}" for trial in found[:8])
            raise ResultsError(f"holds {len(found)} trials:{names}", where=str(path), hint="name one of them")
        trials += found
    return trials


def comparison(trials: Sequence[RecordedTrial], curves: Sequence[Curve]) -> dict[str, Any]:
    """Return everything that is compared, as plain data; numbers that are not finite are ``None``."""
    from perfbench.scoring import differences
    from perfbench.scoring.curves import common_step, common_time_s
    from perfbench.scoring.overview import rows_of

    time_s, step = common_time_s(curves), common_step(curves)
    rows = [rows_of([trial])[0] for trial in trials]
    shown = []
    for row, curve, trial in zip(rows, curves, trials, strict=True):
        shown.append(
            {
                "label": curve.label,
                "trial": str(trial.key),
                "folder": str(trial.path),
                "outcome": row.outcome,
                "time_to_target_s": row.time_s if row.is_reached else None,
                "best_metric": row.best_metric,
                "metric_at_equal_time": None if time_s is None else _finite(curve.at_time(time_s)),
                "metric_at_equal_step": None if step is None else _finite(curve.at_step(step)),
                "steps": row.num_steps,
                "batches": row.num_batches,
                "steps_per_s": row.steps_per_s,
                "memory_bytes": _memory_bytes(trial),
                "times_s": curve.times_s.tolist(),
                "steps_evaluated": curve.steps.tolist(),
                "values": [_finite(value) for value in curve.values.tolist()],
            }
        )
    first = trials[0]
    return {
        "metric": first.spec.target.metric,
        "direction": first.spec.target.direction.value,
        "target": first.spec.target.threshold,
        "equal_time_s": time_s,
        "equal_step": step,
        "trials": shown,
        "differences": {
            "configuration": differences.configuration(trials),
            "hyperparameters": differences.hyperparameters(trials),
            "environment": differences.environment(trials),
            "code": {curve.label: differences.code(first, trial) for curve, trial in _others(curves, trials)},
            "code_lines": {
                curve.label: differences.code_lines(first, trial) for curve, trial in _others(curves, trials)
            },
        },
        "warnings": _warnings(trials),
    }


def _others(curves: Sequence[Curve], trials: Sequence[RecordedTrial]) -> list[tuple[Curve, RecordedTrial]]:
    return list(zip(curves, trials, strict=True))[1:]


def _warnings(trials: Sequence[RecordedTrial]) -> list[str]:
    first = trials[0].spec
    found = []
    if any(trial.spec.workload.name != first.workload.name for trial in trials):
        found.append("they train different workloads: their metrics are not of one kind")
    elif any(trial.spec.target != first.target for trial in trials):
        found.append("they have different targets; the drawn one is A's")
    if any(trial.code is None for trial in trials):
        found.append("not all of them have their code on record")
    for letter, trial in zip(_LETTERS, trials, strict=False):
        if trial.code is not None and trial.code.changes:
            found.append(f"{letter} was continued with changed code")
        if trial.result is None:
            found.append(f"{letter} is unfinished")
    return found


def _memory_bytes(trial: RecordedTrial) -> float | None:
    """Return the most memory that was seen of rank 0: of its device, or of its process where it has none."""
    from perfbench.results.store import TrialFolder

    lines = TrialFolder(trial.path).telemetry("resources")
    for name in ("gpu_memory_most_bytes", "host_memory_bytes"):
        if found := [line[name] for line in lines if name in line]:
            return float(max(found))
    return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _draw(path: Path, trials: Sequence[RecordedTrial], curves: Sequence[Curve], found: dict[str, Any]) -> None:
    from perfbench.errors import ConfigError, ResultsError
    from perfbench.results.files import atomic_file

    if path.suffix not in (".png", ".svg", ".html"):
        raise ConfigError(
            f"no kind of picture: {path.suffix!r}", where="--picture", hint="end with .png, .svg or .html"
        )
    try:
        with atomic_file(path) as file:
            file.write(_drawn(path.suffix, trials, curves, found))
    except OSError as problem:
        raise ResultsError(f"cannot be written: {problem.strerror}", where=str(path)) from None


def _drawn(ending: str, trials: Sequence[RecordedTrial], curves: Sequence[Curve], found: dict[str, Any]) -> bytes:
    if ending == ".html":
        from perfbench.scoring.comparison_page import comparison_page

        return comparison_page(trials, curves, _tables(found), found["warnings"]).encode()
    from perfbench.scoring.plot import as_png, as_svg, trials_figure

    return (as_png if ending == ".png" else as_svg)(trials_figure(curves))


def _tables(found: dict[str, Any]) -> list[Table]:
    """Return what came of the trials, and what differs, as tables of a page."""
    from perfbench.cli.listing import short
    from perfbench.scoring.tables import Table

    letters = [one["label"] for one in found["trials"]]
    outcome = _result_table(found)
    tables = [Table("What came of them", tuple(outcome.header), tuple(map(tuple, outcome.rows)))]
    for title in ("hyperparameters", "configuration", "environment"):
        rows = [
            (name, *("-" if value is None else short(value) for value in each))
            for name, each in found["differences"][title].items()
        ]
        tables += [Table(f"Differences of {title}", (title, *letters), tuple(rows))] if rows else []
    files = found["differences"]["code"]
    rows = [(f"A and {label}", file) for label, changed in files.items() for file in changed]
    return [*tables, *([Table("Differences of code", ("between", "file"), tuple(rows))] if rows else [])]


def _print(console: Console, found: dict[str, Any], curves: Sequence[Curve], *, all_lines: bool) -> None:
    from rich.markup import escape

    from perfbench.cli.listing import print_listing

    for one in found["trials"]:
        console.print(
            f"[bold]{one['label']}[/]  {escape(one['trial'])}  [dim]{escape(one['folder'])}[/]", soft_wrap=True
        )
    for warning in found["warnings"]:
        console.print(f"[yellow]warning[/] {escape(warning)}", soft_wrap=True)
    letters = [one["label"] for one in found["trials"]]
    for title in ("configuration", "hyperparameters", "environment"):
        values = found["differences"][title]
        if not values:
            console.print(f"\n{title}: the same")
            continue
        console.print()
        print_listing(console, _difference_table(title, letters, values))
    _print_code(console, found["differences"], all_lines=all_lines)
    _print_plots(console, curves, found["metric"])
    print_listing(console, _result_table(found))


def _difference_table(title: str, letters: Sequence[str], values: dict[str, list[Any]]) -> Listing:
    from rich.markup import escape

    from perfbench.cli.listing import Listing, short

    listing = Listing([title, *letters])
    for name, each in values.items():
        shown = ["-" if value is None else short(value) for value in each]
        listing.add(
            escape(name),
            *(escape(text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}...") for text in shown),
        )
    return listing


def _print_code(console: Console, differences: dict[str, Any], *, all_lines: bool) -> None:
    for label, files in differences["code"].items():
        if not files:
            console.print(f"\ncode of A and {label}: the same")
            continue
        console.print(f"\ncode: {len(files)} file(s) differ between A and {label}")
        for line in files[:_DIFF_LINES]:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        lines = differences["code_lines"][label]
        shown = lines if all_lines else lines[:_DIFF_LINES]
        for line in shown:
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            console.print(f"  {line}", style=colour, markup=False, highlight=False, soft_wrap=True)
        if len(shown) < len(lines):
            console.print(f"  ... and {len(lines) - len(shown)} more lines: --all-lines")


def _print_plots(console: Console, curves: Sequence[Curve], metric: str) -> None:
    import numpy as np

    from perfbench.cli.terminal_plot import Axes, Line, plot, visible

    if not any(len(curve.steps) for curve in curves):
        console.print("\nno evaluation yet")
        return
    for label in ("seconds on the clock", "steps"):
        lines = [
            Line(
                curve.label,
                curve.times_s if label != "steps" else curve.steps.astype(np.float64),
                visible(curve.values),
            )
            for curve in curves
        ]
        target = curves[0].target.threshold
        axes = Axes(f"{metric} against {label} (line: target {target:g})", label, target)
        text = plot(lines, axes, width=min(console.width, 100), height=_HEIGHT, colours=console.is_terminal)
        console.print()
        console.file.write(text + "\n")


def _result_table(found: dict[str, Any]) -> Listing:
    from perfbench.cli.listing import Listing

    trials = found["trials"]
    listing = Listing([found["metric"], *(one["label"] for one in trials)], right=frozenset(_LETTERS))
    at_time = "" if found["equal_time_s"] is None else f" ({found['equal_time_s']:.1f} s)"
    at_step = "" if found["equal_step"] is None else f" ({found['equal_step']:,})"
    rows: dict[str, tuple[str, str]] = {
        "outcome": ("outcome", "{}"),
        f"time to target {found['target']:g}": ("time_to_target_s", "{:,.1f} s"),
        "best": ("best_metric", "{:.5f}"),
        f"at equal time{at_time}": ("metric_at_equal_time", "{:.5f}"),
        f"at equal step{at_step}": ("metric_at_equal_step", "{:.5f}"),
        "steps": ("steps", "{:,}"),
        "steps/s": ("steps_per_s", "{:,.1f}"),
    }
    for name, (key, form) in rows.items():
        listing.add(name, *("-" if one[key] is None else form.format(one[key]) for one in trials))
    memory = [None if one["memory_bytes"] is None else one["memory_bytes"] / 2**30 for one in trials]
    listing.add("memory", *("-" if used is None else f"{used:.2f} GiB" for used in memory))
    return listing
