"""The site builds with nothing but what set-up installed, and every link in it leads somewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from perfbench.cli.main import VERBS
from perfbench.config_files import choices
from perfbench.registry import repository_root, submission_names, workload_families
from perfbench.spec.run import RunSpec
from tools.site_pages import command_page, configuration_page

ROOT = repository_root()


class Page(HTMLParser):
    """Links and anchors of a page, and what it loads from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(value for name, value in attrs if name in ("id", "name") and value)
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag in ("img", "script") and given.get("src"):
            self.loaded.append(str(given["src"]))
        if tag == "link" and "stylesheet" in str(given.get("rel")):
            self.loaded.append(str(given["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("built")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "tools.build_site", "--out", str(target)]
    built = subprocess.run(
        command, cwd=ROOT, env=os.environ | nowhere | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return target / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_every_page_is_there(site: Path, pages: dict[Path, Page]) -> None:
    for name in submission_names():
        assert site / "submissions" / name / "index.html" in pages
    for name in workload_families():
        assert site / "src" / "perfbench" / "workloads" / name / "index.html" in pages
    words = (site / "reference" / "perfbench.html").read_text(encoding="utf-8")
    assert all(f"perfbench.interface.{name}" in words for name in ("running.run", "boards.score", "trials.Trial"))
    assert "GradientSubmission" in (site / "reference" / "perfbench.api.html").read_text(encoding="utf-8")
    assert "MatrixOptimizer" in (site / "reference" / "perfbench.api.optim.html").read_text(encoding="utf-8")
    assert len(json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]) > 500


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_every_link_leads_somewhere_and_nothing_is_fetched(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 80
    assert list(_dead_links(site, pages)) == []
    fetched = {url for page in pages.values() for url in page.loaded if urlsplit(url).netloc}
    assert {urlsplit(url).netloc for url in fetched} <= {"img.shields.io"}, "only the badges of the front page"


def _dead_links(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            is_dead = not target.is_file()
            if not is_dead and parts.fragment and target in pages:
                is_dead = unquote(parts.fragment) not in pages[target].anchors
            if is_dead:
                yield f"{path.relative_to(site)}: {link}"


def test_the_reference_has_every_verb_and_every_key() -> None:
    commands, configuration = command_page(), configuration_page()

    assert all(f"## perfbench {verb}\n" in commands for verb in VERBS)
    assert "`--require-target` | exit with 1" in commands
    assert all(f"`{name}" in configuration for name in RunSpec.model_fields)
    for key in ("cluster.nproc_per_node", "workload.targets", "submission.search_space", "tracking.project"):
        assert f"`{key}" in configuration
    assert all(f"`{name}`" in configuration for name in choices("workload"))
    assert "PydanticUndefined" not in configuration
