from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from perfbench.results.benchmark import Benchmark
from perfbench.results.trials import Floats
from perfbench.scoring.profile import Layout, exact_score, grid_score, profile, qualify, ratios_to_fastest, scores
from perfbench.scoring.target import trial_end
from perfbench.scoring.times import median_time
from perfbench.scoring.uncertainty import resampled_medians
from perfbench.spec.judge import judge
from perfbench.spec.result import TargetReached
from tests.scoring_logs import BUDGET_S, TARGET, benchmark, log

_SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=7)
_TIMES_S = st.one_of(st.just(math.inf), st.floats(min_value=1e-3, max_value=1e6))


@st.composite
def _boards(draw: st.DrawFn) -> tuple[Floats, Layout]:
    """Draw times of submissions on workloads, some of which are required variants of others."""
    times = draw(arrays(np.float64, draw(_SHAPES), elements=_TIMES_S))
    num_workloads = times.shape[1]
    num_bases = draw(st.integers(1, num_workloads))
    pairs = tuple((column, column - num_bases) for column in range(num_bases, min(num_workloads, 2 * num_bases)))
    names = tuple(f"w{column}" for column in range(num_workloads))
    return times, Layout(names, tuple(range(num_bases)), pairs)


def _qualified(times: Floats, layout: Layout) -> Floats:
    return qualify(times, layout, max_ratio_to_fastest=4.0).times_s


def _rules() -> Benchmark:
    return benchmark("w")


@given(_boards())
def test_a_profile_is_a_share_and_never_falls(board: tuple[Floats, Layout]) -> None:
    times, layout = board
    shares = profile(ratios_to_fastest(_qualified(times, layout)), np.linspace(1, 4, 40))

    assert ((shares >= 0) & (shares <= 1)).all()
    assert (np.diff(shares, axis=-1) >= 0).all()


@given(_boards())
def test_scores_are_between_zero_and_one_and_never_undefined(board: tuple[Floats, Layout]) -> None:
    score = scores(*board, _rules())

    assert ((score >= 0) & (score <= 1 + 1e-12)).all()


@given(_boards(), st.floats(0.01, 100), st.integers(0, 6))
def test_scaling_all_times_of_a_workload_changes_no_score(
    board: tuple[Floats, Layout], factor: float, column: int
) -> None:
    times, layout = board
    scaled = times.copy()
    scaled[:, column % times.shape[1]] *= 2.0 ** round(math.log2(factor))  # exact in floating point

    assert scores(scaled, layout, _rules()).tolist() == scores(times, layout, _rules()).tolist()


@given(_boards())
def test_adding_a_dominated_submission_changes_nobody_elses_ratios(board: tuple[Floats, Layout]) -> None:
    times, layout = board
    slowest = np.where(np.isfinite(times), times, -np.inf).max(axis=0)
    dominated = np.where(np.isfinite(slowest), slowest * 2, np.inf)
    before = ratios_to_fastest(_qualified(times, layout))

    after = ratios_to_fastest(_qualified(np.vstack([times, dominated]), layout))

    assert after[:-1].tolist() == before.tolist()


@given(_boards(), st.integers(0, 1000))
def test_the_order_of_submissions_does_not_matter(board: tuple[Floats, Layout], seed: int) -> None:
    times, layout = board
    order = np.random.default_rng(seed).permutation(len(times))

    assert scores(times[order], layout, _rules()).tolist() == scores(times, layout, _rules())[order].tolist()


@given(_boards())
def test_being_faster_on_a_counted_workload_never_lowers_the_own_score(board: tuple[Floats, Layout]) -> None:
    times, _ = board
    layout = Layout(tuple(map(str, range(times.shape[1]))), tuple(range(times.shape[1])), ())
    faster = times.copy()
    faster[0, 0] /= 2

    assert scores(faster, layout, _rules())[0] >= scores(times, layout, _rules())[0] - 1e-12


@given(_boards())
def test_the_exact_integral_is_the_limit_of_the_grid(board: tuple[Floats, Layout]) -> None:
    times, layout = board
    ratios = ratios_to_fastest(_qualified(times, layout))
    exact = exact_score(ratios, tau_max=4.0)

    for num_points in (100, 2000):
        grid = grid_score(ratios, tau_max=4.0, num_points=num_points)
        assert grid == pytest.approx(exact, abs=1 / (num_points - 1) + 1e-9)


@given(_boards())
def test_leading_axes_are_carried_along(board: tuple[Floats, Layout]) -> None:
    times, layout = board
    both = scores(np.stack([times, times / 2]), layout, _rules())

    assert both[0].tolist() == scores(times, layout, _rules()).tolist()
    assert both[1].tolist() == scores(times / 2, layout, _rules()).tolist()


@given(st.lists(_TIMES_S, min_size=1, max_size=9))
def test_the_median_is_numpys(times: list[float]) -> None:
    assert median_time(times) == pytest.approx(float(np.median(times)))


_METRICS = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.4, 0.6), st.just(0.5))
_EVALUATIONS = st.lists(st.tuples(st.floats(0, 2 * BUDGET_S), st.integers(0, 30), _METRICS), max_size=30)


@settings(max_examples=300)
@given(_EVALUATIONS, st.one_of(st.none(), st.integers(1, 30)))
def test_skipping_evaluations_that_decide_nothing_gives_what_asking_about_every_one_gives(
    evaluations: list[tuple[float, int, float]], max_steps: int | None
) -> None:
    evaluations = sorted(evaluations, key=lambda one: one[0])
    workload = _rules().workloads["w"].model_copy(update={"max_steps": max_steps})
    slow = None
    for time_s, step, metric in evaluations:
        slow = judge(
            step=step,
            submission_time_s=time_s,
            metrics={TARGET.metric: metric},
            target=TARGET,
            max_submission_time_s=BUDGET_S,
            max_steps=max_steps,
        )
        if slow is not None:
            break

    times_s, steps, metrics = zip(*evaluations, strict=True) if evaluations else ((), (), ())
    end = trial_end(log(times_s=times_s, steps=steps, metric=metrics), workload)

    assert end.outcome == slow
    assert end.time_s == (slow.submission_time_s if isinstance(slow, TargetReached) else math.inf)


@given(st.lists(_TIMES_S, min_size=1, max_size=6))
def test_resampled_medians_lie_between_the_fastest_and_the_slowest_study(times: list[float]) -> None:
    from perfbench.scoring.times import StudyTime, WorkloadTime

    studies = tuple(StudyTime(study, time_s, None, 1) for study, time_s in enumerate(times))
    medians = resampled_medians(WorkloadTime(studies), 50, np.random.default_rng(0))

    assert not np.isnan(medians).any()
    assert medians.min() >= min(times)
    assert medians.max() <= max(times)
