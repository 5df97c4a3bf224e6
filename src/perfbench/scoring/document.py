"""A board as plain data, for programs: everything that the tables say, unrounded. Infinity is ``null``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from perfbench.scoring.board import Board
from perfbench.scoring.compare import compare_all
from perfbench.scoring.states import TrialState
from perfbench.scoring.tables import state_counts
from perfbench.scoring.uncertainty import Interval, Uncertainty

SCHEMA_VERSION = 3
"""Version 2: probabilities may be ``null``; states of trials; whether the board is provisional.

Version 3: attestation."""


def as_json(boards: Sequence[tuple[Board, Uncertainty | None]], complaints: Sequence[str]) -> str:
    """Return boards as one JSON document."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "boards": [board_document(board, uncertainty) for board, uncertainty in boards],
        "complaints": list(complaints),
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def board_document(board: Board, uncertainty: Uncertainty | None) -> dict[str, Any]:
    """Return one board as plain data."""
    return {
        "name": board.benchmark.name,
        "is_provisional": board.is_provisional,
        "states": [
            {
                "submission": submission,
                "workload": workload,
                "trials": {state.value: found[state] for state in TrialState if found[state]},
            }
            for (submission, workload), found in sorted(state_counts(board).items())
        ],
        "rules": board.benchmark.model_dump(mode="json", exclude={"as_published"}),
        "leaderboard": [
            {
                "submission": name,
                "score": board.score[name],
                "attestation": board.attestations[name],
                "score_interval": _interval(uncertainty.score[name]) if uncertainty else None,
                "rank_interval": _interval(uncertainty.rank[name]) if uncertainty else None,
            }
            for name in board.submissions
        ],
        "interval_level": uncertainty.level if uncertainty else None,
        "times": [
            {
                "submission": cell.submission,
                "workload": cell.workload,
                "time_to_target_s": finite(cell.time.time_s),
                "time_interval_s": _interval(uncertainty.time_s[place]) if uncertainty else None,
                "verdict": cell.verdict.value,
                "ratio_to_fastest": finite(cell.ratio),
                "studies": [
                    {
                        "study": study.study,
                        "time_s": finite(study.time_s),
                        "trial": study.trial,
                        "trials": study.num_trials,
                    }
                    for study in cell.time.studies
                ],
            }
            for place, cell in sorted(board.cells.items())
        ],
        "pairs": _pairs(board, uncertainty),
        "warnings": list(board.warnings),
        "notes": list(board.notes),
    }


def _pairs(board: Board, uncertainty: Uncertainty | None) -> list[dict[str, Any]]:
    """Return every submission against every other."""
    return [
        {
            "submission": pair.submission,
            "against": pair.other,
            "wins": pair.wins,
            "losses": pair.losses,
            "ties": pair.ties,
            "mean_speed_up": finite(pair.mean_speed_up),
            "speed_ups": pair.speed_ups,
            "probability_of_higher_score": (
                uncertainty.scores_higher[pair.submission, pair.other] if uncertainty else None
            ),
            "probability_of_being_faster": {
                workload: uncertainty.is_faster[pair.submission, pair.other, workload]
                for workload in board.benchmark.workloads
            }
            if uncertainty
            else None,
        }
        for pair in compare_all(board)
    ]


def finite(value: float) -> float | None:
    """Return the value, or ``None`` where JSON has no number for it."""
    return value if math.isfinite(value) else None


def _interval(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else [finite(interval.low), finite(interval.high)]
