"""A real Slurm for tests, and small sweeps on it."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psutil
import pytest

from perfbench.cli.main import main
from perfbench.inherited import for_slurm
from perfbench.registry import repository_root
from tests.integration import small_criteo

SCRIPT = repository_root() / "slurm" / "test_cluster" / "cluster.sh"
PATIENCE_S = 300.0
HOSTILE = {
    "SLURM_ARRAY_JOB_ID": "1",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_JOB_ID": "1",
    "SLURM_RESTART_COUNT": "7",
    "SLURM_NTASKS": "9",
    "SLURM_MEM_PER_CPU": "100",
    "SLURM_CLUSTERS": "another",
    "SBATCH_TIMELIMIT": "3",
    "SBATCH_PARTITION": "short",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_SIGNAL": "USR1@5",
    "SBATCH_ARRAY_INX": "0-1",
    "SQUEUE_STATES": "RUNNING",
    "SQUEUE_PARTITION": "short",
    "SQUEUE_FORMAT": "%N",
    "SRUN_CPUS_PER_TASK": "7",
    "SCONTROL_ALL": "1",
    "SINFO_FORMAT": "%n",
    "MASTER_PORT": "1",
    "RANK": "3",
    "WORLD_SIZE": "9",
}
"""What the environment of somebody who submits from inside of another job may hold."""


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
        environment = for_slurm(self.environment())
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=100)
        return done.stdout.strip()

    def perfbench(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line here: torch is loaded already, which would take most of the time."""
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, self.environment()), redirect_stdout(out), redirect_stderr(err):
            code = main(arguments)
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def perfbench_process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as a person does, in a process that ends."""
        command = [sys.executable, "-m", "perfbench", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=self.environment(), timeout=PATIENCE_S
        )

    def sweep_arguments(self, runs_root: Path, *overrides: str, compiled: bool = False) -> list[str]:
        """Return a sweep of tiny trials, two ranks each; what is not compiled starts sooner, and is never scored."""
        is_by_time = "evaluation=wall_clock" in overrides
        defaults = [item for item in small_criteo.OVERRIDES if not (is_by_time and item.startswith("evaluation"))]
        cluster = ["cluster=slurm_cpu", "cluster.site=loopback"]
        if not compiled:
            cluster += ["cluster.inherit=[TORCHDYNAMO_DISABLE]", "cluster.setup=['export TORCHDYNAMO_DISABLE=1']"]
        return ["sweep", *defaults, *cluster, f"data_root={self.data_root}", f"runs_root='{runs_root}'", *overrides]

    def sweep(
        self, runs_root: Path, *overrides: str, looked_after: bool = False, compiled: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Submit a sweep; these trials are evaluated by steps, so nothing can be scored.

        Args:
            runs_root: Where to.
            *overrides: Of what to run.
            looked_after: Whether the scoring job stays, which puts lost trials back.
            compiled: Whether trials are compiled, as those that are scored are.
        """
        done = self.perfbench(*self.sweep_arguments(runs_root, *overrides, compiled=compiled))
        if looked_after:
            return done
        if found := re.search(r"scores will be made by job (\d+)", done.stdout):
            self.slurm("scancel", found[1])
        return done

    def failed_jobs(self, runs_root: Path) -> int:
        """Return how many elements of a run folder's arrays have failed as jobs."""
        names = [path.name for path in runs_root.glob(".slurm/arrays/*")]
        failed = self.slurm("squeue", "--noheader", "--array", "--states=FAILED", "--format=%j").split()
        return sum(any(name.endswith(array) for array in names) for name in failed)

    def names_in_queue(self) -> list[str]:
        """Return the names of all jobs that have not ended."""
        return self.slurm("squeue", "--noheader", "--format=%j").split()

    def kill_daemon(self, node: str) -> None:
        """End a node's daemon while its ranks live on: what a cut cable looks like."""
        os.kill(int((self.folder / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)

    def start_daemon(self, node: str) -> None:
        """Start a node's daemon again."""
        self.slurm(str(SCRIPT), "slurmd", str(self.folder), node)

    def end_processes(self, node: str) -> None:
        """End what a node's daemon had started, as a reboot does."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                is_ours = environment.get("SLURM_CONF") == str(self.folder / "slurm.conf")
                if is_ours and environment.get("SLURMD_NODENAME") == node:
                    steps = [parent for parent in process.parents() if parent.name().startswith("slurmstepd")]
                    for one in (process, *steps):
                        one.kill()

    def open_nodes(self) -> None:
        """Let nodes that Slurm has closed be used again."""
        for node in self.slurm("sinfo", "--noheader", "--Node", "--states=DRAIN", "--format=%N").split():
            self.open_node(node)

    def open_node(self, node: str) -> None:
        """Let a node be used again; Slurm refuses that while it has come back by itself, or is not there yet."""
        with suppress(subprocess.CalledProcessError):
            self.slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")

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
            assert time.monotonic() < deadline_s, f"not so after {PATIENCE_S:.0f} s: {what}\n{self.accounts()}"
            self.hasten()
            time.sleep(0.3)

    def accounts(self, *, num_characters: int = 1200) -> str:
        """Return what every job that did not simply end well is or was doing, with the end of its log."""
        queue = self.slurm("squeue", "--noheader", "--array", "--states=all", "--format=%i|%j|%T|%r|%M").splitlines()
        texts = []
        for line in queue:
            job_id, _, rest = line.partition("|")
            if "COMPLETED" in rest:
                continue
            shown = self.slurm("scontrol", "show", "job", job_id)
            found = re.search(r"StdOut=(\S+)", shown)
            log = Path(found[1]) if found else Path()
            texts += [line, log.read_text()[-num_characters:] if log.is_file() else "(no log)"]
        controller = [line for line in (self.folder / "slurmctld.log").read_text().splitlines() if "sched" not in line]
        return "\n".join([*texts, *controller[-30:]])


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
