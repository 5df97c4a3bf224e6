"""What hardware and software a trial ran on."""

from __future__ import annotations

from perfbench.spec.base import Spec


class GpuFacts(Spec):
    """One accelerator as its driver describes it."""

    name: str
    uuid_digest: str
    """A digest: tells two devices apart without publishing the serial number."""
    memory_bytes: int
    driver: str
    sm_clock_mhz: int | None
    power_limit_w: float | None


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
    started_utc: str
