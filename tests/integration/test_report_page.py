"""The report in a real browser: nothing on the console, no accessibility finding, every figure and table works."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from perfbench.cli import report
from perfbench.cli.main import main
from perfbench.spec.result import BudgetSpent, Crashed, FailureReason
from tests.published_trees import log_text
from tests.scoring_logs import benchmark
from tests.trial_folders import measurement, trial_spec, write_reaching_trial, write_trial

pytestmark = pytest.mark.slow

_SUBMISSIONS = ("adamw", "shampoo", "slow")
_SMUGGLED = "</script><b>too large<img src=x onerror=alert(1)>"
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no browser: apt-get install --no-install-recommends chromium")
    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def written(runs: Path, out: Path, *options: str) -> Path:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    assert report.run(parser.parse_args([str(runs), "--out", str(out), *options])) == 0
    return out / "index.html"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of three submissions on two workloads, with a crash, a miss and a <tag> in a message."""
    runs = tmp_path_factory.mktemp("runs")
    for number, submission in enumerate(_SUBMISSIONS):
        for workload in ("criteo", "ogbg"):
            for study in range(3):
                write_reaching_trial(
                    runs, time_s=10.0 * (1 + number) + study, submission=submission, workload=workload, study=study
                )
    crash = Crashed(reason=FailureReason.OUT_OF_MEMORY, rank=0, error_type="CudaError", message=_SMUGGLED, step=3)
    evaluated = [measurement(step=1, time_s=1.0, loss=0.9)]
    write_trial(runs, trial_spec(study=3), evaluated, outcome=crash)
    missed = BudgetSpent(resource="time", step=1, submission_time_s=101.0)
    write_trial(runs, trial_spec(study=4), [measurement(step=1, time_s=101.0, loss=0.9)], outcome=missed)
    return written(runs, runs.parent / "report")


class Opened(NamedTuple):
    """The page, which is opened once, and what it has said on the console or wanted to load."""

    page: Page
    said: list[str]


@pytest.fixture(scope="module")
def opened(file: Path, browser: Browser) -> Iterator[Opened]:
    context = browser.new_context(reduced_motion="reduce")
    page, said = context.new_page(), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: said.append(one.url) if one.url.startswith(("http", "ws")) else None)
    show(page, file)
    yield Opened(page, said)
    context.close()


@pytest.fixture
def page(opened: Opened) -> Iterator[Page]:
    """Bring the page back to how it opens; whatever it says fails the test."""
    opened.page.set_viewport_size({"width": 1400, "height": 1000})
    opened.page.emulate_media(color_scheme="light")
    opened.page.evaluate("location.hash = ''; scrollTo(0, 0)")
    yield opened.page
    assert opened.said == []
    opened.said.clear()


def show(page: Page, file: Path, place: str = "") -> None:
    page.goto(file.resolve().as_uri() + place)
    page.locator("html[data-ready]").wait_for(state="attached")


def draw_all(page: Page) -> None:
    """Bring every figure into view, as someone does who reads the page to its end."""
    for number in range(page.locator("figure.chart").count()):
        figure = page.locator("figure.chart").nth(number)
        figure.scroll_into_view_if_needed()
        figure.locator(".plot[data-drawn]").wait_for()


def lines(page: Page, kind: str) -> int:
    return page.locator(f"figure.{kind} .scatterlayer .js-line").count()


def test_the_page_is_one_file_that_may_load_nothing(file: Path) -> None:
    text = file.read_text()

    assert "content=\"default-src 'none'; script-src 'sha256-" in text
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(?!data:)", text)
    assert not re.search(r"https?://", text.replace("http://www.w3.org/2000/svg", ""))
    assert len(text) < 2_200_000


