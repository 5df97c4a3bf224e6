from __future__ import annotations

import math
from pathlib import Path

import pytest

from perfbench.errors import ResultsError
from perfbench.results.algoperf import read_algoperf_logs
from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import TrialKey
from tests.scoring_logs import benchmark

_HEADER = "accumulated_submission_time,global_step,score,validation/loss\n"
_ROWS = "10.0,1,10.0,0.9\n20.5,2,20.5,0.4\n"


def _write(root: Path, text: str | bytes, *, trial: int = 1, workload: str = "w_jax") -> Path:
    path = root / "entry" / "study_0" / workload / f"trial_{trial}" / "eval_measurements.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def rules() -> Benchmark:
    return benchmark("w").model_copy(update={"name_suffixes": ("_jax", "_pytorch")})


def test_a_log_becomes_a_trial_with_its_columns(tmp_path: Path, rules: Benchmark) -> None:
    path = _write(tmp_path, _HEADER + _ROWS)

    [log], complaints = read_algoperf_logs([tmp_path], rules)

    assert log.key == TrialKey("entry", "w", 0, 1)
    assert log.path == path
    assert log.steps.tolist() == [1, 2]
    assert log.submission_times_s.tolist() == [10.0, 20.5]
    assert log.target_metric.tolist() == [0.9, 0.4]
    assert complaints == []


def test_files_with_columns_in_another_order_are_read_by_name(tmp_path: Path, rules: Benchmark) -> None:
    _write(tmp_path, _HEADER + _ROWS, trial=1)
    _write(tmp_path, "validation/loss,global_step,accumulated_submission_time\n0.9,1,10.0\n", trial=2)

    logs, _ = read_algoperf_logs([tmp_path], rules)

    assert [log.target_metric[0] for log in logs] == [0.9, 0.9]


def test_the_path_may_be_the_submission_or_one_trial(tmp_path: Path, rules: Benchmark) -> None:
    path = _write(tmp_path, _HEADER + _ROWS)

    for given in (tmp_path / "entry", path.parent, path):
        [log], _ = read_algoperf_logs([given], rules)
        assert log.key.submission == "entry"


@pytest.mark.parametrize(
    ("text", "what", "num_rows"),
    [
        (_HEADER + _ROWS + "30.0,3,30.0,0.", "the last line is torn", 2),
        (_HEADER + "10.0,1,10.0\n20.0,2,20.0,0.4\n", "line 2 was left out: 3 fields under 4 columns", 1),
        (_HEADER + "10.0,1,10.0\n20.0,2,20.0,0.4,5\n", "line 3 was left out: 5 fields under 4 columns", 0),
        (_HEADER + "ten,1,10.0,0.9\n20.0,2,20.0,0.4\n", "line 2 was left out: could not convert", 1),
        (_HEADER + "-1.0,1,10.0,0.9\n20.0,2,20.0,0.4\n", "'-1.0' is no time in seconds", 1),
        (_HEADER + ",1,10.0,0.9\n20.0,2,20.0,0.4\n", "could not convert", 1),
        (_HEADER + "1e999,1,10.0,0.4\n20.0,2,20.0,0.4\n", "'1e999' is no time in seconds", 1),
        (_HEADER + "1.0,1.5,10.0,0.4\n20.0,2,20.0,0.4\n", "'1.5' is no count of steps", 1),
        (_HEADER + "1.0,1e300,10.0,0.4\n20.0,2,20.0,0.4\n", "'1e300' is no count of steps", 1),
        (_HEADER + "20.0,2,20.0,0.4\n10.0,1,10.0,0.9\n", "go backwards", 2),
        (_HEADER + "1.0,1,1.0,\n2.0,2,2.0,nan\n", "2 of 2 evaluations have no finite validation/loss", 2),
        (_HEADER, "no evaluation", 0),
        (_HEADER.replace("global_step", "step") + _ROWS, "left out: no column 'global_step'", None),
        (_HEADER.replace("score", "global_step") + _ROWS, "left out: more than one column 'global_step'", None),
        ("", "left out: no column 'global_step'", None),
        ((_HEADER + _ROWS).encode("utf-16"), "left out: no column 'global_step'", None),
    ],
)
def test_a_damaged_log_is_named_with_what_is_wrong_and_harms_no_other(
    tmp_path: Path, rules: Benchmark, text: str | bytes, what: str, num_rows: int | None
) -> None:
    damaged = _write(tmp_path, text, trial=1)
    _write(tmp_path, _HEADER + _ROWS, trial=2)

    logs, complaints = read_algoperf_logs([tmp_path], rules)

    by_trial = {log.key.trial: log for log in logs}
    assert any(what in complaint.what for complaint in complaints)
    assert {complaint.path for complaint in complaints} == {damaged}
    assert by_trial[2].submission_times_s.tolist() == [10.0, 20.5]
    assert (len(by_trial[1]) if 1 in by_trial else None) == num_rows


