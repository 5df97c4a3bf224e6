"""The report in a real browser: nothing on the console, every figure there, toggling and hovering work."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfbench.cli import report
from perfbench.spec.result import BudgetSpent, Crashed, FailureReason
from tests.trial_folders import measurement, trial_spec, write_reaching_trial, write_trial

_SUBMISSIONS = ("adamw", "shampoo", "slow")


class Browser:
    """As much of the WebDriver protocol as looking at a page needs."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}"
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,3000"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._root += f"/session/{session['sessionId']}"

    def open(self, page: Path) -> None:
        self._ask("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str) -> Any:
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def console(self) -> list[str]:
        return [entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def close(self) -> None:
        self._ask("DELETE", "", None)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._root + path, content, {"Content-Type": "application/json"}, method=method
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the driver is on this machine
        with direct.open(request, timeout=60) as answer:
            return json.load(answer)["value"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("no chromedriver: apt-get install --no-install-recommends chromium chromium-driver")
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = next(
            int(found[1]) for line in process.stdout if (found := re.search(r"successfully on port (\d+)", line))
        )
        opened = Browser(port)
        yield opened
        opened.close()
        process.terminate()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the report of three submissions on two workloads, with a crash, a miss and a <tag> in a message."""
    runs = tmp_path_factory.mktemp("runs")
    for number, submission in enumerate(_SUBMISSIONS):
        for workload in ("criteo", "ogbg"):
            for study in range(3):
                write_reaching_trial(
                    runs, time_s=10.0 * (1 + number) + study, submission=submission, workload=workload, study=study
                )
    crash = Crashed(
        reason=FailureReason.OUT_OF_MEMORY, rank=0, error_type="CudaError", message="</script><b>too large", step=3
    )
    evaluated = [measurement(step=1, time_s=1.0, loss=0.9)]
    write_trial(runs, trial_spec(study=3), evaluated, outcome=crash)
    missed = BudgetSpent(resource="time", step=1, submission_time_s=101.0)
    write_trial(runs, trial_spec(study=4), [measurement(step=1, time_s=101.0, loss=0.9)], outcome=missed)
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    out = runs.parent / "report"
    assert report.run(parser.parse_args([str(runs), "--out", str(out)])) == 0
    return out / "index.html"


def test_the_page_loads_nothing_and_says_what_is_partial(page: Path) -> None:
    text = page.read_text()

    addresses = set(re.findall(r"https?://[^\"'\s<]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=\"(?!data:)", text)
    assert "Partial results" in text
    assert "shampoo: 3 of 5 studies on all workloads" in text


def test_the_trial_table_gives_status_and_reason(page: Path) -> None:
    text = page.read_text()

    assert "Trials: 1 crashed, 1 missed, 18 reached" in text
    assert "oom: CudaError: &lt;/script&gt;&lt;b&gt;too large" in text
    assert "budget of time spent" in text


def test_every_figure_is_written_as_a_picture_too(page: Path) -> None:
    names = {path.name.split("target_")[1] for path in (page.parent / "figures").iterdir()}

    assert names == {
        f"{figure}.{kind}" for figure in ("profile", "heat", "curves", "accounting") for kind in ("png", "svg")
    }


def test_the_console_stays_empty_and_every_figure_is_drawn(page: Path, browser: Browser) -> None:
    browser.open(page)

    assert browser.console() == []
    count = "return document.querySelectorAll('{}').length"
    assert browser.run(count.format(".profile path.curve")) == 3
    assert browser.run(count.format(".heat rect.box")) == 6
    assert browser.run(count.format(".curves svg")) == 2
    assert browser.run(count.format(".curves path.curve")) == 2 * 3 * 3 + 2
    assert browser.run(count.format(".pairs rect.box")) == 9
    assert browser.run(count.format(".accounting rect.box")) == 7 * 6
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.run("return [...document.querySelectorAll('path.curve')].every((one) => !/NaN/.test(one.outerHTML))")


def test_toggling_a_submission_hides_its_lines_and_shows_them_again(page: Path, browser: Browser) -> None:
    browser.open(page)
    visible = (
        "return [...document.querySelectorAll('path.curve')].filter((one) => one.style.display !== 'none')"
        ".map((one) => one.dataset.submission)"
    )
    button = "document.querySelector('button[data-submission=shampoo]')"
    assert set(browser.run(visible)) == set(_SUBMISSIONS)

    browser.run(f"{button}.click()")
    assert set(browser.run(visible)) == {"adamw", "slow"}
    assert browser.run(f"return {button}.getAttribute('aria-pressed')") == "false"

    browser.run(f"{button}.click()")
    assert set(browser.run(visible)) == set(_SUBMISSIONS)
    browser.run("[...document.querySelectorAll('.key button')].find((one) => one.textContent === 'none').click()")
    assert browser.run(visible) == []
    assert browser.console() == []


def test_hovering_shows_the_numbers_and_leaving_hides_them(page: Path, browser: Browser) -> None:
    browser.open(page)
    move = "document.querySelector('{}').dispatchEvent(new MouseEvent('{}', {{clientX: 400, clientY: 300}}))"
    tip = "const tip = document.getElementById('tip'); return [tip.textContent, tip.style.opacity]"

    browser.run(move.format(".heat rect.box", "mousemove"))
    text, opacity = browser.run(tip)
    assert "on criteo" in text
    assert "median 12 s" in text
    assert "interval 10 to ∞ s" in text
    assert opacity == "1"

    browser.run(move.format(".heat rect.box", "mouseleave"))
    assert browser.run(tip)[1] == "0"
    browser.run(move.format(".profile path.hit", "mousemove"))
    assert "% of workloads" in browser.run(tip)[0]
    browser.run(move.format(".curves path.hit", "mousemove"))
    assert "validation/loss" in browser.run(tip)[0]


def test_the_trial_table_filters_by_words(page: Path, browser: Browser) -> None:
    browser.open(page)
    rows = "return [...document.querySelectorAll('#trials-0 tbody tr')].filter((one) => !one.hidden).length"
    assert browser.run(rows) == 20

    browser.run(
        "const input = document.querySelector('input[type=search]');"
        "input.value = 'adamw crashed'; input.dispatchEvent(new Event('input'))"
    )
    assert browser.run(rows) == 1


def test_a_trial_of_ten_thousand_evaluations_is_a_small_page_that_opens(tmp_path: Path, browser: Browser) -> None:
    folder = write_trial(tmp_path / "runs", trial_spec(), [], is_finished=False)
    times_s = [90.0 * number / 10_000 for number in range(1, 10_001)]
    records = [
        measurement(step=step, time_s=time_s, loss=1.0).to_json(indent=None) for step, time_s in enumerate(times_s)
    ]
    (folder.path / "measurements.jsonl").write_text("\n".join(records) + "\n")
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)

    assert (
        report.run(
            parser.parse_args([str(tmp_path / "runs"), "--out", str(tmp_path), "--no-pictures", "--provisional"])
        )
        == 0
    )

    page = tmp_path / "index.html"
    assert page.stat().st_size < 200_000
    browser.open(page)
    assert browser.console() == []
    assert browser.run("return document.querySelectorAll('.curves path.curve').length") == 1
