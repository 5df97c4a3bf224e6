"""Names from other people's disks, fit to be shown: whatever bytes they are made of."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Moves the cursor, colours or reverses the text of a terminal, or begins a line."""


def printable(name: object) -> str:
    r"""Return a name or path in which bytes that are no UTF-8 and control characters are escaped with a backslash.

    >>> printable("runs/caf\udce9"), printable("a\x1b[31m"), printable("caf\u00e9")
    ('runs/caf\\udce9', 'a\\x1b[31m', 'café')
    """
    text = str(name)
    if text.isascii() and text.isprintable():
        return text
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
