"""The rulesets of ``configs/ruleset/``: numbers of v0.6 and v1.0, whose budget counts, kinds not names decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfbench.cli.main import main
from perfbench.compose import compose_run, compose_sweep
from perfbench.config_files import choices, config_folder
from perfbench.errors import RulesError
from perfbench.launch.plan import plan_study
from perfbench.results.benchmark import split_by_setting
from perfbench.results.reader import read_trials
from perfbench.scoring.verify import seeds_differ, trials_are_complete
from perfbench.spec.run import RunSpec
from tests.trial_folders import trial_spec, write_reaching_trial

# Step hint and seconds of v0.6: specification, table 2.1.6.
BUDGETS = {
    "criteo": (10_666, 7_703),
    "fastmri": (18_094, 4_430),
    "imagenet_resnet": (195_999, 66_159),
    "imagenet_vit": (167_999, 69_768),
    "librispeech_conformer": (76_000, 58_015),
    "librispeech_deepspeech": (38_400, 44_405),
    "ogbg": (52_000, 12_011),
    "wmt": (120_000, 43_336),
}

# Seconds and evaluation period of v1.0: specification of v1.0, section 2.
BUDGETS_V10 = (
    ("criteo", 8_915, 356),
    ("fastmri", 2_745, 110),
    ("imagenet_resnet", 49_918, 1_996),
    ("imagenet_vit", 64_292, 2_571),
    ("librispeech_conformer", 43_680, 1_747),
    ("librispeech_deepspeech", 36_949, 1_447),
    ("ogbg", 11_303, 452),
    ("wmt", 16_114, 644),
)


def budget(run: RunSpec) -> tuple[int, float]:
    return run.workload.step_hint, run.workload.max_submission_time_s


def test_external_tuning_of_v06_has_three_studies_of_five_trials() -> None:
    run = compose_run(["ruleset=external_v06", "submission=shampoo", "study=2"])

    assert run.ruleset.kind == "external"
    assert (run.ruleset.num_studies, run.ruleset.num_trials) == (3, 5)
    assert not run.ruleset.scoring.held_out_required
    assert len(plan_study(run)) == 5
    with pytest.raises(RulesError, match="there is no study 3: the ruleset has 3"):
        plan_study(run.model_copy(update={"study": 3}))


def test_self_tuning_of_v06_has_one_and_a_half_times_its_budget() -> None:
    run = compose_run(["ruleset=self_tuning_v06", "submission=adamg", "workload=fastmri", "scale=full"])

    (trial,) = plan_study(run)

    assert run.ruleset.kind == "self_tuning"
    assert run.ruleset.num_studies == 3
    assert trial.max_submission_time_s == 1.5 * 4_430
    assert trial.max_steps is None


@pytest.mark.parametrize("name", ["external_v06", "self_tuning_v06", "external_v10", "self_tuning_v10"])
def test_later_versions_limit_no_steps(name: str) -> None:
    submission = "adamg" if name.startswith("self_tuning") else "shampoo"

    trials = plan_study(compose_run([f"ruleset={name}", f"submission={submission}", "workload=fastmri", "scale=full"]))

    assert {trial.max_steps for trial in trials} == {None}


@pytest.mark.parametrize(("workload", "budget_s", "period_s"), BUDGETS_V10)
def test_budgets_and_evaluation_periods_of_v10(workload: str, budget_s: float, period_s: float) -> None:
    run = compose_run([f"workload={workload}", "scale=full", "ruleset=external_v10"])

    assert budget(run) == (BUDGETS[workload][0], budget_s)
    assert run.workload.eval_period_s == period_s
    (trial,) = plan_study(
        compose_run([f"workload={workload}", "scale=full", "ruleset=self_tuning_v10", "submission=adamg"])
    )
    assert trial.max_submission_time_s == 1.5 * budget_s
    assert trial.workload.eval_period_s == period_s


def test_budgets_of_v10_include_the_language_model() -> None:
    granted = compose_run(["ruleset=external_v10"]).ruleset.full_scale_budgets

    assert set(granted) == {*BUDGETS, "finewebedu_lm"}
    model = granted["finewebedu_lm"]
    assert (model.step_hint, model.max_submission_time_s, model.eval_period_s) == (72_000, 31_967, 2_571)


def test_rules_without_an_evaluation_period_keep_the_workload_s() -> None:
    own = compose_run(["workload=wmt", "scale=full"]).workload.eval_period_s

    assert compose_run(["workload=wmt", "scale=full", "ruleset=external_v06"]).workload.eval_period_s == own
    (swept, _) = compose_sweep(["workload=wmt,ogbg", "submission=shampoo", "scale=full", "ruleset=external_v06"])
    assert swept.workload.eval_period_s == own


@pytest.mark.parametrize("workload", BUDGETS)
def test_budgets_at_full_scale_are_those_of_v06(workload: str) -> None:
    assert budget(compose_run([f"workload={workload}", "scale=full", "ruleset=external_v06"])) == BUDGETS[workload]


def test_a_variant_has_its_family_s_budget_and_mini_scale_its_own() -> None:
    assert budget(compose_run(["workload=wmt_glu_tanh", "scale=full", "ruleset=external_v06"])) == BUDGETS["wmt"]
    mini = budget(compose_run(["workload=wmt", "scale=mini"]))
    assert budget(compose_run(["workload=wmt", "scale=mini", "ruleset=external_v06"])) == mini


def test_without_v06_budgets_are_the_workload_s() -> None:
    assert budget(compose_run(["workload=fastmri", "scale=full"])) == (36_189, 8_859)


def test_what_is_given_on_the_command_line_comes_last() -> None:
    run = compose_run(["workload=wmt", "scale=full", "ruleset=external_v06", "workload.step_hint=77"])

    assert budget(run) == (77, 43_336)


def test_a_sweep_over_workloads_has_the_ruleset_s_budgets() -> None:
    runs = compose_sweep(["workload=fastmri,ogbg", "submission=shampoo", "scale=full", "ruleset=external_v06"])

    assert {run.workload.name: budget(run) for run in runs} == {n: BUDGETS[n] for n in ("fastmri", "ogbg")}


def test_every_kind_has_a_file_of_its_name_the_default() -> None:
    for kind in ("external", "self_tuning"):
        assert compose_run([f"ruleset={kind}", *made_for(kind)]).ruleset.kind == kind
    assert compose_run(["submission=adamg"]).ruleset == compose_run(["submission=adamg", "ruleset=self_tuning"]).ruleset


def made_for(kind: str) -> list[str]:
    return ["submission=adamg"] if kind == "self_tuning" else ["submission=baseline"]


def test_the_name_of_a_ruleset_stands_nowhere_in_the_code() -> None:
    names = [name for name in choices("ruleset") if name not in ("external", "self_tuning")]
    code = "".join(path.read_text() for path in (config_folder().parent / "src").rglob("*.py"))

    assert set(names) >= {"external_v06", "self_tuning_v06", "external_v10", "self_tuning_v10"}
    assert len(code) > 100_000
    assert [name for name in names if name in code] == []


def test_trials_under_both_rules_stand_on_boards_of_their_own(tmp_path: Path) -> None:
    for version, num_studies in (("1.0", 2), ("1.0-v06", 1)):
        rules = trial_spec().ruleset.model_dump(mode="json")
        rules |= {"version": version, "num_studies": num_studies, "num_trials": 1}
        for study in range(num_studies):
            write_reaching_trial(tmp_path / version, time_s=1.0, study=study, ruleset=rules)

    found = read_trials([tmp_path])

    assert found.complaints == []
    boards = split_by_setting(found.trials)
    assert {name: len(trials) for name, trials in boards.items()} == {
        "mini external v1.0 scored target": 2,
        "mini external v1.0-v06 scored target": 1,
    }
    assert list(trials_are_complete(found.trials)) == []
    assert list(seeds_differ(found.trials)) == []


def test_show_prints_the_points_of_a_study_under_v06(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "submission=shampoo", "ruleset=external_v06", "study=2"]) == 0

    shown = capsys.readouterr().out
    assert "study 2 of run seed 0: 5 trial(s)" in shown
    assert "learning_rate=4.199449275251465" in shown


def test_a_submission_of_the_other_kind_is_refused() -> None:
    with pytest.raises(RulesError, match="'adamg' does not take part in 'external' tuning"):
        plan_study(compose_run(["submission=adamg", "ruleset=external_v06"]))
