"""Write docs/notebooks/python.ipynb from docs/how-to/python.md: text stays text, code becomes cells."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "how-to" / "python.md"
NOTEBOOK = ROOT / "docs" / "notebooks" / "python.ipynb"
_CODE = re.compile(r"^```python\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)


def notebook_of(page: str) -> str:
    """Return the notebook of a page, without outputs; the same page gives the same text."""
    cells: list[dict[str, object]] = []
    for number, part in enumerate(_CODE.split(page)):
        text = re.sub(r"\]\((?!http)([^)]+)\)", r"](../how-to/\1)", part.strip()) if number % 2 == 0 else part.strip()
        if text:
            kind = "code" if number % 2 else "markdown"
            cell: dict[str, object] = {
                "cell_type": kind,
                "id": f"cell-{len(cells)}",
                "metadata": {},
                "source": text.splitlines(keepends=True),
            }
            cells.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the notebook."""
    NOTEBOOK.parent.mkdir(exist_ok=True)
    NOTEBOOK.write_text(notebook_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
