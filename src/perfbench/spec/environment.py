"""What hardware and software a trial ran on."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from perfbench.spec.base import Spec


class Isolation(StrEnum):
    """How far the code that is measured is kept from what measures (docs/rules.md says what each level promises)."""

    NONE = "none"
    """One process: for debugging, never scored."""
    PROCESS = "process"
    """Referee and trainer are two processes of one user: self-attested."""
    SANDBOX = "sandbox"
    """The trainer is confined too: attested."""


class GpuFacts(Spec):
    """One accelerator as its driver describes it."""

    name: str
    uuid_digest: str
    """A digest: tells two devices apart without publishing the serial number."""
    memory_bytes: int
    driver: str
    sm_clock_mhz: int | None
    power_limit_w: float | None


class PrecisionFacts(Spec):
    """In what numbers a process computes on a GPU: what torch says, not what was asked for."""

    matmul: str
    """``highest``: float32; ``high``: TF32."""
    cudnn_tf32: bool
    """Of convolutions and recurrent layers."""
    cudnn_benchmark: bool
    """Whether convolutions are chosen by a race: faster at times, and not the same ones every time."""
    autocast: str | None
    """The dtype, or ``null`` where models compute in their own."""


class Environment(Spec):
    """Filled once per attempt by ``engine.probe``; stored as ``environment.json``."""

    schema_version: int = 1
    attempt: int
    host_digest: str
    operating_system: str
    cpu_model: str
    num_cores: int
    memory_bytes: int
    gpus: tuple[GpuFacts, ...]
    num_ranks: int
    threads_per_rank: int
    backend: str
    python: str
    packages: dict[str, str]
    """Version by package, of all that are installed."""
    commit: str | None
    is_clean_checkout: bool | None
    workload_digest: str
    submission_digest: str
    """Digests of everything in the source folders: what ran, whatever the commit says (by file: ``code.json``)."""
    submission_data_bytes: int | None = None
    """Of files that the submission brings, in its folder or declared (``files``), that are neither code nor text of a
    usual length; ``None`` in earlier records."""
    precision: PrecisionFacts | None = None
    """``None`` in records made before it was a rule."""
    started_utc: str
    switches: dict[str, str] = Field(default_factory=dict)
    """What was set in the ranks' environment and can change what is measured, by ``perfbench.inherited``."""
    isolation: Isolation | None = None
    """``null`` in records of before there were levels."""
