"""`perfbench subsets`, `early-stopping` and the report's section, from log trees to files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from perfbench.cli.boards import load_benchmark
from perfbench.cli.main import main
from perfbench.scoring.agreement_record import AgreementRecord
from tests.published_trees import write_tree

_NAMES = ("one", "two", "three", "four", "five")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a board on which every workload ranks alike: the later the name, the slower."""
    root = tmp_path_factory.mktemp("logs")
    rules = load_benchmark("algoperf_v06_self_tuning")

    def time_s(submission: str, workload: str, study: int, _: int) -> float:
        share = 0.2 + 0.1 * _NAMES.index(submission) + 0.005 * study
        return share * rules.workloads[workload].max_submission_time_s

    return write_tree(root, rules, time_s, submissions=_NAMES)


def test_subsets_are_tables_for_people_and_programs(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record = tmp_path / "out", tmp_path / "known.json"

    assert main(["subsets", str(tree), "--bootstraps", "20", "--out", str(out), "--record", str(record)]) == 0

    said = capsys.readouterr().out
    assert "Boards of fewer workloads" in said
    assert "they fit AlgoPerf v0.6" in said
    document = json.loads((out / "subsets.json").read_text())["boards"][0]
    assert document["front"][0]["in_sample"]["value"] == 1.0
    assert document["front"][0]["validated"]["value"] == 1.0
    assert len(document["fewer"]) == 3
    with (out / "subsets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2**8 - 1
    assert {row["tau"] for row in rows} == {"1.000000"}
    assert rows[-1]["cost"] == "1.000000"
    page = (out / "subsets.md").read_text()
    assert re.search(r"in sample +\| validated", page)
    assert (out / "front.svg").read_text().startswith("<?xml")
    assert (out / "front.png").read_bytes().startswith(b"\x89PNG")
    expected = AgreementRecord.read(record).expected({"criteo"}, num_studies=1, num_trials=1)
    assert expected is not None
    assert expected.in_sample == 1.0


def test_the_same_seed_gives_the_same_files(tree: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main(["subsets", str(tree), "--bootstraps", "5", "--no-pictures", "--out", str(tmp_path / name)]) == 0

    for file in ("subsets.md", "subsets.json", "subsets.csv"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_too_few_submissions_are_one_clear_error(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["subsets", str(tree), "--only", "one,two,three"]) == 2

    assert "3 submissions on 8 workloads" in capsys.readouterr().err


def test_early_stopping_stands_as_a_table_and_a_file(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["early-stopping", str(tree), "--csv", str(tmp_path / "stops.csv")]) == 0

    assert "Stopping trials early" in capsys.readouterr().out
    with (tmp_path / "stops.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["looked at"] == "all of them"
    assert all(row["seconds saved"].startswith("0.0% / ") for row in rows)


def test_the_report_has_a_section_of_smaller_boards_unless_it_is_left_out(tree: Path, tmp_path: Path) -> None:
    for options, count in (([], 1), (["--no-subsets"], 0), (["--only", "one,two"], 0)):
        out = tmp_path / str(len(options))
        assert main(["report", str(tree), "--no-pictures", "--out", str(out), *options]) == 0
        page = (out / "index.html").read_text()
        assert page.count("<h3>Smaller boards</h3>") == count
        assert page.count("<summary>Boards of fewer studies and trials<") == count
        assert ('data-kind="front"' in page) is bool(count)