def test_what_is_missing_is_grouped_by_cause_and_stands_beside_the_score(page: Page) -> None:
    facts = page.locator("#board-0 .facts").inner_text()
    assert re.search(r"Partial results: \d+ gaps in the records of 3 submissions", facts)
    assert "Integrity\n" in facts

    missing = page.locator("#missing-0")
    assert [" ".join(one.split()) for one in missing.locator("summary").all_inner_texts()] == [
        "Fewer studies than the rules ask for 3",
        "Fewer trials in a study than the rules ask for 4",
        "Trials that crashed 1",
    ]
    missing.locator("summary").first.click()
    assert "shampoo: 3 of 5 studies on all workloads" in missing.inner_text()


def test_every_figure_is_written_as_a_picture_too(file: Path) -> None:
    names = {path.name.split("target_")[1] for path in (file.parent / "figures").iterdir()}

    assert names == {
        f"{figure}.{kind}" for figure in ("profile", "heat", "curves", "accounting") for kind in ("png", "svg")
    }


def test_every_figure_is_drawn_and_nothing_is_found_by_the_accessibility_checker(page: Page) -> None:
    """At three widths, light and dark: the same page, turned and resized while it is open."""
    draw_all(page)
    assert lines(page, "profile") == 3 + 6, "three lines, and as many bands of two edges"
    assert lines(page, "curves") == 2 * 3 * 3 + 2, "a piece for each study"
    assert page.locator("figure.accounting .barlayer .point path").count() == 7 * 6
    assert "NaN" not in page.locator("main").inner_html()
    page.locator("details").evaluate_all("all => all.forEach((one) => { one.open = true; })")

    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        for width in (1400, 900, 420):
            page.set_viewport_size({"width": width, "height": 1000})
            page.evaluate("scrollTo(0, 0)")
            assert findings(page) == [], f"{scheme}, {width} pixels"
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def findings(page: Page) -> list[str]:
    """Return what the accessibility checker finds, of any weight, each with the elements that it is about."""
    found = Axe().run(page, options={"runOnly": _RULES, "resultTypes": ["violations"]})
    return [f"{one['id']}: {[node['html'] for node in one['nodes']][:3]}" for one in found.response["violations"]]


def test_the_switch_turns_the_page_and_its_figures_dark(page: Page) -> None:
    def background() -> list[str]:
        body = "getComputedStyle(document.body).backgroundColor"
        return [
            page.evaluate(body),
            page.locator("figure.profile .main-svg").first.evaluate("one => one.style.background"),
        ]

    draw_all(page)
    assert background() == ["rgb(255, 255, 255)", "rgb(255, 255, 255)"]
    page.get_by_role("button", name="dark").click()
    assert background() == ["rgb(18, 22, 28)", "rgb(18, 22, 28)"]


def test_what_is_shown_can_be_sent_as_a_link(page: Page, file: Path) -> None:
    page.locator("button[data-submission=shampoo]").click()
    page.get_by_role("button", name="steps").click()
    page.get_by_role("button", name="log x").click()
    page.get_by_role("button", name="share of budget").click()
    page.get_by_role("button", name="dark").click()
    page.locator("details.trials summary").click()
    page.get_by_role("searchbox", name="Filter Trials by words").fill("adamw crashed")
    place = page.evaluate("location.hash")

    other = page.context.new_page()
    show(other, file, place)

    assert other.locator("button[data-submission=shampoo]").get_attribute("aria-pressed") == "false"
    draw_all(other)
    assert lines(other, "curves") == 2 * 2 * 3 + 2
    assert other.locator("figure.curves .xtitle").first.text_content() == "steps"
    assert other.evaluate("document.documentElement.dataset.theme") == "dark"
    assert other.locator(".grid td[data-seconds]").first.inner_text() == "0.120"
    expect(other.locator("table.trials tbody tr")).to_have_count(1)
    other.get_by_role("button", name="none", exact=True).click()
    draw_all(other)
    assert lines(other, "curves") == lines(other, "profile") == 0
    other.evaluate(f"location.hash = '{place}'")
    other.locator("button[data-submission=shampoo][aria-pressed=false]").wait_for()
    assert other.locator("button[data-submission=slow]").get_attribute("aria-pressed") == "true"
    other.close()


