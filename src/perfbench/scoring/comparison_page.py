"""A few trials side by side as a page: their curves, what came of them and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from perfbench.results.trials import RecordedTrial
from perfbench.scoring.curves import Curve
from perfbench.scoring.page_parts import KEYS_OF_CHARTS, chart, curve_choices, header, key
from perfbench.scoring.page_shell import self_contained
from perfbench.scoring.report_data import curve_columns, look_data, thinned, value_limits
from perfbench.scoring.report_tables import plain_table
from perfbench.scoring.style import looks_of
from perfbench.scoring.tables import Table

_TITLE = "Trials compared"


def comparison_page(
    trials: Sequence[RecordedTrial], curves: Sequence[Curve], tables: Sequence[Table], warnings: Sequence[str]
) -> str:
    """Return the page as HTML.

    Args:
        trials: What is compared; the first one's workload and target are drawn.
        curves: Theirs, in the same order.
        tables: What came of them, and what differs.
        warnings: What makes the comparison weak.
    """
    labels = [f"{curve.label}: {trial.key}" for curve, trial in zip(curves, trials, strict=True)]
    submissions = [curve.submission for curve in curves]
    told = "".join(f'<p class="warnings">{escape(warning)}</p>' for warning in warnings)
    name, target = trials[0].spec.workload.name, trials[0].spec.target
    figure = chart(0, "curves", f"Training curves on {name}", workload=name)
    body = f"""{header(_TITLE)}
<main>
{told}
<h2>Curves</h2>
<h3>{escape(target.metric)}, target {target.threshold:g}</h3>
{key(labels, submissions)}
{curve_choices()}
{figure if any(len(curve.steps) for curve in curves) else '<p class="soft">No evaluation yet.</p>'}
{"".join(f"<h2>{escape(table.title)}</h2>{plain_table(table)}" for table in tables)}
{KEYS_OF_CHARTS}
</main>"""
    return self_contained(f"perfbench: {_TITLE.lower()}", body, [_data(trials, curves, labels)])


def _data(trials: Sequence[RecordedTrial], curves: Sequence[Curve], labels: Sequence[str]) -> dict[str, Any]:
    """Return the curves as the script of the report draws them: a line for each trial."""
    spec = trials[0].spec
    drawn = [
        {"submission": label, "workload": spec.workload.name, "study": trial.spec.study, "trial": trial.spec.trial}
        | _points(curve)
        for label, trial, curve in zip(labels, trials, curves, strict=True)
        if len(curve.steps)
    ]
    looks = looks_of([curve.submission for curve in curves])
    return {
        "name": _TITLE,
        "submissions": [look_data(look) | {"name": label} for label, look in zip(labels, looks, strict=True)],
        "workloads": [
            {
                "name": spec.workload.name,
                "metric": spec.target.metric,
                "target": spec.target.threshold,
                "budget_s": spec.max_submission_time_s,
                "limits": value_limits(drawn, spec.target),
            }
        ],
        "curves": drawn,
    }


def _points(curve: Curve) -> dict[str, Any]:
    def is_reached(value: float) -> bool:
        return curve.target.is_reached_by({curve.target.metric: value})

    reached = next((place for place, value in enumerate(curve.values.tolist()) if is_reached(value)), None)
    kept = thinned(len(curve.steps), reached)
    columns = curve_columns(curve.times_s[kept], curve.steps[kept], curve.values[kept])
    return columns | {"reached": None if reached is None else kept.index(reached)}
