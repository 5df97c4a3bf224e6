"""How far a board's times can be believed without asking whoever ran them: isolation, and who ran it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perfbench.results.trials import TrialLog
from perfbench.spec.environment import Isolation
from perfbench.spec.replay import ReplayVerdict


def attestations(logs: Sequence[TrialLog], submissions: Iterable[str]) -> dict[str, str]:
    """Return what :func:`attestation` says of each submission's trials."""
    return {name: attestation(log for log in logs if log.key.submission == name) for name in submissions}


def attestation(logs: Iterable[TrialLog]) -> str:
    """Say it of the trials of a submission in a few words; nothing where no trial says anything of it.

    Attested is what ran in a sandbox; self-attested what ran beside its referee as a process of the same user
    (docs/rules.md says what each promises).
    """
    trials = list(logs)
    if all(log.isolation is None for log in trials):
        level = ""
    else:
        num_attested = sum(log.isolation is Isolation.SANDBOX for log in trials)
        level = "self-attested"
        if num_attested:
            level = "attested" if num_attested == len(trials) else f"{num_attested} of {len(trials)} trials attested"
    confirmed = sum(log.replay is ReplayVerdict.CONFIRMED for log in trials)
    differing = sum(log.replay is ReplayVerdict.DIFFERS for log in trials)
    replays = [f"{confirmed} replayed"] if confirmed else []
    replays += [f"{differing} differ when replayed"] if differing else []
    return ", ".join(part for part in (level, *replays) if part)
