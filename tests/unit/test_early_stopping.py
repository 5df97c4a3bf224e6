"""Stopping early on record: curves whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from perfbench.errors import ScoringError
from perfbench.results.trials import TrialKey, TrialLog
from perfbench.scoring.board import Board, leaderboard
from perfbench.scoring.early_stopping import (
    SHARES,
    Curves,
    early_stopping,
    outcome,
    saved_without_error,
    stopped_at,
    validated_stops,
)
from perfbench.scoring.subset_tables import stopping_table
from tests.scoring_logs import benchmark, log

_TIMES_S = tuple(float(time_s) for time_s in range(5, 101, 5))
_TARGET = 0.5


def _falling(from_loss: float, reached_s: float) -> list[float]:
    """Return losses that fall evenly to the target at a time, or, where that is never, stay."""
    if math.isinf(reached_s):
        return [from_loss for _ in _TIMES_S]
    return [_TARGET + (from_loss - _TARGET) * max(0.0, 1 - time_s / reached_s) for time_s in _TIMES_S]


def _board(curves: dict[str, Sequence[Sequence[float]]]) -> tuple[Board, list[TrialLog]]:
    logs = [
        log(times_s=_TIMES_S, metric=values, key=TrialKey(name, "w", 0, number))
        for name, trials in curves.items()
        for number, values in enumerate(trials, start=1)
    ]
    return leaderboard(logs, benchmark("w", num_studies=1, num_trials=2)), logs


def _alike() -> tuple[Board, list[TrialLog]]:
    """Return three entries of one good trial each, and one that never comes near."""
    return _board({name: [_falling(1.0, 80.0), _falling(3.0, math.inf)] for name in "abc"})


def test_a_trial_that_is_behind_everybody_is_stopped_and_no_other() -> None:
    board, logs = _alike()
    curves = Curves.of(board, logs)

    found = outcome(curves, validated_stops(curves, [0]))

    assert found.caught == 1.0
    assert (found.wrong, found.wrong_deciding) == (0.0, 0.0)
    saved_s, spent_s = 3 * 90.0, 3 * (80.0 + 100.0)
    assert found.saved == pytest.approx(saved_s / spent_s)


def test_a_late_bloomer_is_stopped_by_those_that_do_not_know_its_kind() -> None:
    """In sample the rule is never wrong; that is why it is judged on submissions that it was made without."""
    late = [3.0] * 14 + [0.4] * 6
    board, logs = _board(
        {"a": [_falling(1.0, 80.0)], "b": [_falling(1.0, 85.0)], "c": [_falling(1.0, 90.0)], "late": [late]}
    )

    at_half = early_stopping(board, logs)[SHARES.index(0.5)]

    assert at_half.in_sample.wrong == 0.0
    assert at_half.validated.wrong == pytest.approx(1 / 4)
    assert at_half.validated.wrong_deciding == pytest.approx(1 / 4)
    assert at_half.wrong.low <= 0.25 <= at_half.wrong.high
    assert at_half.tau < 1.0


def test_without_an_example_nothing_is_stopped() -> None:
    board, logs = _board({"a": [_falling(1.0, 80.0)], "b": [_falling(3.0, math.inf)], "c": [_falling(3.0, math.inf)]})
    curves = Curves.of(board, logs)

    stopped = validated_stops(curves, [4])

    assert np.isinf(stopped[curves.submission == board.submissions.index("a")]).all()
    assert np.isfinite(stopped[curves.submission == board.submissions.index("b")]).all()


def test_what_has_reached_its_target_is_over_and_is_not_looked_at() -> None:
    board, logs = _board({"a": [_falling(1.0, 80.0)], "b": [_falling(9.0, 20.0)]})
    curves = Curves.of(board, logs)
    everything = np.ones(len(curves), dtype=np.bool_)

    assert np.isinf(stopped_at(curves, [4], learned_from=everything, judged=everything)).all()


def test_evaluations_without_a_number_are_none() -> None:
    board, logs = _board({"a": [_falling(1.0, 80.0)], "b": [[math.nan] * len(_TIMES_S)]})

    curves = Curves.of(board, logs)

    [broken] = [number for number, key in enumerate(curves.keys) if key.submission == "b"]
    assert np.isinf(curves.best[broken]).all()
    assert curves.spent_s[broken] == 5.0  # a diverged trial is over
    assert not curves.runs[broken].any()


def test_all_looks_together_stop_at_the_first_that_does() -> None:
    board, logs = _alike()
    curves = Curves.of(board, logs)

    stopped = validated_stops(curves, range(len(SHARES)))

    assert set(stopped[np.isfinite(stopped)].tolist()) == {0.1}


def test_a_beaten_trial_is_known_without_any_rule() -> None:
    board, logs = _board({"a": [_falling(1.0, 40.0), _falling(1.0, 90.0)], "b": [_falling(1.0, 50.0)] * 2})
    curves = Curves.of(board, logs)

    assert saved_without_error(curves) == pytest.approx(50.0 / (40.0 + 90.0 + 50.0 + 50.0))


def test_validated_figures_stand_beside_those_in_sample() -> None:
    board, logs = _alike()

    table = stopping_table(early_stopping(board, logs), 0.1)

    assert [row[0] for row in table.rows] == [*(f"{share:.0%}" for share in SHARES), "all of them"]
    assert all("/" in cell for row in table.rows for cell in row[1:5])
    assert "In sample / validated" in table.caption


def test_one_submission_has_nobody_to_learn_from() -> None:
    board, logs = _board({"a": [_falling(1.0, 80.0)]})

    with pytest.raises(ScoringError, match="nobody to learn from"):
        early_stopping(board, logs)
