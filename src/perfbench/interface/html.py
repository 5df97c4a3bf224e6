"""What notebooks show: small tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding: 0.15em 0.8em; text-align: {}"


def html_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", caption: str = "") -> str:
    """Return a table; every text is escaped, since names come from strangers' files."""
    lines = [f"<table><caption style='text-align: left; font-weight: bold'>{escape(title)}</caption>"]
    lines.append(
        "<tr>"
        + "".join(f"<th scope='col' style='{_CELL.format('left')}'>{escape(name)}</th>" for name in header)
        + "</tr>"
    )
    for first, *rest in rows:
        cells = "".join(f"<td style='{_CELL.format('left')}'>{escape(cell)}</td>" for cell in rest)
        lines.append(f"<tr><th scope='row' style='{_CELL.format('left')}'>{escape(first)}</th>{cells}</tr>")
    return "".join([*lines, "</table>", f"<p><small>{escape(caption)}</small></p>" if caption else ""])