def test_encodings_and_line_ends_of_other_systems_are_read(tmp_path: Path, rules: Benchmark) -> None:
    text = _HEADER + _ROWS
    _write(tmp_path, text.replace("\n", "\r\n"), trial=1)
    _write(tmp_path, b"\xef\xbb\xbf" + text.encode(), trial=2)
    _write(tmp_path, text.replace("score", '"score"').replace("10.0,0.9", '"10.0",0.9'), trial=3)

    logs, complaints = read_algoperf_logs([tmp_path], rules)

    assert [log.submission_times_s.tolist() for log in logs] == [[10.0, 20.5]] * 3
    assert complaints == []


def test_an_infinite_or_missing_metric_is_kept_as_it_is(tmp_path: Path, rules: Benchmark) -> None:
    _write(tmp_path, _HEADER + "1.0,1,1.0,inf\n2.0,2,2.0,\n3.0,3,3.0,0.4\n")

    [log], complaints = read_algoperf_logs([tmp_path], rules)

    assert log.target_metric[0] == math.inf
    assert math.isnan(log.target_metric[1])
    assert complaints[0].is_harmless


def test_misplaced_foreign_and_missing_files_are_reported(tmp_path: Path, rules: Benchmark) -> None:
    _write(tmp_path, _HEADER + _ROWS)
    stray = tmp_path / "entry" / "study_0" / "trial_2" / "eval_measurements.csv"
    stray.parent.mkdir()
    stray.write_text(_HEADER + _ROWS)
    _write(tmp_path, _HEADER + _ROWS, workload="other_jax")
    (tmp_path / "entry" / "study_0" / "w_jax" / "trial_3").mkdir()

    logs, complaints = read_algoperf_logs([tmp_path], rules)

    said = " | ".join(str(complaint) for complaint in complaints)
    assert len(logs) == 1
    assert f"{stray}: left out: not in <submission>/study_<i>/<workload>/trial_<j>" in said
    assert "'other' is no workload of test" in said
    assert "trial_3: a trial without eval_measurements.csv" in said


def test_the_same_trial_of_two_frameworks_is_left_out_once(tmp_path: Path, rules: Benchmark) -> None:
    _write(tmp_path, _HEADER + _ROWS, workload="w_jax")
    _write(tmp_path, _HEADER + "1.0,1,1.0,0.4\n", workload="w_pytorch")

    [log], complaints = read_algoperf_logs([tmp_path], rules)

    assert "w_jax" in str(log.path)
    assert "is also in" in complaints[0].what


def test_a_folder_without_logs_is_an_error_that_shows_the_layout(tmp_path: Path, rules: Benchmark) -> None:
    with pytest.raises(ResultsError, match=r"no eval_measurements\.csv of a workload of test found") as error:
        read_algoperf_logs([tmp_path], rules)

    assert "study_<i>" in error.value.hint


def test_parsing_files_together_gives_what_parsing_row_by_row_gives(
    tmp_path: Path, rules: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in range(1, 8):
        rows = "".join(f"{trial + step / 7!r},{step},0,{1 / (step + trial)!r}\n" for step in range(trial - 1))
        _write(tmp_path, _HEADER + rows, trial=trial)
    together, _ = read_algoperf_logs([tmp_path], rules)

    monkeypatch.setattr("perfbench.results.algoperf._well_formed", lambda *_: None)
    one_by_one, _ = read_algoperf_logs([tmp_path], rules)
    monkeypatch.undo()
    monkeypatch.setattr("perfbench.results.algoperf._BYTES_PARSED_TOGETHER", 100)
    in_parts, _ = read_algoperf_logs([tmp_path], rules)

    for other in (one_by_one, in_parts):
        assert [log.key for log in other] == [log.key for log in together]
        for one, two in zip(together, other, strict=True):
            assert one.steps.tolist() == two.steps.tolist()
            assert one.submission_times_s.tolist() == two.submission_times_s.tolist()
            assert one.target_metric.tolist() == two.target_metric.tolist()
