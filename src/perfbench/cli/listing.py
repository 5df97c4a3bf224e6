"""Tables for people: never cut in a pipe or a file, and row after row where a terminal is too narrow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_NEVER_CUT = 100_000
"""Columns: more than any table has."""


@dataclass(slots=True)
class Listing:
    """Rows of cells; a cell may have rich's markup."""

    header: Sequence[str]
    title: str = ""
    right: frozenset[str] = frozenset()
    """Names of columns of numbers."""
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Add a row."""
        assert len(cells) == len(self.header), "a cell for each column"
        self.rows.append(cells)


def short(value: object) -> str:
    """Return a value with few digits.

    >>> short(0.03903845161205739), short(3), short("sum")
    ('0.03904', '3', 'sum')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_listing(console: Console, listing: Listing) -> None:
    """Print a table if it fits, else its rows one below another: a name and a value on each line."""
    table = _table(listing)
    natural = Measurement.get(console, console.options.update(max_width=_NEVER_CUT), table).maximum
    has_width = console.is_terminal or "COLUMNS" in os.environ
    if not has_width or natural <= console.width:
        width, console.width = console.width, max(natural, console.width)
        console.print(table)
        console.width = width
        return
    if listing.title:
        console.print(f"[italic]{listing.title}[/]")
    longest = max(map(len, listing.header))
    for row in listing.rows:
        for name, cell in zip(listing.header, row, strict=True):
            if Text.from_markup(cell).plain:
                console.print(f"  [dim]{name:>{longest}}[/]  {cell}", soft_wrap=True, highlight=False)
        console.print()


def _table(listing: Listing) -> Table:
    table = Table(title=listing.title or None, title_justify="left")
    for name in listing.header:
        table.add_column(name, justify="right" if name in listing.right else "left", no_wrap=True)
    for row in listing.rows:
        table.add_row(*row)
    return table
