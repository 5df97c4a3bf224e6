"""What child processes inherit of the environment: the one place that says so, for every process that is started.

The environment of a person, of a job that submits or of a notebook is full of switches that nobody means for a trial:
options of the scheduler's commands, numbers of threads, precision, debugging. So children get only what is named here,
and what a cluster profile names (``cluster.inherit``). Of that, what can change what is measured goes on record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase


def _patterns(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_HARMLESS = _patterns("""
    HOME USER LOGNAME SHELL LANG LANGUAGE LC_* TZ TERM HOSTNAME XDG_*
    PATH TMPDIR TMP TEMP LD_LIBRARY_PATH LIBRARY_PATH CPATH *_INCLUDE_PATH CUDA_HOME CUDA_PATH SLURM_CONF
    PYTHONPATH PYTHONUSERBASE PYTHONNOUSERSITE PYTHONPYCACHEPREFIX PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED
    PYTHONUTF8 PYTHONIOENCODING VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV APPTAINER* SINGULARITY* PERFBENCH_*
    CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES
    TORCH_HOME TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR CUDA_CACHE_PATH HF_HOME HF_*_OFFLINE
""")
"""Who somebody is, where things are, which devices there are."""
_NETWORK = _patterns("NCCL_* GLOO_* UCX_* FI_* IBV_* RDMAV_*")
"""How ranks reach one another: no site works without its own. It goes on record."""
_RANKS = (*_HARMLESS, *_NETWORK)
_INTERNET = _patterns("""
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy
    SSL_CERT_* REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
""")
_WANDB = _patterns("""
    WANDB_API_KEY WANDB_BASE_URL WANDB_IDENTITY_TOKEN_FILE WANDB_CREDENTIALS_FILE NETRC
    WANDB_CONFIG_DIR WANDB_CACHE_DIR WANDB_DATA_DIR WANDB_HTTP_TIMEOUT WANDB_INSECURE_DISABLE_SSL
""")
"""Who somebody is and where the service is. Which run, project or sweep a trial belongs to, we say ourselves."""
_MODULES = _patterns("""
    MODULE* LOADEDMODULES* LMOD_* __LMOD_* __MODULES_* _ModuleTable* _LMFILES_*
    BASH_ENV BASH_FUNC_module* BASH_FUNC_ml* BASH_FUNC__module*
""")
"""What a job's shell needs for ``module load``."""
_SWITCHES = _NETWORK + _patterns("""
    TORCH* PYTORCH_* TRITON_* INDUCTOR_* ATEN_* FBGEMM_* CUBLAS* CUDNN_* CUDA_* NVIDIA_*
    OMP_* KMP_* GOMP_* MKL_* DNNL_* ONEDNN_* OPENBLAS_* BLIS_* NUMEXPR_*
    LD_PRELOAD MALLOC_* PYTHONHASHSEED PYTHONOPTIMIZE CC CXX CXXFLAGS
""")
"""What changes how fast, how exactly or by which code a trial computes."""
_SPOILING = _patterns("""
    TORCHDYNAMO_* TORCH_COMPILE* TORCHINDUCTOR_* PYTORCH_JIT* TORCH_ALLOW_TF32* NVIDIA_TF32_OVERRIDE PYTHONOPTIMIZE
""")
"""What makes a trial another one than the rules describe: not compiled, compiled otherwise, or of another precision."""
_SET_BY_LAUNCHERS = ("OMP_NUM_THREADS",)
"""On record elsewhere (threads per rank)."""


def for_ranks(environment: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return what the ranks of a trial inherit.

    Args:
        environment: Of the process that starts them.
        named: Further names or patterns (``*`` at their ends), as ``cluster.inherit`` has them.

    >>> for_ranks({"HOME": "/h", "NCCL_DEBUG": "INFO", "MKL_CBWR": "SSE2", "SLURM_NTASKS": "9", "MINE": "1"}, ["MIN*"])
    {'HOME': '/h', 'NCCL_DEBUG': 'INFO', 'MINE': '1'}
    """
    return _chosen(environment, (*_RANKS, *named))


def for_slurm(environment: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return what Slurm's commands inherit, and with ``sbatch`` the jobs: no option of any of these commands.

    >>> for_slurm({"SLURM_CONF": "/c", "SQUEUE_STATES": "RUNNING", "SBATCH_TIMELIMIT": "3", "WANDB_API_KEY": "k"})
    {'SLURM_CONF': '/c', 'WANDB_API_KEY': 'k'}
    """
    return _chosen(environment, (*_RANKS, *_INTERNET, *_WANDB, *_MODULES, *named))


def for_step(environment: Mapping[str, str], named: Iterable[str] = ()) -> dict[str, str]:
    """Return what ``srun`` and its ranks inherit inside of a job: also what Slurm itself says of this job."""
    return _chosen(environment, (*_RANKS, "SLURM_*", "SLURMD_*", *named))


def for_mirror(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what a process inherits that shows trials elsewhere: a login, and the way there."""
    return _chosen(environment, (*_HARMLESS, *_INTERNET, *_WANDB))


def foreign_to_mirror(environment: Mapping[str, str]) -> list[str]:
    """Return the names of W&B's variables that would have a trial become another run than ours.

    >>> foreign_to_mirror({"WANDB_SWEEP_ID": "x", "WANDB_API_KEY": "k", "HOME": "/h"})
    ['WANDB_SWEEP_ID']
    """
    return [name for name in environment if name.startswith("WANDB_") and not _matches(name, _WANDB)]


def switches(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what is set in a rank and can change what is measured, sorted: it goes on record.

    >>> switches({"NCCL_ALGO": "Ring", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1", "MKL_CBWR": "SSE2"})
    {'MKL_CBWR': 'SSE2', 'NCCL_ALGO': 'Ring'}
    """
    unrecorded = (*_HARMLESS, *_SET_BY_LAUNCHERS)
    return {
        name: environment[name]
        for name in sorted(environment)
        if _matches(name, _SWITCHES) and not _matches(name, unrecorded)
    }


def spoiling(names: Iterable[str]) -> list[str]:
    """Return which switches make a trial one that cannot be scored.

    >>> spoiling(["NCCL_ALGO", "TORCHDYNAMO_DISABLE", "TORCHINDUCTOR_CACHE_DIR"])
    ['TORCHDYNAMO_DISABLE']
    """
    return [name for name in names if _matches(name, _SPOILING) and not _matches(name, _HARMLESS)]


def withheld(environment: Mapping[str, str], named: Iterable[str] = ()) -> list[str]:
    """Return the switches that are set here and that ranks do not inherit, sorted: a person may have meant them.

    >>> withheld({"TORCHDYNAMO_DISABLE": "1", "NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "1"})
    ['TORCHDYNAMO_DISABLE']
    """
    inherited = for_ranks(environment, named)
    return [name for name in switches(environment) if name not in inherited]


def _chosen(environment: Mapping[str, str], patterns: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if _matches(name, patterns)}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
