"""The mini board's page: what ran, what is missing, and whether it says anything of full scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.mini_correlation import LEAST_ENTRIES, TAU_MAX, Correlation, best, correlations, ratios
from benchmarks.mini_plan import Wanted, facts_of, target_of
from benchmarks.mini_results import REACHED, Best, Published, Results
from perfbench.results.files import atomic_file, write_text_atomically
from perfbench.scoring.plot import as_svg, line_style
from perfbench.scoring.style import looks_of, profile_steps

_PICTURE = "images/mini-board.svg"


def write_page(path: Path, wanted: Wanted, results: Results, published: Published) -> None:
    """Replace the page and its picture."""
    found = list(correlations(wanted, results, published))
    shown = [name for name in wanted.submissions if any(_rows(wanted, results, name))]
    lines = [
        "# Mini board",
        "",
        first_sentence(found, num_workloads=len(set(wanted.workloads) - {wanted.rescaled_on})),
        "",
        "Which submission reaches which workload's *smoke target* at mini scale, by the first of its points that does;",
        f"steps, and in brackets scored seconds. Evaluations come every 1/{results.num_evaluations} of the steps: so",
        "steps are the same on any machine; seconds are of a busy one. *missing*: not yet run. Drawn from",
        "`mini-board.json`; the same command goes on where it stopped:",
        "",
        '    make mini-board ARGS="--workloads all"',
        "",
        *_done(wanted, results),
        "",
        "## Beside the published boards",
        "",
        *_correlation_table(found),
        "",
        "Kendall's tau-b of mini and published scores; in brackets the 95 % interval, bootstrapped over entries.",
        "A mini score is the area under the performance profile, as [scoring](scoring.md) has it, over workloads that",
        f"all entries of the row have run; `{wanted.rescaled_on}`, on which rates are rescaled, is never among them.",
        f"Boards of which fewer than {LEAST_ENTRIES} entries have run are left out.",
        "",
        *_table("As published", wanted, results, shown, rescaled=False),
    ]
    if any(wanted.factor(results, name) for name in shown):
        lines += ["", *_table("Rate rescaled", wanted, results, shown, rescaled=True)]
    figure = _profile(wanted, results, published)
    if figure is not None:
        lines += ["", f"![Performance profiles by steps]({_PICTURE})"]
        picture = path.parent / _PICTURE
        picture.parent.mkdir(exist_ok=True)
        with atomic_file(picture) as file:
            file.write(as_svg(figure))
    write_text_atomically(path, "\n".join(lines) + "\n")


def first_sentence(found: Sequence[Correlation], *, num_workloads: int) -> str:
    """Return what small tasks say of large ones, whatever it is.

    Args:
        found: All comparisons.
        num_workloads: How many small tasks there are to compare by: with fewer the answer is for now.
    """
    if not found:
        return "**Nothing can be said yet of whether small tasks predict the published ranking: too little has run.**"
    first = max(found, key=lambda one: (len(one.what.entries), len(one.what.workloads), -found.index(one)))
    numbers = f"Kendall's tau {first.tau:.2f} [{first.interval.low:.2f}, {first.interval.high:.2f}]"
    count = len(first.what.workloads)
    these = "These small tasks" if count == num_workloads else f"So far, by {count} of {num_workloads}, small tasks"
    what = (
        f"({len(first.what.entries)} entries of {first.board.name}, {', '.join(first.what.workloads)}, "
        f"by {first.measure}, {first.how})"
    )
    if not first.excludes_chance:
        return f"**{these} predict nothing of the published ranking: {numbers} includes chance** {what}."
    if first.tau < 0:
        return f"**{these} rank the other way round than the published board: {numbers}** {what}."
    return f"**{these} predict a part of the published ranking: {numbers}** {what}."


def _rows(wanted: Wanted, results: Results, name: str, *, rescaled: bool = False) -> list[Best | None]:
    return [best(wanted, results, one, name, rescaled=rescaled) for one in wanted.workloads]


def _done(wanted: Wanted, results: Results) -> list[str]:
    """Return how much has run, on what."""
    cells = [wanted.best(results, one, name) for name in wanted.submissions for one in wanted.workloads]
    machines = sorted({one.machine for one in results.ran if one.machine})
    earlier = sum(bool(one.engine) for one in results.ran)
    lines = [f"{sum(one is not None for one in cells)} of {len(cells)} cells have run, in {len(results.ran)} trials. "]
    lines[0] += f"Machines: {'; '.join(machines) or 'none yet'}."
    if earlier:
        lines[0] += (
            f" {earlier} trials ran under an earlier engine (†): their steps stand, their seconds compare only with "
            "one another."
        )
    return lines


def _correlation_table(found: Sequence[Correlation]) -> list[str]:
    if not found:
        return ["Too little has run."]
    rows = [
        f"| {one.board.name} | {one.how} | {one.measure} | {len(one.what.entries)} | {', '.join(one.what.workloads)} | "
        f"{one.tau:.2f} [{one.interval.low:.2f}, {one.interval.high:.2f}] |"
        for one in found
    ]
    head = [
        "| published board | points | by | entries | small workloads | tau |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return [*head, *rows]


def _table(title: str, wanted: Wanted, results: Results, shown: Sequence[str], *, rescaled: bool) -> list[str]:
    heads = [
        f"{name} ({target_of(name).metric.split('/')[-1]} {target_of(name).threshold:g})" for name in wanted.workloads
    ]
    lines = [f"## {title}", ""]
    if rescaled:
        lines += [
            "Once per submission: the factor of the learning rate with the fewest steps to the target of",
            f"`{wanted.rescaled_on}`, by the first point. Submissions without a learning rate to set are as published,",
            "and not shown.",
            "",
        ]
        shown = [name for name in shown if wanted.factor(results, name)]
        heads = ["factor", *heads]
    lines += ["| submission | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for name in shown:
        factor = wanted.factor(results, name) if rescaled else None
        cells = [_text(best(wanted, results, one, name, rescaled=rescaled)) for one in wanted.workloads]
        lines.append("| " + " | ".join([name, *([f"{factor:g}"] if factor else []), *cells]) + " |")
    absent = [name for name in wanted.submissions if name not in shown] if not rescaled else []
    files = [name for name in absent if facts_of(name).missing_files]
    if left := [name for name in absent if name not in files]:
        lines += ["", f"Wholly missing: {', '.join(left)}."]
    if files:
        lines += ["", f"Cannot run here without files that are not shipped: {', '.join(files)}."]
    return lines


def _text(cell: Best | None) -> str:
    """Return a cell for people."""
    if cell is None:
        return "*missing*"
    ran = cell.ran
    if ran.outcome == REACHED:
        return f"{ran.step:,} ({ran.submission_time_s:.0f} s){'†' if ran.engine else ''}, point {ran.point}"
    best = "none" if ran.best_metric is None else f"{ran.best_metric:.4g}"
    more = "" if cell.is_over else ", more points missing"
    return f"**no**: best {best}, {ran.outcome.replace('_', ' ')} ({cell.num_tried} tried{more})"


def _profile(wanted: Wanted, results: Results, published: Published) -> Figure | None:
    """Draw the profiles by steps of the first published board's entries."""
    found = [one for one in correlations(wanted, results, published) if one.measure == "steps"]
    if not found:
        return None
    first = found[0]
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.add_subplot()
    factors_of = ratios(wanted, results, first.what, "steps")
    for row, (name, look) in enumerate(zip(first.what.entries, looks_of(first.what.entries), strict=True)):
        factors, shares = profile_steps(factors_of[row].tolist(), tau_max=TAU_MAX)
        axes.step(factors, shares, where="post", markersize=5, label=name, **line_style(look))
    axes.set(xlim=(1.0, TAU_MAX), ylim=(-0.02, 1.02), xlabel="factor of the fewest steps", ylabel="share of workloads")
    axes.set_title(f"{', '.join(first.what.workloads)}: {first.how}")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure
