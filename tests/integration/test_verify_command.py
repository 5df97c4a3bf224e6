from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from perfbench.cli import export, verify
from perfbench.errors import ConfigError, ResultsError
from perfbench.results.algoperf import read_algoperf_logs
from perfbench.results.reader import read_trials
from perfbench.results.store import TrialFolder
from perfbench.spec.environment import Environment
from perfbench.spec.result import Measurement, PhaseTimes, Resumed
from perfbench.spec.seeds import trial_seed
from tests.scoring_logs import benchmark
from tests.trial_folders import measurement, trial_spec, write_trial


def _run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    verify.add_arguments(parser)
    return verify.run(parser.parse_args(arguments))


def _environment(**changes: object) -> Environment:
    plain: dict[str, object] = {
        "attempt": 1,
        "host_digest": "a",
        "operating_system": "test",
        "cpu_model": "test",
        "num_cores": 2,
        "memory_bytes": 1,
        "gpus": [],
        "num_ranks": 1,
        "threads_per_rank": 1,
        "backend": "none",
        "python": "3.11.7",
        "packages": {"torch": "2.14.0"},
        "commit": "c0ffee",
        "is_clean_checkout": True,
        "workload_digest": "w",
        "submission_digest": "s",
        "isolation": "process",
        "started_utc": "2026-01-01T00:00:00Z",
    }
    return Environment.from_mapping(plain | changes)


def _write(
    runs: Path,
    *,
    study: int = 0,
    trial: int = 1,
    submission: str = "adamw",
    records: Sequence[Measurement | Resumed] | None = None,
    environment: Environment | None = None,
    **changes: object,
) -> TrialFolder:
    derived = {"trial_seed": trial_seed(0, study=study, trial=trial)}
    spec = trial_spec(derived | changes, study=study, trial=trial, submission=submission)
    own = 0.9 + 0.01 * study + 0.001 * trial  # no two trials find the same numbers
    kept = records or [_measured(10, 1.0, own), _measured(20, 2.0, 0.4)]
    folder = write_trial(runs, spec, kept)
    folder.write_environment(environment or _environment())
    for record in kept:
        folder.append_telemetry("started", {"attempt": record.attempt})
        place = {"at_step": getattr(record, "step", 0), "submission_time_s": record.submission_time_s}
        folder.append_telemetry("pulse", place)
    return folder


def _measured(step: int, time_s: float, loss: float) -> Measurement:
    plain = measurement(step=step, time_s=time_s, loss=loss)
    return plain.model_copy(update={"wall_time_utc": f"2026-01-01T00:00:{int(time_s):02}Z"})


def _complete(runs: Path) -> None:
    for study in range(5):
        for trial in range(1, 6):
            _write(runs, study=study, trial=trial)


def test_complete_and_consistent_trials_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _complete(tmp_path)

    assert _run(str(tmp_path)) == 0
    assert "25 trials verified: nothing wrong" in capsys.readouterr().out


def _falling_time(runs: Path) -> None:
    _write(runs, records=[_measured(10, 2.0, 0.9), _measured(20, 1.0, 0.9)])


def _falling_step(runs: Path) -> None:
    _write(runs, records=[_measured(20, 1.0, 0.9), _measured(10, 2.0, 0.9)])


def _unsaid_resume(runs: Path) -> None:
    _write(runs, records=[_measured(10, 1.0, 0.9), _measured(20, 2.0, 0.9).model_copy(update={"attempt": 2})])


def _free_time(runs: Path) -> None:
    cheap = _measured(20, 2.0, 0.9).model_copy(update={"phases": PhaseTimes(scored=50.0, eval=1.0)})
    _write(runs, records=[_measured(10, 1.0, 0.9), cheap])


def _backwards_phase(runs: Path) -> None:
    later = _measured(20, 2.0, 0.9).model_copy(update={"phases": PhaseTimes(scored=2.0, eval=0.5)})
    _write(runs, records=[_measured(10, 1.0, 0.9), later])


def _lost_minute(runs: Path) -> None:
    later = _measured(20, 2.0, 0.9).model_copy(update={"wall_time_utc": "2026-01-01T00:01:02Z"})
    _write(runs, records=[_measured(10, 1.0, 0.9), later])


def _claimed_result(runs: Path) -> None:
    folder = _write(runs)
    path = folder.path / "result.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | {"outcome": {"kind": "reached", "step": 10, "submission_time_s": 1.0}}))


def _foreign_result(runs: Path) -> None:
    folder = _write(runs)
    path = folder.path / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trial_identity": "0"}))


def _chosen_seed(runs: Path) -> None:
    _write(runs, trial_seed=7)


def _repeated_seed(runs: Path) -> None:
    _write(runs, trial=1)
    _write(runs, trial=2, trial_seed=trial_seed(0, study=0, trial=1))


def _other_machine(runs: Path) -> None:
    for trial in (1, 2):
        _write(runs, trial=trial)
    _write(runs, trial=3, environment=_environment(packages={"torch": "2.13.0"}))


def _changed_submission(runs: Path) -> None:
    for trial in (1, 2):
        _write(runs, trial=trial)
    _write(runs, trial=3, environment=_environment(submission_digest="other"))


def _dirty_checkout(runs: Path) -> None:
    _write(runs, environment=_environment(is_clean_checkout=False))


def _changed_between_attempts(runs: Path) -> None:
    """Of attempt 2 nothing counts: the third went back to where it had begun."""
    resumed = [
        Resumed(attempt=attempt, from_step=10, submission_time_s=1.0, wall_time_utc="2026-01-01T00:00:01Z")
        for attempt in (2, 3)
    ]
    records: list[Measurement | Resumed] = [_measured(10, 1.0, 0.9), *resumed]
    records.append(_measured(20, 2.0, 0.4).model_copy(update={"attempt": 3}))
    folder = _write(runs, records=records, environment=_environment(submission_digest="edited"))
    folder.write_environment(_environment(attempt=2, submission_digest="tried"))
    folder.write_environment(_environment(attempt=3))


def _no_commit(runs: Path) -> None:
    _write(runs, environment=_environment(commit=None, is_clean_checkout=None))


def _not_compiled(runs: Path) -> None:
    _write(runs, environment=_environment(switches={"TORCHDYNAMO_DISABLE": "1"}))


def _other_network(runs: Path) -> None:
    _complete(runs)
    TrialFolder(runs / "adamw/study_2/criteo/trial_3").write_environment(_environment(switches={"NCCL_ALGO": "Ring"}))


def _no_environment(runs: Path) -> None:
    (_write(runs).path / "environment.json").unlink()


def _bad_schema(runs: Path) -> None:
    folder = _write(runs)
    with (folder.path / "measurements.jsonl").open("a") as file:
        file.write("nonsense\n")


def _no_pulses(runs: Path) -> None:
    (_write(runs).path / "telemetry.jsonl").unlink()


def _extra_study(runs: Path) -> None:
    _write(runs, study=5)


@pytest.mark.parametrize(
    ("make", "check", "what"),
    [
        (_falling_time, "order", "submission time falls from 2.0 s to 1.0 s at step 20"),
        (_falling_step, "order", "step 10 was recorded after step 20"),
        (_unsaid_resume, "order", "attempt 2 measured without saying what it resumed from"),
        (_free_time, "clock", "step 20: 2.0 s of submission time, but 50.0 s were scored"),
        (_backwards_phase, "clock", "the eval phase runs backwards at step 20"),
        (_lost_minute, "clock", "the phases add up to 1.0 s, but 61.0 s passed"),
        (_claimed_result, "result", "result.json says target at 1.0 s, the measurements say 2.0 s"),
        (_foreign_result, "result", "result.json belongs to a trial with another configuration"),
        (_chosen_seed, "seed", "seed 7 is not derived from run seed, study and trial"),
        (_repeated_seed, "seed", "not a repetition"),
        (_other_machine, "environment", "packages 'torch 2.13.0, triton absent, numpy absent', but most trials"),
        (_changed_submission, "environment", "submission code 'other', but most trials of adamw on criteo"),
        (_changed_between_attempts, "environment", "submission code 'edited' in attempt 1, 's' in the last"),
        (_dirty_checkout, "environment", "the checkout had changes that no commit holds"),
        (_no_commit, "environment", "no commit is on record"),
        (_not_compiled, "environment", "TORCHDYNAMO_DISABLE=1 was set: not the trial that the rules describe"),
        (
            _other_network,
            "environment",
            "switches 'NCCL_ALGO=Ring', but most trials of criteo at scale mini have 'none'",
        ),
        (_no_environment, "environment", "nobody knows what this ran on"),
        (_bad_schema, "schema", "line 3 is not a record"),
        (_no_pulses, "telemetry", "attempt 1 left no pulse in telemetry.jsonl"),
        (_extra_study, "missing", "study 5, trial 1 is beyond the ruleset's numbers"),
        (_chosen_seed, "missing", "study 0 is without trial 2, 3, 4, 5"),
        (_chosen_seed, "missing", "study 1 has no trial"),
    ],
)
def test_every_kind_of_fault_is_found_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], None], check: str, what: str
) -> None:
    make(tmp_path)

    exit_code = _run(str(tmp_path))

    lines = capsys.readouterr().out.splitlines()
    assert exit_code == 1
    [line] = [line for line in lines if what in line]
    assert line.startswith(f"{check}: {tmp_path}")


def test_an_allowed_check_is_shown_but_does_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path)

    assert _run(str(tmp_path), "--allow", "missing") == 0
    assert "5 missing" in capsys.readouterr().out


def test_every_check_that_finds_something_can_be_allowed() -> None:
    sources = (Path(verify.__file__).parents[1] / "scoring").glob("*.py")
    found = {name for path in sources for name in re.findall(r'Finding\("([a-z]+)"', path.read_text())}

    assert found <= set(verify.CHECKS)
    assert len(found) > 10


def test_an_unknown_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no check named 'sed'") as error:
        _run(str(tmp_path), "--allow", "sed")
    assert "did you mean 'seed'?" in error.value.hint


# --- export -------------------------------------------------------------------------------------------------------


def _export(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return export.run(parser.parse_args(arguments))


def test_exported_trials_read_back_as_the_same_evaluations(tmp_path: Path) -> None:
    _complete(tmp_path / "runs")

    assert _export(str(tmp_path / "runs"), "--out", str(tmp_path / "logs")) == 0

    rules = benchmark("criteo1tb").model_copy(update={"name_suffixes": ("_pytorch",)})
    logs, complaints = read_algoperf_logs([tmp_path / "logs"], rules)
    own = [trial.log() for trial in read_trials([tmp_path / "runs"]).trials]
    assert complaints == []
    assert len(logs) == 25
    for theirs, ours in zip(logs, own, strict=True):
        assert (theirs.key.submission, theirs.key.study, theirs.key.trial) == (
            ours.key.submission,
            ours.key.study,
            ours.key.trial,
        )
        assert theirs.steps.tolist() == ours.steps.tolist()
        assert theirs.submission_times_s.tolist() == ours.submission_times_s.tolist()
        assert theirs.target_metric.tolist() == ours.target_metric.tolist()


def test_an_exported_log_has_the_published_columns(tmp_path: Path) -> None:
    _write(tmp_path / "runs")
    _export(str(tmp_path / "runs"), "--out", str(tmp_path / "logs"))

    folder = tmp_path / "logs" / "adamw" / "study_0" / "criteo1tb_pytorch" / "trial_1"
    header, first, *_ = (folder / "eval_measurements.csv").read_text().splitlines()
    assert header == (
        "accumulated_eval_time,accumulated_logging_time,accumulated_submission_time,global_step,preemption_count,"
        "score,total_duration,validation/loss,validation/num_examples"
    )
    assert first == "1.0,0.0,1.0,10,0,1.0,2.0,0.901,8.0"
    assert json.loads((folder / "hyperparameters.json").read_text()) == {"x": 1.0}


def test_two_trials_for_one_place_are_refused(tmp_path: Path) -> None:
    _write(tmp_path / "a")
    rules = trial_spec().ruleset.model_dump(mode="json") | {"kind": "self_tuning", "num_trials": 1}
    _write(tmp_path / "b", ruleset=rules)

    with pytest.raises(ResultsError, match="two trials belong into"):
        _export(str(tmp_path), "--out", str(tmp_path / "logs"))
