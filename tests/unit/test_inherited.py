"""What children inherit of an environment that is full of switches nobody means for a trial."""

from __future__ import annotations

import pytest

from perfbench.inherited import for_mirror, for_ranks, for_slurm, for_step, spoiling, switches, withheld

SCHEDULER = {
    "SLURM_ARRAY_JOB_ID": "1",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_MEM_PER_CPU": "100",
    "SBATCH_TIMELIMIT": "3",
    "SBATCH_ARRAY_INX": "0-1",
    "SQUEUE_STATES": "RUNNING",
    "SRUN_CPUS_PER_TASK": "7",
    "SCONTROL_ALL": "1",
    "SINFO_FORMAT": "%n",
    "SCANCEL_STATE": "PENDING",
    "SALLOC_PARTITION": "short",
}
MEASURED = {
    "TORCHDYNAMO_DISABLE": "1",
    "NVIDIA_TF32_OVERRIDE": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "MKL_NUM_THREADS": "7",
    "OMP_PROC_BIND": "close",
    "PYTHONOPTIMIZE": "2",
    "LD_PRELOAD": "libfaketime.so",
}
WANTED = {"PATH": "/bin", "HOME": "/h", "LANG": "C", "SLURM_CONF": "/c", "CUDA_VISIBLE_DEVICES": "1", "NCCL_DEBUG": "x"}
FOREIGN = {"WANDB_SWEEP_ID": "s", "AWS_SECRET_ACCESS_KEY": "s", "RANK": "2", "WORLD_SIZE": "4", "MASTER_PORT": "1"}
EVERYTHING = SCHEDULER | MEASURED | WANTED | FOREIGN


def test_ranks_and_slurm_get_what_is_named_and_nothing_else() -> None:
    assert for_ranks(EVERYTHING) == WANTED
    assert for_slurm(EVERYTHING) == WANTED
    assert "NCCL_DEBUG" not in for_mirror(EVERYTHING)


def test_a_step_also_gets_what_slurm_says_of_its_job() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURMD_NODENAME": "n1"}

    assert for_step(job | MEASURED) == job


def test_what_a_profile_names_is_inherited_and_on_record() -> None:
    inherited = for_ranks(EVERYTHING, ["TORCHDYNAMO_DISABLE", "MKL_*"])

    assert switches(inherited) == {"MKL_NUM_THREADS": "7", "NCCL_DEBUG": "x", "TORCHDYNAMO_DISABLE": "1"}
    assert spoiling(switches(inherited)) == ["TORCHDYNAMO_DISABLE"]
    assert withheld(EVERYTHING, ["TORCHDYNAMO_DISABLE", "MKL_*"]) == sorted(
        MEASURED.keys() - {"TORCHDYNAMO_DISABLE", "MKL_NUM_THREADS"}
    )


@pytest.mark.parametrize("name", ["WANDB_API_KEY", "HTTPS_PROXY", "BASH_FUNC_module%%"])
def test_ranks_get_no_login_and_jobs_get_what_their_shell_and_mirror_need(name: str) -> None:
    assert for_ranks({name: "x"}) == {}
    assert for_slurm({name: "x"}) == {name: "x"}
