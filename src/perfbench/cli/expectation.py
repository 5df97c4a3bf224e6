"""What a planned sweep costs on the clock, and how far its ranking may be expected to agree with the whole board's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perfbench.spec.ruleset import ExternalTuning
from perfbench.spec.run import TrialSpec
from perfbench.spec.workload import ScaleName

if TYPE_CHECKING:
    from perfbench.scoring.agreement_record import AgreementRecord

_RECORD = "algoperf_v05.agreement.json"


def expectation(trials: Sequence[TrialSpec]) -> list[str]:
    """Return lines for people: cost of one submission, and the agreement that such a part of the benchmark had.

    Raises:
        ResultsError: If the record of agreements is not one.
    """
    first = trials[0]
    own = [trial for trial in trials if trial.submission.name == first.submission.name]
    hours = sum(trial.max_submission_time_s for trial in own) / 3600
    count = "1 trial" if len(own) == 1 else f"{len(own)} trials"
    cost = f"cost for each submission: {count}, {hours:,.1f} h on the clock at most"
    why_not = _why_unknown(own)
    if why_not:
        return [cost, f"agreement with the full board: not known for {why_not}"]
    record = _read_record()
    sizes = {
        name: (
            len({trial.study for trial in own if trial.workload.name == name}),
            len({trial.trial for trial in own if trial.workload.name == name}),
        )
        for name in {trial.workload.name for trial in own}
    }
    studies, per_study = next(iter(sizes.values()))
    found = None
    if len(set(sizes.values())) == 1 and len(own) == len(sizes) * studies * per_study:
        found = record.expected(sizes, num_studies=studies, num_trials=per_study)
    if found is None:
        return [cost, f"agreement with the full board: not known for this part of {record.board}"]
    validated = "none, nothing so cheap was validated"
    if found.validated is not None:
        one = found.validated
        validated = f"{one.tau:.2f} [{one.low:.2f}, {one.high:.2f}] for the best choice at this cost"
    return [
        f"{cost}: {found.cost:.1%} of the whole benchmark",
        f"expected agreement with the full board: Kendall's tau {found.in_sample:.2f} in sample; validated, on "
        f"submissions that the choice has not seen, {validated}; the whole board repeated: {record.repeated:.2f}",
        f"  from {record.num_submissions} entries of {record.board}; docs/science.md says what that does not mean",
    ]


def _why_unknown(trials: Sequence[TrialSpec]) -> str:
    if any(trial.explored is not None for trial in trials):
        return "trials that somebody tries by hand"
    if trials[0].scale.name is not ScaleName.FULL:
        return f"scale={trials[0].scale.name.value} (docs/mini-board.md compares)"
    if not isinstance(trials[0].ruleset, ExternalTuning):
        return "self-tuning: its published boards have too few studies and trials to draw from"
    return ""


def _read_record() -> AgreementRecord:
    from perfbench.registry import repository_root
    from perfbench.scoring.agreement_record import AgreementRecord

    return AgreementRecord.read(repository_root() / "configs" / "benchmark" / _RECORD)
