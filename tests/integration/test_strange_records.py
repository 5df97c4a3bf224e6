"""Records and names as strangers' disks may hold them: every ending is a board or one error, and no text is live."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.errors import ResultsError, printable
from perfbench.results.files import read_regular_file
from perfbench.results.reader import read_trials
from perfbench.scoring.verify import verify_trials
from perfbench.spec.run import TrialSpec
from tests.published_trees import log_text
from tests.scoring_logs import benchmark
from tests.trial_folders import trial_spec, write_reaching_trial

_RECORDS = ("run.json", "measurements.jsonl", "result.json", "environment.json")


def _score(tree: Path, out: Path, *extra: str) -> int:
    return main(["score", str(tree), "--out", str(out), "--benchmark", str(tree / "board.yaml"), *extra])


def _tree(root: Path, *names: str) -> Path:
    rules = benchmark("w", num_studies=1, num_trials=1)
    root.mkdir()
    (root / "board.yaml").write_text(rules.to_json())
    for number, name in enumerate(names, start=1):
        folder = root / name / "study_0" / "w" / "trial_1"
        folder.mkdir(parents=True)
        (folder / "eval_measurements.csv").write_text(log_text(rules, "w", 3.0 * number))
    return root


def test_a_name_that_is_no_utf_8_is_shown_with_a_backslash_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = _tree(tmp_path / os.fsdecode(b"tr\xe9e"), os.fsdecode(b"caf\xe9"), "plain")

    assert _score(tree, tmp_path / "out") == 0
    assert main(["report", str(tree), "--benchmark", str(tree / "board.yaml"), "--out", str(tmp_path / "page")]) == 0

    assert r"caf\udce9" in capsys.readouterr().out
    assert r"caf\\udce9" in (tmp_path / "out" / "leaderboard.md").read_text()
    scored = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert {row["submission"] for row in scored["boards"][0]["leaderboard"]} == {r"caf\udce9", "plain"}
    assert (tmp_path / "page" / "index.html").exists()


def test_an_error_about_a_path_that_is_no_utf_8_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(tmp_path / os.fsdecode(b"nowh\xe9re"))]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


def test_names_are_text_on_every_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("<!--<script>", r"\input{secrets}", "a](javascript:x)", "$x^{$", "[red]b|c`d*", "e\x1b[31m\nf")
    tree = _tree(tmp_path / "tree", *names)

    assert _score(tree, tmp_path / "out") == 0
    assert main(["report", str(tree), "--benchmark", str(tree / "board.yaml"), "--out", str(tmp_path / "page")]) == 0

    assert "\x1b[31m\n" not in capsys.readouterr().out
    page = (tmp_path / "page" / "index.html").read_text()
    start = page.index('<script type="application/json" id="data">')
    embedded = page[page.index(">", start) + 1 : page.index("</script>", start)]
    assert "<" not in embedded
    assert {one["name"] for one in json.loads(embedded)[0]["submissions"]} == {printable(name) for name in names}
    assert "<!--" not in page.split("<script>")[0]
    markdown = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "<!--" not in markdown
    assert "](javascript" not in markdown
    assert r"[red]b\|c\`d\*" in markdown
    latex = (tmp_path / "out" / "leaderboard.tex").read_text()
    assert r"\input" not in latex
    assert r"\textbackslash{}input\{secrets\}" in latex
    assert r"\$x\textasciicircum{}\{\$" in latex


@pytest.mark.parametrize("version", ["<b>1.0</b>", "1.0\n- item", "v" * 100, "", "../1", "[x](y)"])
def test_a_version_is_no_place_for_markup(tmp_path: Path, version: str) -> None:
    folder = write_reaching_trial(tmp_path, time_s=1.0).path
    plain = json.loads((folder / "run.json").read_text())
    plain["ruleset"]["version"] = version
    (folder / "run.json").write_text(json.dumps(plain))

    reading = read_trials([tmp_path])

    assert reading.trials == []
    assert "ruleset.version" in str(reading.complaints[0])


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _deep(path: Path) -> None:
    path.write_text('{"a":' * 200_000)


def _wide(path: Path) -> None:
    path.write_text("[" + "0," * 1_000_000 + "0]\n")


@pytest.mark.parametrize("damage", [_pipe, _endless, _huge, _deep, _wide])
@pytest.mark.parametrize("name", _RECORDS)
def test_a_record_without_an_end_is_a_complaint(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = write_reaching_trial(tmp_path, time_s=1.0, trial=1).path
    write_reaching_trial(tmp_path, time_s=2.0, trial=2)
    (folder / name).unlink(missing_ok=True)
    damage(folder / name)

    reading = read_trials([tmp_path])

    assert 2 in {trial.key.trial for trial in reading.trials}
    assert any(complaint.path == folder / name for complaint in reading.complaints)
    assert all(len(str(complaint)) < 10_000 for complaint in reading.complaints)


@pytest.mark.parametrize("damage", [_pipe, _endless, _huge, _deep, _wide])
def test_a_log_without_an_end_is_a_complaint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    tree = _tree(tmp_path / "tree", "good", "bad")
    path = tree / "bad" / "study_0" / "w" / "trial_1" / "eval_measurements.csv"
    path.unlink()
    damage(path)

    assert _score(tree, tmp_path / "out", "--no-pictures") == 0

    assert "bad/study_0/w/trial_1" in capsys.readouterr().out.replace("\n", "")
    assert len((tmp_path / "out" / "leaderboard.json").read_text()) < 100_000


def test_folders_without_a_bottom_are_a_complaint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = _tree(tmp_path / "tree", "good")
    here = os.getcwd()  # noqa: PTH109 - a path of the whole depth is longer than a system call takes
    os.chdir(tree)
    try:
        for _ in range(1200):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
    finally:
        os.chdir(here)

    try:
        assert _score(tree, tmp_path / "out", "--no-pictures") == 0
    finally:
        subprocess.run(["rm", "-rf", str(tree / "d")], check=True)  # deeper than Python's own removal goes

    assert "50 levels deep: nothing below was looked at" in capsys.readouterr().out.replace("\n", "")


def test_reading_is_bounded_by_bytes_not_by_what_a_disk_says(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x" * 10)

    assert read_regular_file(tmp_path / "small", max_bytes=10) == b"x" * 10
    with pytest.raises(OSError, match="larger than"):
        read_regular_file(tmp_path / "small", max_bytes=9)
    with pytest.raises(OSError, match="Is a directory"):
        read_regular_file(tmp_path, max_bytes=9)


def test_a_ruleset_of_any_size_is_verified_in_bounded_work(tmp_path: Path) -> None:
    rules = trial_spec().ruleset.model_dump(mode="json") | {"num_studies": 1000, "num_trials": 10_000}
    write_reaching_trial(tmp_path, time_s=1.0, study=3, trial=7, ruleset=rules)

    findings = [one for one in verify_trials(read_trials([tmp_path]).trials) if one.check == "missing"]

    assert len(findings) == 22
    assert findings[0].what == "adamw on criteo at scale mini: study 0 has no trial"
    assert findings[20].what == "adamw on criteo at scale mini: 979 more of 1000 studies have no trial"
    assert "study 3 is without trial 1, 2, 3, 4, 5, 6, 8, 9," in findings[21].what
    assert findings[21].what.endswith("and 9979 more")


def test_more_trials_than_anybody_runs_are_refused() -> None:
    plain = trial_spec().model_dump(mode="json")
    plain["ruleset"] |= {"num_studies": 3000, "num_trials": 30_000}

    with pytest.raises(ResultsError, match=r"ruleset.num_studies: .*1000") as problem:
        TrialSpec.from_json(json.dumps(plain), error=ResultsError)
    assert "ruleset.num_trials" in str(problem.value)
