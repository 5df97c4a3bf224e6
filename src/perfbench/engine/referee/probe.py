"""What this machine and this installation are: filled in, not typed in by a person."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path

import psutil
import torch

from perfbench.engine.referee.checkout import commit_of
from perfbench.inherited import switches
from perfbench.places import COMMIT
from perfbench.registry import repository_root, submission_folder
from perfbench.results.folders import digests_of_files
from perfbench.spec.code import digest_of
from perfbench.spec.environment import Environment, GpuFacts
from perfbench.spec.submission import SubmissionSpec

_LONGEST_TEXT_BYTES = 2**16
"""A longer file may hold numbers, whatever it is called."""


def probe_environment(
    *, attempt: int, num_ranks: int, backend: str, workload_folder: Path, submission: SubmissionSpec
) -> Environment:
    """Describe hardware and software of this process."""
    commit, is_clean = _commit()
    folder = submission_folder(submission)
    return Environment(
        attempt=attempt,
        host_digest=_short_digest(platform.node().encode()),
        operating_system=platform.platform(),
        cpu_model=_cpu_model(),
        num_cores=psutil.cpu_count(logical=True) or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=tuple(_gpus()),
        num_ranks=num_ranks,
        threads_per_rank=torch.get_num_threads(),
        backend=backend,
        python=platform.python_version(),
        packages=_packages(),
        commit=commit,
        is_clean_checkout=is_clean,
        workload_digest=digest_of(digests_of_files(workload_folder)),
        submission_digest=digest_of(digests_of_files(folder)),
        submission_data_bytes=data_bytes(submission, folder),
        switches=switches(os.environ),
        started_utc=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
    )


def process_age_s() -> float:
    """Return the seconds since this process was started (resolution: 10 ms)."""
    now = datetime.datetime.now(tz=datetime.UTC).timestamp()
    return max(0.0, now - psutil.Process().create_time())


def data_bytes(submission: SubmissionSpec, folder: Path) -> int:
    """Return the size of all files that a submission brings and that are neither code nor text of usual length."""
    texts = (".py", ".yaml", ".yml", ".md", ".txt", ".toml", ".json")
    declared = (Path(file.path).expanduser() for file in submission.files.values() if file.path is not None)
    linked = (folder / name for name in digests_of_files(folder))
    sizes = [(path, path.stat().st_size) for path in {*folder.rglob("*"), *linked, *declared} if path.is_file()]
    return sum(size for path, size in sizes if path.suffix.lower() not in texts or size > _LONGEST_TEXT_BYTES)


def _packages() -> dict[str, str]:
    installed = importlib.metadata.distributions()
    return dict(sorted((item.metadata["Name"].lower(), item.version) for item in installed if item.metadata["Name"]))


def _short_digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout and whether it is clean; ``None`` outside a checkout.

    A copy of the code, made for jobs or by an installation, says in a file which one it was.
    """
    noted = repository_root() / COMMIT
    if noted.exists():
        commit, _, state = noted.read_text().strip().partition(" ")
        return commit or None, state == "clean" if commit else None
    return commit_of(repository_root())


def _gpus() -> list[GpuFacts]:
    """Describe the visible GPUs through the driver's management library; none where there is no driver."""
    if not torch.cuda.is_available():
        return []
    import pynvml

    pynvml.nvmlInit()
    driver = pynvml.nvmlSystemGetDriverVersion()
    return [_gpu(pynvml.nvmlDeviceGetHandleByIndex(index), str(driver)) for index in range(pynvml.nvmlDeviceGetCount())]


def _gpu(handle: object, driver: str) -> GpuFacts:
    import pynvml

    def optional(function: str, *arguments: int) -> int | None:
        try:
            return int(getattr(pynvml, function)(handle, *arguments))
        except pynvml.NVMLError:
            return None  # not every device answers every question

    power_mw = optional("nvmlDeviceGetPowerManagementLimit")
    return GpuFacts(
        name=str(pynvml.nvmlDeviceGetName(handle)),
        uuid_digest=_short_digest(str(pynvml.nvmlDeviceGetUUID(handle)).encode()),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=driver,
        sm_clock_mhz=optional("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM),
        power_limit_w=None if power_mw is None else power_mw / 1000,
    )
