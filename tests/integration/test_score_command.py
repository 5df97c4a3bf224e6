from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.results.benchmark import benchmark_of, split_by_setting
from perfbench.results.reader import read_trials
from perfbench.results.store import Failure, TrialFolder
from perfbench.results.trials import Complaint
from perfbench.spec.environment import Isolation
from tests.trial_folders import environment, measurement, trial_spec, write_reaching_trial, write_trial


def _complete_runs(runs: Path) -> None:
    for study in range(5):
        for trial in range(1, 6):
            for submission, time_s in (("adamw", 20.0), ("shampoo", 10.0)):
                write_reaching_trial(
                    runs, submission=submission, time_s=time_s + study + trial, study=study, trial=trial
                )


def test_complete_runs_give_tables_for_people_and_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    _complete_runs(runs)

    exit_code = main(["score", str(runs), "--strict"])

    said = capsys.readouterr().out
    assert exit_code == 0
    assert "50 trials judged" in said
    assert "warning" not in said
    folder = runs / "score"
    assert str(folder) in said.replace("\n", "")
    document = json.loads((folder / "leaderboard.json").read_text())
    [board] = document["boards"]
    assert [row["submission"] for row in board["leaderboard"]] == ["shampoo", "adamw"]
    assert board["leaderboard"][0]["score"] == 1.0
    assert board["leaderboard"][1]["score"] == pytest.approx((4 - 23 / 13) / 3)
    low, high = board["leaderboard"][1]["score_interval"]
    assert low < board["leaderboard"][1]["score"] < high
    assert board["pairs"][0]["mean_speed_up"] == pytest.approx(23 / 13)
    with (folder / "scores.csv").open() as file:
        assert [row["submission"] for row in csv.DictReader(file)] == ["shampoo", "adamw"]
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 50
    assert {row["hyperparameters/x"] for row in rows} == {"1.0"}
    assert "| 1    | shampoo" in (folder / "leaderboard.md").read_text()
    assert r"\toprule" in (folder / "leaderboard.tex").read_text()
    assert (folder / "profile.svg").read_text().startswith("<?xml")
    assert (folder / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_scoring_again_gives_the_same_files(tmp_path: Path) -> None:
    _complete_runs(tmp_path / "runs")

    contents = []
    for _ in range(2):
        main(["score", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})

    assert contents[0] == contents[1]


def test_partial_runs_are_scored_with_visible_warnings_and_refused_by_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_reaching_trial(tmp_path, time_s=10.0)
    write_trial(tmp_path, trial_spec(study=1), [measurement(step=1, time_s=1.0, loss=0.9)], is_finished=False)

    assert main(["score", str(tmp_path), "--no-pictures"]) == 0
    said = capsys.readouterr().out
    assert "warning: adamw on criteo: not finished and left out: study 1 (trial 1 unfinished)" in said
    assert "warning: adamw: 1 of 5 studies on criteo" in said
    assert "warning: adamw: 1 of 5 trials in the studies run on criteo" in said
    assert "partial: 3 warnings above" in said
    assert "States of trials" in said

    assert main(["score", str(tmp_path), "--no-pictures", "--provisional"]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "(provisional)" in said
    assert "adamw: provisional, 1 trial not finished and counted as measured so far on criteo" in said

    assert main(["score", str(tmp_path), "--strict", "--out", str(tmp_path / "strict")]) == 1
    assert "refused: --strict" in capsys.readouterr().out
    assert not (tmp_path / "strict").exists()


def test_an_unreadable_record_is_shown_and_refused_by_strict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _complete_runs(tmp_path)
    (tmp_path / "adamw" / "study_0" / "criteo" / "trial_1" / "run.json").write_text("{")

    assert main(["score", str(tmp_path), "--no-pictures"]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert "adamw/study_0/criteo/trial_1/run.json" in said
    assert "adamw: 24 of 25 trials" in said
    assert main(["score", str(tmp_path), "--strict"]) == 1


def test_only_attested_trials_count_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside = write_reaching_trial(tmp_path, time_s=5.0)
    beside.write_environment(environment(isolation=Isolation.PROCESS))
    assert main(["score", str(tmp_path), "--attested"]) == 2
    assert "none of 1 trials is attested" in capsys.readouterr().err

    write_reaching_trial(tmp_path, time_s=10.0, study=1).write_environment(environment())
    assert main(["score", str(tmp_path), "--no-pictures"]) == 0
    assert "1 of 2 trials attested" in capsys.readouterr().out
    assert main(["score", str(tmp_path), "--no-pictures", "--attested"]) == 0
    said = capsys.readouterr().out
    assert "does not count (--attested): its submission was not confined" in said.replace("\n", "")
    document = json.loads((tmp_path / "score" / "leaderboard.json").read_text())
    assert document["boards"][0]["leaderboard"][0]["attestation"] == "attested"
    assert document["boards"][0]["times"][0]["time_to_target_s"] == 10.0


def test_every_steps_trials_are_excluded_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reaching_trial(tmp_path, time_s=10.0, study=0)
    write_reaching_trial(tmp_path, time_s=5.0, study=1, evaluation={"kind": "every_steps", "every_steps": 5})

    assert main(["score", str(tmp_path), "--no-pictures"]) == 0

    assert "1 trial left out: evaluated after fixed steps, not by wall clock" in capsys.readouterr().out
    document = json.loads((tmp_path / "score" / "leaderboard.json").read_text())
    assert document["boards"][0]["times"][0]["time_to_target_s"] == 10.0


def test_nothing_to_score_is_an_impossible_request_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no trial folder found" in said
    assert "perfbench run" in said

    assert main(["score", str(tmp_path / "nowhere")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err


def test_an_unknown_benchmark_is_refused_with_the_nearest_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(tmp_path), "--benchmark", "algoperf_v5"]) == 2
    assert "did you mean 'algoperf_v05'?" in capsys.readouterr().err


def test_smoke_and_scored_targets_stand_on_separate_boards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smoke = {
        "name": "mini",
        "target": "smoke",
        "threads_per_rank": 1,
        "checkpoint_period_s": 5.0,
        "prepare_data": True,
    }
    write_reaching_trial(tmp_path / "a", time_s=10.0)
    write_trial(tmp_path / "b", trial_spec({"scale": smoke}, study=1), [measurement(step=1, time_s=5.0, loss=0.1)])

    assert main(["score", str(tmp_path), "--no-pictures"]) == 0

    said = capsys.readouterr().out
    assert "mini external vtest scored target" in said
    assert "mini external vtest smoke target" in said
    assert "smoke targets: they show that a submission trains, not how good it is" in said
    assert (tmp_path / "score" / "scores_mini_external_vtest_smoke_target.csv").exists()


def test_a_trial_that_measured_something_else_is_left_out_and_named(tmp_path: Path) -> None:
    for study in range(2):
        write_reaching_trial(tmp_path, time_s=10.0, study=study)
    easier = trial_spec().target.model_copy(update={"threshold": 0.9}).model_dump(mode="json")
    write_reaching_trial(tmp_path, time_s=1.0, study=2, target=easier)
    complaints: list[Complaint] = []

    [(name, trials)] = split_by_setting(read_trials([tmp_path]).trials).items()
    benchmark, kept = benchmark_of(name, trials, complaints)

    assert [trial.key.study for trial in kept] == [0, 1]
    assert benchmark.workloads["criteo"].target.threshold == 0.5
    assert "differs from most trials' (target, budget or parameters)" in complaints[0].what


def test_a_variant_is_held_out_only_where_its_base_was_run(tmp_path: Path) -> None:
    write_reaching_trial(tmp_path, time_s=10.0, workload="criteo")
    write_reaching_trial(tmp_path, time_s=10.0, workload="criteo_variant")
    write_reaching_trial(tmp_path, time_s=10.0, workload="wmt_variant")

    benchmark, _ = benchmark_of("test", read_trials([tmp_path]).trials, [])

    assert {name: workload.base for name, workload in benchmark.workloads.items()} == {
        "criteo": None,
        "criteo_variant": "criteo",
        "wmt_variant": None,
    }


def test_only_explored_trials_are_no_board_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reaching_trial(tmp_path, time_s=10.0, explored="x=1")

    assert main(["score", str(tmp_path), "--no-pictures"]) == 2

    assert "all 1 trials here are explored: never scored" in capsys.readouterr().err


def test_an_interrupted_trial_changes_no_rank(tmp_path: Path) -> None:
    """A trial that was stopped by Ctrl-C once turned 0.84 into 0.56."""
    _complete_runs(tmp_path / "runs")
    main(["score", str(tmp_path / "runs"), "--no-pictures", "--out", str(tmp_path / "before")])
    spec = trial_spec(submission="adamw", study=4, trial=5)
    folder = TrialFolder.of(tmp_path / "runs", spec)
    (folder.path / "result.json").unlink()
    lines = (folder.path / "measurements.jsonl").read_text().splitlines(keepends=True)
    (folder.path / "measurements.jsonl").write_text(lines[0])

    main(["score", str(tmp_path / "runs"), "--no-pictures", "--out", str(tmp_path / "after")])

    before, after = (json.loads((tmp_path / name / "leaderboard.json").read_text()) for name in ("before", "after"))
    assert after["boards"][0]["leaderboard"][1]["submission"] == "adamw"
    times = {one["submission"]: one["time_to_target_s"] for one in after["boards"][0]["times"]}
    assert times == {"adamw": 22.5, "shampoo": 13.0}  # the median of four studies, not of four and a miss
    assert {"reached": 24, "unfinished": 1} in [one["trials"] for one in after["boards"][0]["states"]]
    assert before["boards"][0]["leaderboard"][0] == after["boards"][0]["leaderboard"][0]


def test_trials_that_were_refused_or_never_began_are_no_rows(tmp_path: Path) -> None:
    write_reaching_trial(tmp_path, time_s=10.0)
    refused = write_trial(tmp_path, trial_spec(submission="typo"), [], is_finished=False)
    failure = {"attempt": 1, "rank": 0, "reason": "submission", "error_type": "E", "message": "m", "exit_code": 2}
    refused.write_failure(Failure.from_mapping(failure | {"traceback": ""}))

    assert main(["score", str(tmp_path), "--no-pictures"]) == 0

    (board,) = json.loads((tmp_path / "score" / "leaderboard.json").read_text())["boards"]
    assert [row["submission"] for row in board["leaderboard"]] == ["adamw"]
    assert [one["submission"] for one in board["states"]] == ["adamw"]
    assert not any("typo" in warning for warning in board["warnings"])


def _with_a_forged_result(runs: Path) -> None:
    for study, submission in ((0, "adamw"), (0, "shampoo"), (1, "adamw")):
        write_reaching_trial(runs, submission=submission, time_s=20.0, study=study)
    forged = runs / "shampoo" / "study_0" / "criteo" / "trial_1" / "result.json"
    plain = json.loads(forged.read_text())
    plain["outcome"]["submission_time_s"] = 1.0
    forged.write_text(json.dumps(plain))


def test_what_verify_refuses_does_not_count_unless_it_is_trusted_visibly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_a_forged_result(tmp_path)
    asked = ["score", str(tmp_path), "--no-pictures"]

    assert main(asked) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "does not count: result: result.json says target at 1.0 s, the measurements say 20.0 s" in said
    (board,) = json.loads((tmp_path / "score" / "leaderboard.json").read_text())["boards"]
    assert [row["submission"] for row in board["leaderboard"]] == ["adamw"]

    assert main([*asked, "--trust"]) == 0
    assert "counted all the same (--trust): result:" in capsys.readouterr().out.replace("\n", " ")
    document = json.loads((tmp_path / "score" / "leaderboard.json").read_text())
    assert {row["submission"] for row in document["boards"][0]["leaderboard"]} == {"adamw", "shampoo"}
    assert any("--trust" in complaint for complaint in document["complaints"])
    assert main([*asked, "--trust", "--strict"]) == 1


def test_nothing_that_can_be_believed_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_reaching_trial(tmp_path, time_s=20.0, trial_seed=7)

    assert main(["score", str(tmp_path)]) == 2

    said = capsys.readouterr().err
    assert "none of 1 trials can be believed; the first: seed" in said
    assert "--trust" in said


def test_submissions_and_workloads_are_chosen_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for submission, workload in (("adamw", "criteo"), ("adamw", "wmt"), ("shampoo", "criteo"), ("lion", "criteo")):
        write_reaching_trial(tmp_path, submission=submission, workload=workload, time_s=20.0)

    def board(*options: str) -> tuple[list[str], set[str]]:
        assert main(["score", str(tmp_path), "--no-pictures", *options]) == 0
        (found,) = json.loads((tmp_path / "score" / "leaderboard.json").read_text())["boards"]
        return [row["submission"] for row in found["leaderboard"]], set(found["rules"]["workloads"])

    assert board("--only", "adamw,shampoo", "--common") == (["adamw", "shampoo"], {"criteo"})
    assert board("--exclude", "lion,wmt") == (["adamw", "shampoo"], {"criteo"})
    assert board("--only", "wmt") == (["adamw"], {"wmt"})
    capsys.readouterr()
    assert main(["score", str(tmp_path), "--only", "adam"]) == 2
    assert "no submission or workload named 'adam' is here" in capsys.readouterr().err


def test_who_scores_higher_is_blank_where_nothing_was_repeated(tmp_path: Path) -> None:
    for submission, num_studies in (("adamw", 1), ("shampoo", 2), ("lion", 2)):
        for study in range(num_studies):
            write_reaching_trial(tmp_path, submission=submission, time_s=20.0 + study, study=study)

    main(["score", str(tmp_path), "--no-pictures"])
    main(["report", str(tmp_path), "--no-pictures"])

    (board,) = json.loads((tmp_path / "score" / "leaderboard.json").read_text())["boards"]
    shares = {(pair["submission"], pair["against"]): pair["probability_of_higher_score"] for pair in board["pairs"]}
    assert shares["adamw", "shampoo"] is shares["shampoo", "adamw"] is shares["adamw", "lion"] is None
    assert shares["shampoo", "lion"] is not None
    faster = {(p["submission"], p["against"]): p["probability_of_being_faster"]["criteo"] for p in board["pairs"]}
    assert faster["adamw", "shampoo"] is None
    assert "not repeated on a workload that both ran" in (tmp_path / "report" / "index.html").read_text()
