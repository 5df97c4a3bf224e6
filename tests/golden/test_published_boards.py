"""The public kinds of AlgoPerf tree: their numbers, that each is known from its tree, and v1.0's published scores."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import across_boards
from perfbench.cli.boards import load_benchmark, read_boards, read_published
from perfbench.cli.main import main
from perfbench.errors import ResultsError
from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import TrialKey, TrialLog
from perfbench.scoring.board import leaderboard
from perfbench.spec.workload import Direction
from tests.published_trees import write_tree

KINDS = {
    "algoperf_v05": (5, 5, 1.0, 14),
    "algoperf_v05_self_tuning": (5, 1, 3.0, 14),
    "algoperf_v06": (3, 5, 1.0, 8),
    "algoperf_v06_self_tuning": (3, 1, 1.5, 8),
    "algoperf_v10": (3, 5, 1.0, 9),
    "algoperf_v10_self_tuning": (3, 1, 1.5, 9),
}
# Seconds before the factors: specification of the benchmarks, table of budgets.
BUDGETS = {
    "criteo1tb": (7_703, 7_703, 8_915),
    "fastmri": (8_859, 4_430, 2_745),
    "imagenet_resnet": (63_008, 66_159, 49_918),
    "imagenet_vit": (77_520, 69_768, 64_292),
    "librispeech_conformer": (61_068, 58_015, 43_680),
    "librispeech_deepspeech": (55_506, 44_405, 36_949),
    "ogbg": (18_477, 12_011, 11_303),
    "wmt": (48_151, 43_336, 16_114),
    "finewebedu_lm": (None, None, 31_967),
}
# Self-tuning of v1.0: score, then median seconds by workload, as published (2026-06-26). 0: not reached.
V10_WORKLOADS = (
    "criteo1tb",
    "fastmri",
    "finewebedu_lm",
    "imagenet_resnet",
    "imagenet_vit",
    "librispeech_conformer",
    "librispeech_deepspeech",
    "ogbg",
    "wmt",
)
V10_BOARD = {
    "schedule_free_adamw_v2": (0.5679, (7481, 1129, 0, 0, 0, 55846, 41911, 6325, 10325)),
    "ademamix": (0.5191, (7839, 1518, 18026, 0, 0, 48895, 0, 6330, 17400)),
    "schedule_free_adamw": (0.4669, (10338, 1189, 0, 0, 0, 0, 40463, 3640, 19958)),
    "nadamw_baselinev05": (0.4506, (8206, 1621, 20590, 0, 0, 0, 0, 4090, 14866)),
    "schedule_free_adamw_jax_v2": (0.4405, (8205, 1851, 15452, 0, 84892, 0, 0, 5444, 0)),
    "muon_torch": (0.4231, (7142, 0, 15472, 0, 0, 0, 0, 1833, 14215)),
    "schedule_free_adamw_jax": (0.4108, (0, 2397, 12875, 0, 87469, 0, 0, 5447, 16161)),
    "nadamw": (0.3844, (7493, 1801, 25734, 0, 72016, 0, 0, 0, 0)),
    "muon_torch_replicated_torch_hps": (0.3827, (11453, 0, 15479, 0, 0, 0, 0, 2295, 16779)),
    "cautious_nadamw": (0.3143, (0, 1608, 25739, 0, 0, 0, 0, 4993, 14232)),
    "muon_torch_jax_hps_lr_fix": (0.3137, (0, 1483, 15475, 0, 0, 0, 0, 1848, 0)),
    "muon_torch_replicated_jax_hps": (0.2969, (0, 1211, 18048, 0, 0, 0, 0, 2755, 0)),
    "muon": (0.2845, (0, 1870, 20594, 0, 77163, 0, 0, 0, 0)),
    "lion": (0.2783, (0, 1394, 23172, 0, 0, 0, 0, 7224, 15476)),
    "nadamw_resnet": (0.1857, (0, 1921, 23163, 0, 0, 0, 0, 6350, 0)),
    "single_worker_diloco": (0.1369, (0, 2379, 28315, 0, 0, 0, 0, 0, 0)),
    "single_worker_diloco_v2": (0.1302, (0, 2578, 28314, 0, 0, 0, 0, 0, 0)),
}


@pytest.mark.parametrize(("name", "numbers"), KINDS.items())
def test_a_board_has_the_numbers_of_its_rules(name: str, numbers: tuple[int, int, float, int]) -> None:
    num_studies, num_trials, factor, num_workloads = numbers
    version = ("v05", "v06", "v10").index(name.split("_")[1])

    benchmark = load_benchmark(name)

    assert (benchmark.num_studies, benchmark.num_trials) == (num_studies, num_trials)
    assert len(benchmark.workloads) == num_workloads
    assert benchmark.scoring.held_out_required is (version == 0)
    assert benchmark.as_published is not None
    for workload in benchmark.base_workloads():
        budget_s = BUDGETS[workload][version]
        assert budget_s is not None
        assert benchmark.workloads[workload].max_submission_time_s == factor * budget_s
        assert benchmark.workloads[workload].max_steps is None


def test_targets_are_the_same_in_every_version() -> None:
    v05, v06, v10 = (load_benchmark(name).workloads for name in ("algoperf_v05", "algoperf_v06", "algoperf_v10"))

    assert len(v06) == 8
    assert {name: facts.target for name, facts in v06.items()} == {name: v05[name].target for name in v06}
    assert {name: v10[name].target for name in v06} == {name: facts.target for name, facts in v06.items()}
    assert v10["finewebedu_lm"].target.threshold == 22.2995


@pytest.mark.parametrize("name", KINDS)
def test_a_tree_is_known_by_itself(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load_benchmark(name)
    write_tree(tmp_path, benchmark, lambda *_: math.inf, submissions=("slow",))

    read = read_boards([tmp_path], benchmark=None, as_published=False)

    assert read.recognised == name
    assert read.complaints == ()
    assert main(["score", str(tmp_path), "--no-pictures", "--strict", "--out", str(tmp_path / "out")]) == 0
    assert f"they fit {benchmark.name} (as --benchmark {name})" in capsys.readouterr().out.replace("\n", " ")


def test_a_part_of_a_tree_that_fits_two_boards_is_not_guessed(tmp_path: Path) -> None:
    write_tree(tmp_path, load_benchmark("algoperf_v06"), lambda *_: 500.0, workloads=("criteo1tb",))

    with pytest.raises(ResultsError, match="fit more than one benchmark: algoperf_v05, algoperf_v06") as problem:
        read_boards([tmp_path], benchmark=None, as_published=False)

    assert "--benchmark algoperf_v05" in problem.value.hint


def test_meta_data_tells_two_boards_apart(tmp_path: Path) -> None:
    rules = load_benchmark("algoperf_v06")
    write_tree(tmp_path, rules, lambda *_: 500.0, workloads=("fastmri",), with_meta_data=True)

    published = read_published([tmp_path], None)

    assert published is not None
    assert published.recognised == "algoperf_v06"


def test_a_tree_of_no_known_board_says_why_for_each(tmp_path: Path) -> None:
    rules = load_benchmark("algoperf_v06").model_copy(update={"num_trials": 7})
    write_tree(tmp_path, rules, lambda *_: 500.0, workloads=("criteo1tb",))

    with pytest.raises(ResultsError, match="fit no benchmark that is known here") as problem:
        read_boards([tmp_path], benchmark=None, as_published=False)

    assert all(f"{name}: there is a trial 7" in problem.value.what for name in KINDS)


def test_a_tree_under_another_board_is_a_warning_and_with_strict_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, load_benchmark("algoperf_v06_self_tuning"), lambda *_: 500.0, with_meta_data=True)
    asked = ["score", str(tmp_path), "--benchmark", "algoperf_v05", "--no-pictures", "--out", str(tmp_path / "out")]

    assert main(asked) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert "does not fit AlgoPerf v0.5, external tuning: every study has one trial, not 5" in said
    assert "none of its held-out workloads was run" in said
    assert "fastmri was run with a budget of 4,430 s, not 8,859 s" in said
    assert main([*asked, "--strict"]) == 1


def test_a_workload_that_the_board_lacks_is_a_warning(tmp_path: Path) -> None:
    write_tree(tmp_path, load_benchmark("algoperf_v10"), lambda *_: 500.0)

    published = read_published([tmp_path], "algoperf_v06")

    assert published is not None
    problems = [complaint.what for complaint in published.complaints if not complaint.is_harmless]
    assert any("'finewebedu_lm' is no workload of it" in problem for problem in problems)


def _logs_of(benchmark: Benchmark, name: str, times: tuple[int, ...]) -> list[TrialLog]:
    logs = []
    for workload, time_s in zip(V10_WORKLOADS, times, strict=True):
        target = benchmark.workloads[workload].target
        missed = 1e9 if target.direction is Direction.MINIMIZE else -1e9
        for study in range(benchmark.num_studies):
            key = TrialKey(name, workload, study, 1)
            columns = (
                np.array([1]),
                np.array([float(time_s or 1)]),
                np.array([target.threshold if time_s else missed]),
            )
            logs.append(TrialLog(key, Path(name), *columns))
    return logs


def test_published_scores_of_v10_from_the_published_times() -> None:
    benchmark = load_benchmark("algoperf_v10_self_tuning")
    logs = [log for name, (_, times) in V10_BOARD.items() for log in _logs_of(benchmark, name, times)]

    board = leaderboard(logs, benchmark, as_published=True)

    differing = {name for name, (score, _) in V10_BOARD.items() if f"{board.score[name]:.4f}" != f"{score:.4f}"}
    # The times are rounded to seconds, which moves one ratio over a point of the grid.
    assert differing == {"schedule_free_adamw_jax_v2"}
    one_point = 1 / 99 / len(V10_WORKLOADS)
    assert abs(board.score["schedule_free_adamw_jax_v2"] - 0.4405) < 1.01 * one_point


def test_the_times_by_which_choices_of_another_board_are_judged_are_the_published_ones() -> None:
    benchmark, times_s = across_boards.other_board(Path(across_boards.__file__).with_name("published_times.yaml"))

    order = [V10_WORKLOADS.index(name) for name in benchmark.workloads]
    assert times_s.tolist() == [[times[column] or math.inf for column in order] for _, times in V10_BOARD.values()]
    for names, tau in (
        (("criteo1tb", "ogbg"), 0.57),
        (("criteo1tb", "librispeech_deepspeech", "ogbg"), 0.68),
        (("criteo1tb", "fastmri", "ogbg"), 0.74),
    ):
        estimate, chance = across_boards.judged(benchmark, times_s, names)
        assert round(estimate.value, 2) == tau
        assert estimate.low < estimate.value < estimate.high
        assert 0.3 < chance.mean < estimate.value


def test_a_file_of_one_s_own_extends_a_board_of_the_folder(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(json.dumps({"extends": "algoperf_v06", "name": "mine", "num_studies": 1, "budget_factor": 2.0}))

    benchmark = load_benchmark(str(own))

    assert (benchmark.name, benchmark.num_studies) == ("mine", 1)
    assert benchmark.workloads["wmt"].max_submission_time_s == 2 * 43_336
