"""Take a picture of a page of results: `python -m tools.picture_page PAGE.html PICTURE.png [#x=steps&theme=dark]`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

_WIDTH, _HEIGHT = 1200, 1690
_COLOURS = 200
"""Of the picture: half of the bytes, and no line changes its colour."""


def main(page: Path, picture: Path, place: str = "") -> None:
    """Open the page at a place of its address, and save the top of it."""
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, reduced_motion="reduce")
        opened.goto(page.resolve().as_uri() + place)
        opened.locator("html[data-charts]").wait_for(state="attached")
        opened.locator("figure.profile .plot[data-drawn]").wait_for()
        opened.screenshot(path=picture)
        browser.close()
    with Image.open(picture) as taken:
        taken.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4])
