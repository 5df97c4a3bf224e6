"""Pieces that pages are made of: their top, switches, legends, places of figures. The script gives them life."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from perfbench.scoring.report_tables import breakable, key_mark
from perfbench.scoring.style import looks_of

KEYS_OF_CHARTS = (
    '<p id="keys" class="unseen">Left and right arrows read the points of a line, up and down arrows choose the line, '
    "Escape ends.</p>"
)
_CHOICES = (
    ("x", "Curves over", (("time", "time"), ("steps", "steps"))),
    ("range", "Curves show", (("near", "near the target"), ("whole", "the whole"))),
    (
        "scale",
        "Scales of the curves",
        (("linear", "linear"), ("logx", "log x"), ("logy", "log y"), ("log", "both log")),
    ),
)


def header(title: str, links: str = "") -> str:
    """Return the top of a page: what it is about, where to go, and the switch for light and dark."""
    themes = choice("theme", "Colours of the page", (("auto", "auto"), ("light", "light"), ("dark", "dark")))
    return f"""<header><div class="title"><h1>{escape(title)}</h1>{themes}</div><nav aria-label="Sections">{links}</nav>
<noscript><p class="warnings">The figures and the list of trials need this page's script; the commands that write pages
write figures as pictures too.</p></noscript></header>"""


def choice(name: str, label: str, values: Sequence[tuple[str, str]]) -> str:
    """Return buttons of which one is chosen; what is chosen stands in the address."""
    buttons = "".join(
        f'<button type="button" data-set="{name}" data-value="{value}">{text}</button>' for value, text in values
    )
    return f'<div class="choice" role="group" aria-label="{label}">{buttons}</div>'


def chart(index: int, kind: str, label: str, caption: str = "", *, workload: str = "") -> str:
    """Return the place of a figure, which the script draws when it comes into view."""
    about = f' data-workload="{escape(workload)}"' if workload else ""
    named = f"<h4>{breakable(workload)}</h4>" if workload else ""
    said = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure class="chart {kind}" data-board="{index}" data-kind="{kind}"{about}>'
        f'<div class="top">{named}<div class="tools"></div></div>'
        f'<div class="plot" tabindex="0" role="group" aria-label="{escape(label)}" aria-describedby="keys"></div>'
        f'<p class="reading soft" aria-live="polite"></p>{said}</figure>'
    )


def curve_choices() -> str:
    """Return the switches of all training curves."""
    return f'<div class="choices">{"".join(choice(name, label, values) for name, label, values in _CHOICES)}</div>'


def key(labels: Sequence[str], submissions: Sequence[str]) -> str:
    """Return the legend of all figures, whose entries show and hide a line.

    Args:
        labels: What the lines are called.
        submissions: Whose each line is: its look follows from that.
    """
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-submission="{escape(name)}">'
        f"{key_mark(look)} {escape(name)}</button>"
        for name, look in zip(labels, looks_of(submissions), strict=True)
    )
    return (
        f'<div class="key" role="group" aria-label="Show or hide lines">{buttons}'
        '<button type="button" data-all="true">all</button><button type="button" data-all="false">none</button></div>'
    )
