"""What running a finished trial again has shown."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from perfbench.spec.base import Spec


class ReplayVerdict(StrEnum):
    """Whether a record was had again."""

    CONFIRMED = "confirmed"
    DIFFERS = "differs"


class Replay(Spec):
    """Stored as ``replay.json`` in the folder of the trial that was run again."""

    schema_version: int = 1
    trial_identity: str
    """Of the recorded trial."""
    chain: str
    """Digest of the recorded trial's last measurement: a record that is changed later is another one."""
    verdict: ReplayVerdict
    reasons: tuple[str, ...] = ()
    """Why it differs."""
    num_recorded: int = Field(ge=1)
    """Evaluations that the recorded trial has."""
    num_compared: int = Field(ge=0)
    num_equal: int = Field(ge=0)
    """Of these, evaluations of which every metric is equal bit for bit."""
    largest_difference: float | None = None
    """Of a metric, relative to the recorded one; ``None`` where nothing was compared or a number is not finite."""
    tolerance: float
    """Up to here two metrics count as the same; 0 on processors of one kind with one version of torch."""
    num_digests_compared: int = 0
    """Of traced steps."""
    num_digests_equal: int = 0
    time_ratio: float | None = None
    """Seconds on the clock up to the last compared evaluation, here over recorded."""
    time_band: float | None
    """The recorded time may be shorter by this factor at most; ``None`` where it was not judged: on other
    hardware, or so short that a busy moment is a large share of it."""
    is_same_code: bool
    isolation: str
    """Of the replay."""
    host_digest: str
    """Of the machine that ran it."""
    wall_time_utc: str