def test_a_figure_is_read_by_keys_and_by_pointing(page: Page) -> None:
    draw_all(page)
    plot = page.locator("figure.profile .plot")
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert re.search(r"^adamw: within 1\.0\d times the fastest, 1\.000 of the workloads", read(page, "profile"))
    page.keyboard.press("ArrowDown")
    assert read(page, "profile").startswith("shampoo: within")
    page.keyboard.press("Escape")
    assert read(page, "profile") == ""

    page.locator("figure.curves .plot").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "adamw, study 0, trial 1: 10 s, step 20, validation/loss 0.5" in read(page, "curves")

    told = point_at(page, "profile")
    assert re.search(r"within 2\.\d\d times the fastest", told)
    assert re.search(r"shampoo.*\[\d\.\d\d, \d\.\d\d\]", told)


def read(page: Page, kind: str) -> str:
    return page.locator(f"figure.{kind} .reading").first.inner_text()


def test_a_figure_is_saved_as_png_and_svg(page: Page) -> None:
    draw_all(page)
    for kind, begin in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"Training curves on ogbg: save as {kind}").click()
        assert saved.value.suggested_filename.endswith(f"_curves_ogbg.{kind.lower()}")
        content = saved.value.path().read_bytes()
        assert content.startswith(begin)
        assert len(content) > 5_000


def test_tables_sort_filter_and_are_copied(page: Page) -> None:
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    board = page.locator(".block", has=page.locator("table.leaderboard"))

    def names() -> list[str]:
        found: list[str] = board.locator("tbody th").evaluate_all("all => all.map((one) => one.lastChild.data.trim())")
        return found

    assert names() == ["adamw", "shampoo", "slow"]

    score = board.get_by_role("button", name="score", exact=True)
    score.press("Enter")
    assert names() == ["slow", "shampoo", "adamw"]
    assert board.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    score.press("Enter")
    assert names() == ["adamw", "shampoo", "slow"]

    copied: dict[str, str] = {}
    for name in ("CSV", "Markdown", "LaTeX"):
        board.get_by_role("button", name=f"as {name}").click()
        copied[name] = page.evaluate("window.copied")
    assert copied["CSV"].splitlines()[1].startswith('1,adamw,1.0000,"[0.500, 1.000]"')
    assert copied["Markdown"].splitlines()[4].startswith("| 1 | adamw | 1.0000 |")
    assert "1 & adamw & 1.0000 & [0.500, 1.000] &" in copied["LaTeX"]
    assert r"95\% interval" in copied["LaTeX"]


def test_every_trial_is_there_with_its_point_its_end_and_its_folder(page: Page, file: Path) -> None:
    summary = page.locator("details.trials summary")
    assert summary.inner_text() == "Trials: 1 crashed, 1 missed, 18 reached"
    summary.click()
    rows = page.locator("table.trials tbody tr")
    expect(rows).to_have_count(20)  # a browser tells of an opened fold when it gets to it
    heads = page.locator("table.trials thead th").all_inner_texts()
    assert {"steps", "best metric", "time to target (s)", "time in all (s)", "x"} <= set(heads)

    page.get_by_role("searchbox", name="Filter Trials by words").fill("adamw crashed")
    expect(rows).to_have_count(1)
    cells = dict(zip(heads, rows.first.locator("td").all_inner_texts(), strict=True))
    assert cells["reason"] == f"oom: CudaError: {_SMUGGLED}"
    assert (cells["state"], cells["steps"], cells["best metric"], cells["x"]) == ("crashed", "1", "0.9", "1")
    link = rows.first.locator("a").get_attribute("href")
    assert link is not None
    assert link.startswith("../runs0/")
    assert (file.parent / link / "run.json").is_file()
    page.get_by_role("searchbox", name="Filter Trials by words").fill("budget of time spent")
    assert rows.count() == 1


