"""Smaller boards as tables and plain data: agreement in sample always beside the validated one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from perfbench.scoring.early_stopping import Stopping
from perfbench.scoring.fewer_trials import Design, Smaller
from perfbench.scoring.subset_front import Estimate, FrontRow, SubsetAnalysis
from perfbench.scoring.subset_validation import TOPS
from perfbench.scoring.tables import Table

SCHEMA_VERSION = 1
PREDICTS = "predicts"
AS_A_PART = "as a part of it"
NO_MORE_THAN_CHANCE = "not told from chance"
BARE = "without variants"


@dataclass(frozen=True, slots=True)
class SmallerBoards:
    """Everything that is known of the smaller boards of one board."""

    subsets: SubsetAnalysis
    fewer: tuple[Smaller, ...]
    designs: tuple[Design, ...]


def subset_text(analysis: SubsetAnalysis, number: int) -> str:
    """Return the workloads of a subset."""
    subsets = analysis.subsets
    names = ", ".join(subsets.names(number))
    return names if subsets.chosen[number].has_variants else f"{names} ({BARE})"


def verdict(row: FrontRow) -> str:
    """Return what a row may claim: "predicts" only where an interval excludes what any part has of its whole."""
    if row.predicts:
        return PREDICTS
    return AS_A_PART if row.validated.low > 0 else NO_MORE_THAN_CHANCE


def front_table(analysis: SubsetAnalysis) -> Table:
    """Return the subsets that agree more than every cheaper one."""
    rows = []
    for row in analysis.rows:
        cost, spent = analysis.subsets.cost[row.subset], analysis.subsets.spent[row.subset]
        rest = "" if row.rest is None else _estimate(row.rest)
        numbers = (_estimate(row.in_sample), _estimate(row.validated), _chance(row), _estimate(row.half_out), rest)
        rows.append((f"{cost:.1%}", f"{spent:.1%}", *numbers, verdict(row), subset_text(analysis, row.subset)))
    header = (
        "cost",
        "spent",
        "in sample",
        "validated",
        "by chance",
        "half unseen",
        "on the rest",
        "verdict",
        "workloads",
    )
    names = len(analysis.times.submissions)
    caption = (
        f"Kendall's tau-b with the board of all workloads, {names} submissions. Cost: share of the budgets; spent: of "
        "the seconds on the clock. In sample: of the subset that is best for all submissions, interval over studies. "
        "Validated: of the best choice at this cost, made again without each submission and judged by its pairs, "
        "interval over studies and submissions. By chance: the same where workloads say nothing of one another, so "
        "that a subset agrees only as a part of the whole (mean, and what 1 of 40 exceeds). Half unseen: chosen by "
        "half of the submissions, judged within the other half. On the rest: as validated, with the workloads that "
        f"were not chosen. Verdict: {PREDICTS}, where the validated interval excludes chance; {AS_A_PART}, where it "
        f"excludes 0 only; {NO_MORE_THAN_CHANCE} otherwise. The whole board agrees with itself, its studies drawn "
        f"again, by {_estimate(analysis.repeated)}."
    )
    return Table("Boards of fewer workloads", header, tuple(rows), caption)


def places_table(analysis: SubsetAnalysis) -> Table:
    """Return how far the first places agree."""
    rows = []
    for row in analysis.rows:
        cells = []
        for own, unseen, chance in zip(row.tops, row.tops_validated, row.tops_chance, strict=True):
            cells += [_estimate(own), _estimate(unseen), f"{chance:.2f}"]
        rows.append((f"{analysis.subsets.cost[row.subset]:.1%}", *cells))
    header = ["cost"]
    for top in TOPS:
        header += [f"top {top} in sample", f"top {top} unseen", f"top {top} by chance"]
    caption = (
        "Share of the first places that are the whole board's. Unseen: chosen by half of the submissions, first places "
        "within the other half. Intervals over studies."
    )
    return Table("First places", tuple(header), tuple(rows), caption)


def fewer_table(fewer: tuple[Smaller, ...]) -> Table:
    """Return studies by trials: agreement in sample and validated."""
    trials = sorted({one.num_trials for one in fewer})
    by_size = {(one.num_studies, one.num_trials): one for one in fewer}
    rows = []
    for studies in sorted({one.num_studies for one in fewer}):
        cells = []
        for count in trials:
            one = by_size[studies, count]
            validated = "none" if one.validated is None else f"{one.validated.value:.2f}"
            cells.append(f"{one.in_sample.value:.2f} / {validated}")
        rows.append((str(studies), *cells))
    caption = (
        "Mean tau over draws: in sample, with the whole board, of which the draw is a part / validated, with the "
        "board of the studies that were not drawn. All workloads; cost is studies x trials."
    )
    header = ("studies", *(f"{count} trials" for count in trials))
    return Table("Boards of fewer studies and trials", header, tuple(rows), caption)


def design_table(boards: SmallerBoards) -> Table:
    """Return the best choices of workloads, studies and trials together."""
    rows = tuple(
        (
            f"{one.cost:.2%}",
            f"{one.num_studies} x {one.num_trials}",
            _estimate(one.in_sample),
            _estimate(one.validated),
            subset_text(boards.subsets, one.subset),
        )
        for one in boards.designs
    )
    caption = (
        "Chosen from all subsets with every number of studies and trials. Validated: chosen without each submission "
        "and judged by its pairs; interval over drawn studies, trials and submissions. In sample: interval over "
        "draws."
    )
    header = ("cost", "studies x trials", "in sample", "validated", "workloads")
    return Table("Fewer workloads, studies and trials", header, rows, caption)


def tables(boards: SmallerBoards) -> list[Table]:
    """Return all tables."""
    found = [front_table(boards.subsets), places_table(boards.subsets)]
    if len(boards.fewer) > 1:
        found += [fewer_table(boards.fewer), design_table(boards)]
    return found


def every_subset_table(analysis: SubsetAnalysis) -> Table:
    """Return all subsets, for programs."""
    rows = []
    for number in range(len(analysis.subsets)):
        cost = float(analysis.subsets.cost[number])
        row = analysis.row_at(cost)
        low, high = analysis.interval[:, number]
        validated = "" if row is None else f"{row.validated.value:.6f}"
        numbers = (cost, float(analysis.subsets.spent[number]), float(analysis.in_sample[number]), low, high)
        names = " ".join(analysis.subsets.names(number))
        variants = "yes" if analysis.subsets.chosen[number].has_variants else "no"
        rows.append((names, variants, *(f"{value:.6f}" for value in numbers), validated))
    header = ("workloads", "variants", "cost", "spent", "tau", "tau_low", "tau_high", "tau_validated_at_cost")
    return Table("Subsets", header, tuple(rows))


def as_json(found: list[SmallerBoards]) -> str:
    """Return everything as one JSON document."""
    document = {"schema_version": SCHEMA_VERSION, "boards": [_document(one) for one in found]}
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _document(boards: SmallerBoards) -> dict[str, Any]:
    analysis = boards.subsets
    return {
        "name": analysis.times.benchmark.name,
        "submissions": list(analysis.times.submissions),
        "bootstrap_samples": analysis.num_samples,
        "whole_board_repeated": analysis.repeated._asdict(),
        "front": [_front_document(analysis, row) for row in analysis.rows],
        "fewer": [
            {
                "studies": one.num_studies,
                "trials": one.num_trials,
                "cost": one.cost,
                "in_sample": one.in_sample._asdict(),
                "validated": None if one.validated is None else one.validated._asdict(),
            }
            for one in boards.fewer
        ],
        "designs": [
            {
                "workloads": list(analysis.subsets.names(one.subset)),
                "variants": analysis.subsets.chosen[one.subset].has_variants,
                "studies": one.num_studies,
                "trials": one.num_trials,
                "cost": one.cost,
                "in_sample": one.in_sample._asdict(),
                "validated": one.validated._asdict(),
            }
            for one in boards.designs
        ],
    }


def _front_document(analysis: SubsetAnalysis, row: FrontRow) -> dict[str, Any]:
    return {
        "workloads": list(analysis.subsets.names(row.subset)),
        "variants": analysis.subsets.chosen[row.subset].has_variants,
        "cost": float(analysis.subsets.cost[row.subset]),
        "spent": float(analysis.subsets.spent[row.subset]),
        "in_sample": row.in_sample._asdict(),
        "validated": row.validated._asdict(),
        "validated_interval_over_studies": [row.validated_by_studies.low, row.validated_by_studies.high],
        "chance": row.chance._asdict(),
        "half_unseen": row.half_out._asdict(),
        "rest": None if row.rest is None else row.rest._asdict(),
        "rest_chance": row.chance_rest._asdict(),
        "first_places": [
            {"places": top, "in_sample": own._asdict(), "unseen": unseen._asdict(), "chance": chance}
            for top, own, unseen, chance in zip(TOPS, row.tops, row.tops_validated, row.tops_chance, strict=True)
        ],
        "leave_one_out_choices_that_are_this": row.num_chosen,
        "predicts_the_board": row.predicts,
        "predicts_the_rest": row.predicts_rest,
    }


def stopping_table(found: list[Stopping], free: float) -> Table:
    """Return what stopping early saves and spoils."""
    rows = []
    for one in found:
        own, unseen = one.in_sample, one.validated
        rows.append(
            (
                "all of them" if one.share is None else f"{one.share:.0%}",
                f"{own.saved:.1%} / {_estimate(one.saved, percent=True)}",
                f"{own.caught:.0%} / {unseen.caught:.0%}",
                f"{own.wrong:.1%} / {_estimate(one.wrong, percent=True)}",
                f"{own.wrong_deciding:.1%} / {_estimate(one.wrong_deciding, percent=True)}",
                f"{one.tau:.2f}",
            )
        )
    header = ("looked at", "seconds saved", "misses stopped", "reaching stopped", "studies changed", "tau")
    caption = (
        "Stopped where the best evaluation so far is worse than that of every trial that was still running then and "
        "reached the target later. In sample / validated: made from the trials of the other submissions; intervals "
        "over submissions. Tau: of the board that is left with the whole one. Without any rule, trials that a "
        f"finished one of their study has already beaten are {free:.1%} of the seconds."
    )
    return Table("Stopping trials early", header, tuple(rows), caption)


def _estimate(estimate: Estimate, *, percent: bool = False) -> str:
    if percent:
        return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _chance(row: FrontRow) -> str:
    return f"{row.chance.mean:.2f}, {row.chance.high:.2f}"
