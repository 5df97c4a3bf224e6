"""Where the wall time of a board's trials went, and whether too much of it was evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perfbench.results.trials import RecordedTrial, TrialLog
from perfbench.scoring.board import Board
from perfbench.scoring.tables import Table
from perfbench.spec.result import EVAL_SHARE_LIMIT, PhaseTimes


def trials_of(logs: Iterable[TrialLog], recorded: Iterable[RecordedTrial]) -> list[RecordedTrial]:
    """Return the trials that a board's logs were made from: on another board there may be some of the same names."""
    folders = {log.path for log in logs}
    return [trial for trial in recorded if trial.path in folders]


def time_accounting(board: Board, recorded: Sequence[RecordedTrial]) -> list[dict[str, Any]]:
    """Return mean seconds per account, by submission and workload, over the board's finished trials.

    Args:
        board: Which one.
        recorded: The trials that it was made from.
    """
    grouped: dict[tuple[str, str], list[PhaseTimes]] = {}
    for trial, phases in _finished(board, recorded):
        grouped.setdefault((trial.key.submission, trial.key.workload), []).append(phases)
    return [
        {
            "submission": submission,
            "workload": workload,
            "trials": len(times),
            "seconds": {
                name: math.fsum(one.accounts()[name] for one in times) / len(times) for name in times[0].accounts()
            },
        }
        for (submission, workload), times in sorted(grouped.items())
    ]


def eval_shares(board: Board, recorded: Sequence[RecordedTrial]) -> dict[str, float]:
    """Return evaluation as a share of training and evaluation, by workload, over the board's finished trials."""
    spent: dict[str, list[PhaseTimes]] = {}
    for trial, phases in _finished(board, recorded):
        spent.setdefault(trial.key.workload, []).append(phases)
    return {
        workload: PhaseTimes(
            scored=math.fsum(one.scored for one in times), eval=math.fsum(one.eval for one in times)
        ).eval_share()
        for workload, times in sorted(spent.items())
    }


def _finished(board: Board, recorded: Sequence[RecordedTrial]) -> list[tuple[RecordedTrial, PhaseTimes]]:
    return [(trial, trial.result.phases) for trial in recorded if trial.result is not None and trial.key in board.ends]


def eval_share_table(shares: Mapping[str, float]) -> Table:
    """Return what part of the time evaluation took, and whether that is too much."""
    rows = tuple(
        (name, f"{share:.1%}", f"more than {EVAL_SHARE_LIMIT:.0%}" if share > EVAL_SHARE_LIMIT else "")
        for name, share in shares.items()
    )
    caption = "Evaluation / (training + evaluation), over all finished trials."
    return Table("Evaluation", ("workload", "share", "warning"), rows, caption)


def too_much_evaluation(shares: Mapping[str, float]) -> str:
    """Return a warning that names the workloads on which evaluation takes too much; empty where none does."""
    found = [f"{name} ({share:.0%})" for name, share in shares.items() if share > EVAL_SHARE_LIMIT]
    if not found:
        return ""
    return f"Evaluation takes more than {EVAL_SHARE_LIMIT:.0%} of training and evaluation on {', '.join(found)}"