def test_markup_that_gets_in_all_the_same_runs_nothing(file: Path, browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    show(page, file)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = true\">')")
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.ran === undefined")
    context.close()


def test_names_that_are_markup_are_text_in_figures_too(tmp_path: Path, browser: Browser) -> None:
    names = ("50%{x} & <b>bold", "<a href='javascript:alert(1)'>a", "<!--<script>")
    rules = benchmark("w", num_studies=1, num_trials=1)
    for number, name in enumerate(names, start=1):
        folder = tmp_path / "logs" / name.replace("/", "|") / "study_0" / "w" / "trial_1"
        folder.mkdir(parents=True)
        (folder / "eval_measurements.csv").write_text(log_text(rules, "w", 3.0 * number))
    (tmp_path / "board.yaml").write_text(rules.to_json())
    file = written(tmp_path / "logs", tmp_path, "--no-pictures", "--benchmark", str(tmp_path / "board.yaml"))

    context = browser.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce")
    page = context.new_page()
    show(page, file)
    draw_all(page)
    told = point_at(page, "profile")

    assert all(name in told for name in names)
    assert page.locator("figure a").count() == 0
    for name in names:
        page.locator(".key").get_by_role("button", name=name).click()
    draw_all(page)
    assert lines(page, "profile") == 0
    context.close()


def point_at(page: Page, kind: str) -> str:
    """Point at the middle of a figure, and return what it says there."""
    plot = page.locator(f"figure.{kind} .plot").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator(f"figure.{kind} .hoverlayer text").first.wait_for()
    return page.locator(f"figure.{kind} .hoverlayer").first.text_content() or ""


def test_a_trial_of_ten_thousand_evaluations_is_a_small_page_that_a_finger_reads(
    tmp_path: Path, browser: Browser
) -> None:
    folder = write_trial(tmp_path / "runs", trial_spec(), [], is_finished=False)
    times_s = [90.0 * number / 10_000 for number in range(1, 10_001)]
    records = [
        measurement(step=step, time_s=time_s, loss=1.0).to_json(indent=None) for step, time_s in enumerate(times_s)
    ]
    (folder.path / "measurements.jsonl").write_text("\n".join(records) + "\n")

    file = written(tmp_path / "runs", tmp_path, "--no-pictures", "--provisional")

    assert embedded_bytes(file) < 20_000
    context = browser.new_context(viewport={"width": 420, "height": 900}, has_touch=True, is_mobile=True)
    page = context.new_page()
    show(page, file)
    draw_all(page)
    assert lines(page, "curves") == 1
    page.locator("figure.curves .plot").scroll_into_view_if_needed()
    box = page.locator("figure.curves .js-line").bounding_box()
    assert box is not None
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator("figure.curves .hoverlayer text").first.wait_for()
    assert "adamw, study 0, trial 1" in (page.locator("figure.curves .hoverlayer").text_content() or "")
    context.close()


def test_trials_that_are_compared_are_a_page_of_the_same_parts(file: Path, browser: Browser, tmp_path: Path) -> None:
    runs = file.parent.parent / "runs0"
    trials = sorted(str(path.parent) for path in runs.rglob("run.json") if "adamw" in str(path) and "ogbg" in str(path))
    out = tmp_path / "compared.html"
    assert main(["compare", *trials[:2], "--picture", str(out)]) == 0

    page = browser.new_context().new_page()
    show(page, out)

    draw_all(page)
    assert lines(page, "curves") == 2
    colours = page.locator("figure.curves .js-line").evaluate_all("all => all.map((one) => one.style.stroke)")
    assert len(set(colours)) == 1, "both are of one submission"
    page.get_by_role("button", name="A: adamw on ogbg, study 0, trial 1").click()
    assert lines(page, "curves") == 1
    assert findings(page) == []
    page.context.close()


def embedded_bytes(file: Path) -> int:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', file.read_text())
    assert found is not None
    boards: list[dict[str, Any]] = json.loads(found[1])
    assert boards
    return len(found[1])
