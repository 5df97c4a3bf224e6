"""A real Slurm for tests, and small sweeps on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from perfbench.registry import repository_root
from tests.integration import small_criteo

SCRIPT = repository_root() / "slurm" / "test_cluster" / "cluster.sh"
PATIENCE_S = 200.0


@dataclass(frozen=True)
class TestCluster:
    """Two nodes that are one machine."""

    __test__ = False

    folder: Path
    data_root: Path

    def environment(self) -> dict[str, str]:
        """Return an environment in which Slurm's commands mean this cluster."""
        code = f"{repository_root() / 'src'}:{repository_root()}"
        return small_criteo.environment() | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PYTHONPATH": code}

    def slurm(self, *command: str) -> str:
        """Run one of Slurm's commands."""
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=self.environment(), timeout=100)
        return done.stdout.strip()

    def perfbench(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        command = [sys.executable, "-m", "perfbench", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment(), timeout=PATIENCE_S
        )

    def sweep(self, runs_root: Path, *overrides: str, retry_failed: bool = False) -> subprocess.CompletedProcess[str]:
        """Submit a sweep of tiny trials, two ranks each; nothing is compiled, which takes most of a short trial."""
        is_by_time = "evaluation=wall_clock" in overrides
        defaults = [item for item in small_criteo.OVERRIDES if not (is_by_time and item.startswith("evaluation"))]
        cluster = ("cluster=slurm_cpu", "cluster.site=loopback", "cluster.setup=['export TORCHDYNAMO_DISABLE=1']")
        roots = (f"data_root={self.data_root}", f"runs_root={runs_root}")
        options = ["--retry-failed"] if retry_failed else []
        return self.perfbench("sweep", *options, *defaults, *cluster, *roots, *overrides)

    def names_in_queue(self) -> list[str]:
        """Return the names of all jobs that have not ended."""
        return self.slurm("squeue", "--noheader", "--format=%j").split()

    def hasten(self) -> None:
        """Let requeued jobs start now: Slurm would have them wait for two minutes."""
        for line in self.slurm("squeue", "--noheader", "--array", "--states=PENDING", "--format=%i %r").splitlines():
            job_id, _, reason = line.partition(" ")
            if reason == "BeginTime":
                command = ["scontrol", "update", f"JobId={job_id}", "StartTime=now"]
                subprocess.run(command, env=self.environment(), capture_output=True, check=False, timeout=100)

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something to be so, hastening requeued jobs meanwhile."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"not so after {PATIENCE_S:.0f} s: {what}\n{self.slurm('squeue')}"
            self.hasten()
            time.sleep(0.3)


def missing_programs() -> list[str]:
    """Return which of Slurm's programs are not here."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name, path=path) is None]


def start(folder: Path, data_root: Path) -> TestCluster:
    """Start the cluster; skip, saying why, where that is impossible."""
    if missing := missing_programs():
        pytest.skip(f"no Slurm here ({', '.join(missing)}): apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("only root can start the nodes of a Slurm cluster")
    settings = {"MAX_ARRAY_SIZE": "4", "SLURMD_TIMEOUT_S": "15", "KILL_WAIT_S": "15", "PYTHON": sys.executable}
    started = subprocess.run(
        [SCRIPT, "up", folder], env=os.environ | settings, capture_output=True, text=True, check=False, timeout=100
    )
    assert started.returncode == 0, started.stderr
    return TestCluster(folder, data_root)


def stop(folder: Path) -> None:
    """End the cluster and everything that runs on it."""
    subprocess.run([SCRIPT, "down", folder], check=True, capture_output=True, timeout=100)
