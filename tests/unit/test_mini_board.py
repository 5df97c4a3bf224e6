"""The mini board: what runs next, what is kept, and what its page may say. No trial runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import mini_board
from benchmarks.mini_correlation import correlations
from benchmarks.mini_page import first_sentence, write_page
from benchmarks.mini_plan import FACTORS, Job, Wanted, facts_of, rate_of
from benchmarks.mini_results import Published, PublishedBoard, Ran, Results, best_factor, best_of
from perfbench.config_files import choices
from perfbench.errors import ResultsError
from perfbench.spec.workload import Direction, Target

TARGET = Target(metric="validation/accuracy", direction=Direction.MAXIMIZE, threshold=0.9, source="test")
PUBLISHED = Path(mini_board.__file__).with_name("published_boards.yaml")
ENTRIES = ("adamw", "amos")
WANTED = Wanted(workloads=("mnist", "criteo"), submissions=ENTRIES, max_trials=2, rescaled_on="mnist")


def _ran(workload: str, submission: str, *, point: int = 1, factor: float = 1.0, step: int | None = 100) -> Ran:
    return Ran(
        workload=workload,
        submission=submission,
        point=point,
        factor=factor,
        outcome="budget_spent" if step is None else "reached",
        step=step,
        submission_time_s=None if step is None else step / 10,
        num_steps=step or 3000,
        best_metric=0.8,
    )


def _results(*ran: Ran) -> Results:
    return Results(num_evaluations=mini_board.NUM_EVALUATIONS, ran=ran)


def test_points_as_published_come_first_and_then_the_rate_of_those_that_have_one() -> None:
    jobs = list(WANTED.missing(_results()))

    assert jobs[:4] == [Job(one, name, 1) for one in WANTED.workloads for name in ENTRIES]
    rescaling = [job for job in jobs if job.factor != 1.0]
    assert [job.factor for job in rescaling] == [factor for factor in FACTORS if factor != 1.0]
    assert {(job.workload, job.submission) for job in rescaling} == {("mnist", "adamw")}


def test_entries_of_the_first_published_board_run_on_all_workloads_before_others_begin() -> None:
    first = frozenset({"amos"})
    wanted = Wanted(("mnist", "criteo"), ("adamw", "amos"), max_trials=1, rescaled_on="mnist", first=first)

    jobs = list(wanted.missing(_results()))

    assert [job.submission for job in jobs[:4]] == ["amos", "amos", "adamw", "adamw"]


def test_nothing_that_has_run_runs_again_and_a_miss_is_tried_again_before_the_next_workload() -> None:
    ran = [_ran("mnist", "adamw", factor=factor, step=100 if factor == 1.0 else 50) for factor in FACTORS]
    ran += [_ran("criteo", "adamw"), _ran("mnist", "amos", step=None)]

    jobs = list(WANTED.missing(_results(*ran)))

    factor = WANTED.factor(_results(*ran), "adamw")
    assert factor in (0.316, 3.16)
    assert jobs == [Job("mnist", "amos", 2), Job("criteo", "amos", 1), Job("criteo", "adamw", 1, factor)]


def test_the_rate_that_needs_the_fewest_steps_is_taken_and_of_equal_ones_the_nearest() -> None:
    tried = [_ran("mnist", "adamw", factor=factor, step=step) for factor, step in ((10.0, 50), (3.16, 50), (1.0, 90))]

    assert best_factor(tried, TARGET) == 3.16
    assert best_factor([one.model_copy(update={"step": None}) for one in tried], TARGET) == 1.0
    assert best_factor([], TARGET) is None


def test_a_cell_is_over_when_its_target_is_reached_or_no_point_is_left() -> None:
    missed = _ran("criteo", "amos", step=None)
    reached = _ran("criteo", "amos", point=2)

    assert best_of([], TARGET, num_points=2) is None
    first = best_of([missed], TARGET, num_points=2)
    both = best_of([missed, reached], TARGET, num_points=5)
    assert first is not None
    assert both is not None
    assert not first.is_over
    assert (both.ran.point, both.is_over, both.num_tried) == (2, True, 2)


def test_results_survive_the_file_and_those_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    results = _results(_ran("mnist", "adamw")).with_one(_ran("mnist", "adamw", step=None))
    results.write(path)

    assert Results.read(path, num_evaluations=mini_board.NUM_EVALUATIONS) == results
    assert len(results.ran) == 1
    with pytest.raises(ResultsError, match="40 evaluations"):
        Results.read(path, num_evaluations=20)


def test_every_published_entry_and_workload_is_here() -> None:
    published = Published.read(PUBLISHED)

    assert len(published.boards[0].scores) == 11
    assert set(published.entries()) <= set(choices("submission"))
    assert set(published.order) <= set(choices("workload"))
    assert facts_of("amos").num_points == 5
    assert rate_of("amos", 1) is None
    assert rate_of("adamw", 1) is not None
    asked = mini_board.wanted_of(mini_board.arguments_of(["--submissions", "amos"]), published)
    assert (asked.workloads, asked.submissions) == (published.order, ("amos",))


def test_a_rescaled_trial_asks_for_its_rate_and_a_published_one_does_not(tmp_path: Path) -> None:
    arguments = mini_board.arguments_of([])

    published = mini_board.overrides_of(arguments, Job("mnist", "adamw", 1), tmp_path)
    rescaled = mini_board.overrides_of(arguments, Job("mnist", "adamw", 1, 10.0), tmp_path)

    assert not [one for one in published if one.startswith("hp.")]
    rate = rate_of("adamw", 1)
    assert rate is not None
    assert rescaled[-1] == f"hp.learning_rate={10.0 * rate!r}"
    assert "evaluation.every_steps=75" in published


def _board(scores: dict[str, float]) -> Published:
    board = PublishedBoard(name="test", source="test", scores=scores)
    return Published(order=WANTED.workloads, rescaled_on="mnist", boards=(board,))


def _ranked(*, turned: bool = False) -> tuple[Wanted, Results, Published]:
    names = ("adamw", "amos", "baseline", "cyclic_lr", "lamb", "lawa_ema", "nadamp", "shampoo")
    wanted = Wanted(workloads=("mnist", "criteo"), submissions=names, max_trials=1, rescaled_on="mnist")
    ran = [_ran("criteo", name, step=100 + 10 * (-row if turned else row)) for row, name in enumerate(names)]
    return wanted, _results(*ran), _board({name: 1.0 - row / 10 for row, name in enumerate(names)})


def test_the_first_sentence_says_what_the_interval_allows() -> None:
    assert "Nothing can be said yet" in first_sentence([], num_workloads=1)
    for turned, said in ((False, "predict a part"), (True, "rank the other way round")):
        wanted, results, published = _ranked(turned=turned)
        found = list(correlations(wanted, results, published))
        assert f"**These small tasks {said}" in first_sentence(found, num_workloads=1)
        assert {one.how for one in found} == {"points as published"}
        assert all(one.what.workloads == ("criteo",) for one in found)
    noisy = [one._replace(tau=0.2, interval=one.interval._replace(low=-0.3, high=0.7)) for one in found]
    assert "**So far, by 1 of 9, small tasks predict nothing of" in first_sentence(noisy, num_workloads=9)


def test_a_workload_that_some_lack_is_compared_by_those_that_have_it() -> None:
    wanted, results, published = _ranked()
    wanted = Wanted((*wanted.workloads, "ogbg"), wanted.submissions, max_trials=1, rescaled_on="mnist")
    for row, name in enumerate(wanted.submissions[:6]):
        results = results.with_one(_ran("ogbg", name, step=100 + 10 * row))

    compared = {one.what.workloads: one.what.entries for one in correlations(wanted, results, published)}

    assert compared == {("criteo",): wanted.submissions, ("criteo", "ogbg"): wanted.submissions[:6]}


def test_a_cell_that_may_still_change_is_not_compared() -> None:
    wanted, results, published = _ranked()
    wanted = Wanted(wanted.workloads, wanted.submissions, max_trials=2, rescaled_on="mnist")
    open_one = results.with_one(_ran("criteo", wanted.submissions[0], step=None))

    for one in correlations(wanted, open_one, published):
        assert one.what.entries == wanted.submissions[1:]


def test_seconds_of_two_machines_are_not_laid_side_by_side() -> None:
    wanted, results, published = _ranked()
    first, *others = results.ran
    mixed = _results(first.model_copy(update={"machine": "another"}), *others)

    assert {one.measure for one in correlations(wanted, results, published)} == {"steps", "seconds"}
    assert {one.measure for one in correlations(wanted, mixed, published)} == {"steps"}


def test_what_is_missing_stands_on_the_page_as_missing(tmp_path: Path) -> None:
    wanted, results, published = _ranked()

    write_page(tmp_path / "page.md", wanted, results, published)

    page = (tmp_path / "page.md").read_text()
    assert page.splitlines()[2].startswith("**These small tasks predict a part")
    assert "| adamw | *missing* | 100 (10 s), point 1 |" in page
    assert "8 of 16 cells have run" in page
    assert (tmp_path / "images/mini-board.svg").read_text().startswith("<?xml")
