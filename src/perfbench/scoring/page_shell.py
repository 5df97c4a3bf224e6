"""A page that is one file: styles, scripts, data and the chart library stand inside, and it may load nothing else.

Only this module knows the library (plotly.js, from the Python package; docs/adr/0011-charts.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

_PARTS = Path(__file__).parent / "page"
_SCRIPTS = ("state.js", "figures.js", "charts.js", "tables.js", "report.js")
_START = """\
const charts = start(JSON.parse(document.getElementById("data").textContent));
// The library comes after the page is there to be read: it keeps a processor busy for a second.
requestAnimationFrame(() => setTimeout(async () => {
  const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const library = document.createElement("script");
  library.textContent = await new Response(stream).text();
  document.head.append(library);
  charts.forEach((one) => one.refresh());
  document.documentElement.dataset.charts = "ready";
}));
"""


def self_contained(title: str, body: str, data: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a whole page.

    Scripts run only if their digest stands in the page's policy: what a name or a message smuggles in does not.

    Args:
        title: Of the window.
        body: Escaped HTML.
        data: What the script ``start`` is called with.
    """
    # "</script>" in a string would end the element, and "<!--<script>" would keep it open; JSON may write "<" escaped.
    embedded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    script = '"use strict";\n' + "".join(_part(name) for name in _SCRIPTS) + _START
    library, packed = _library()
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in (script, library))
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{_part("style.css")}</style>
</head>
<body>
{body}
<script type="application/json" id="data">{embedded}</script>
<script type="text/plain" id="library">{packed}</script>
<script>{script}</script>
</body>
</html>
"""


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


@cache
def _library() -> tuple[str, str]:
    """Return the chart library as it runs, and packed: a third of the bytes, for 0.1 s when the page opens."""
    from plotly.offline import get_plotlyjs

    text = get_plotlyjs()
    return text, base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
