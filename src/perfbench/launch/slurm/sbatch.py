"""The text that ``sbatch`` gets. Submitit writes it, here and in a dry run on a machine that has no Slurm.

A job runs one Python process outside of ``srun`` (the element, which starts the ranks itself), in place of the shell,
so that the signal before the time limit reaches it. Submitit's own handling of signals and time limits is not used:
it takes every job of up to ten minutes for one that timed out, and requeues from inside a signal handler.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from perfbench.inherited import for_slurm
from perfbench.launch.slurm.manifest import ArrayManifest
from perfbench.launch.slurm.snapshot import site_file
from perfbench.spec.run import SlurmCluster

_AGGREGATION_MIN = 60


def escaped(path: str) -> str:
    """Return a path as Slurm's options for output take it: there ``%`` begins a pattern.

    >>> escaped("/runs/100%done")
    '/runs/100%%done'
    """
    return path.replace("%", "%%")


def element_parameters(manifest: ArrayManifest) -> dict[str, Any]:
    """Return submitit's parameters for an array of trials."""
    cluster = manifest.cluster
    job = "%A_%a" if len(manifest.trial_folders) > 1 else "%j"
    options = {
        "requeue": True,
        "output": f"{escaped(str(manifest.folder))}/{job}_0_log.out",
        "signal": f"B:USR2@{signal_lead_s(manifest)}",
        **cluster.sbatch_options,
    }
    parameters = _shared_parameters(cluster, manifest.snapshot) | {
        "job_name": manifest.job_name,
        "time": manifest.time_limit_min,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.gpus_per_node,
        "gpus_per_node": cluster.gpus_per_node if cluster.request_gpus else None,
        "cpus_per_task": cluster.cpus_per_rank,
        "mem": None if cluster.memory_gb_per_node is None else f"{cluster.memory_gb_per_node}GB",
        "partition": cluster.partition,
        "constraint": cluster.constraint,
        "array_parallelism": cluster.array_parallelism,
        "additional_parameters": options,
    }
    return {name: value for name, value in parameters.items() if value is not None or name == "wckey"}


def signal_lead_s(manifest: ArrayManifest) -> int:
    """Return how long before the time limit a job is told that it comes."""
    return min(manifest.cluster.signal_lead_s, manifest.time_limit_min * 60 - 1)


def aggregation_parameters(
    name: str, cluster: SlurmCluster, snapshot: str, *, folder: Path, after_jobs: tuple[str, ...]
) -> dict[str, Any]:
    """Return submitit's parameters for the job that scores when the arrays have ended, however they ended."""
    parameters = _shared_parameters(cluster, snapshot) | {
        "job_name": name,
        "time": _AGGREGATION_MIN,
        "nodes": 1,
        "ntasks_per_node": 1,
        "partition": cluster.aggregation_partition or cluster.partition,
        "dependency": f"afterany:{':'.join(after_jobs)}",
        "additional_parameters": {"requeue": True, "output": f"{escaped(str(folder))}/%j_0_log.out"},
    }
    return {name: value for name, value in parameters.items() if value is not None or name == "wckey"}


def _shared_parameters(cluster: SlurmCluster, snapshot: str) -> dict[str, Any]:
    return {
        "account": cluster.account,
        "qos": cluster.qos,
        "wckey": None,  # submitit's default is refused where clusters keep workload characterisation keys
        "use_srun": False,
        "stderr_to_stdout": True,
        "setup": _setup_lines(cluster, Path(snapshot)),
    }


def _setup_lines(cluster: SlurmCluster, snapshot: Path) -> list[str]:
    site = [] if cluster.site is None else [f"source {shlex.quote(str(site_file(snapshot, cluster.site)))}"]
    code = ":".join(shlex.quote(str(folder)) for folder in (snapshot / "src", snapshot))
    return [*site, *cluster.setup, f"export PYTHONPATH={code} PYTHONUNBUFFERED=1", f"cd {shlex.quote(str(snapshot))}"]


def python_command() -> str:
    """Return what starts Python in place of the shell: signals to the batch script then reach Python."""
    return f"exec {shlex.quote(sys.executable)}"


def array_text(manifest: ArrayManifest) -> str:
    """Return the text that ``sbatch`` would get."""
    num_trials = len(manifest.trial_folders)
    command = f"{python_command()} -u -m submitit.core._submit {shlex.quote(str(manifest.folder))}"
    return _make_sbatch_string(
        command=command,
        folder=manifest.folder,
        map_count=num_trials if num_trials > 1 else None,
        **element_parameters(manifest),
    )


def executor_for(folder: Path, parameters: dict[str, Any]) -> SlurmExecutor:
    """Return submitit's executor with these parameters, its files in ``folder``."""
    executor = SlurmExecutor(folder, python=python_command())
    executor.update_parameters(**parameters)
    return executor


@contextmanager
def environment_of_jobs(named: Sequence[str]) -> Iterator[None]:
    """Let this process have, while the block runs, the environment that jobs get: submitit hands on its own.

    Args:
        named: Variables beyond those that every job gets (``cluster.inherit``).
    """
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(for_slurm(before, named))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
