"""The room that a trainer works in: its environment and folders, and in a sandbox all that it can reach at all.

A confined trainer is given code and training data to read, its states and a scratch folder to write. Everything else is
out of its reach: evaluation and test data, records, other trials, home, temporary folders, the network where a rank is
alone, and other processes.
"""

from __future__ import annotations

import getpass
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from perfbench.data.packages import MODULES_WITH_DATA
from perfbench.data.preparation import MANIFEST_NAME, Manifest, data_folder
from perfbench.engine.wire.messages import Place, Sandbox
from perfbench.launch.leftovers import remove_shared_memory
from perfbench.places import code_folder
from perfbench.registry import held_out_patterns, repository_root, submission_folder
from perfbench.results.files import remove
from perfbench.results.folders import digests_of_files
from perfbench.results.store import TrialFolder
from perfbench.spec.environment import Isolation
from perfbench.spec.run import TrialSpec

_SYSTEM: tuple[str, ...] = ("/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc", "/opt", "/proc", "/sys", "/usr/bin")
_SYSTEM += ("/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/sbin", "/usr/share/zoneinfo")
_SYSTEM += ("/usr/local/bin", "/usr/local/cuda", "/usr/local/include", "/usr/local/lib", "/usr/local/nvidia")
"""Not the rest of /usr/share: packages with data sets put them there."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "nvidia*", "dri", "kfd", "infiniband")
"""Patterns of names in /dev: no disk, whose raw content a trainer of root's could read."""
_SHARED_MEMORY = "/dev/shm"
_PERSONAL = ("HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TORCH_HOME", "PYTHONPATH")


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Where one rank's trainer works."""

    environment: dict[str, str]
    folder: Path
    sandbox: Sandbox | None
    entered_s: float
    """By the system's clock: what came later may be what the trainer left."""

    @classmethod
    def of(cls, trial: TrialSpec, folder: TrialFolder, place: Place) -> Room:
        """Make the room that a trial asks for, empty."""
        entered_s = time.time_ns() / 1e9
        folder.states.mkdir(exist_ok=True)
        if trial.isolation is not Isolation.SANDBOX:
            return cls(environment=_environment(), folder=repository_root(), sandbox=None, entered_s=entered_s)
        scratch = folder.path / "scratch" / f"rank_{place.rank}"
        if scratch.exists():  # an attempt that was killed could clear nothing
            remove(scratch)
            remove_shared_memory(since_s=(folder.path / "run.json").stat().st_mtime)
        scratch.mkdir(parents=True)
        search_path = list(_search_path(trial, folder.path))
        data = data_folder(Path(trial.data_root), trial.workload)
        sandbox = _of_code([trial], search_path)
        return cls(
            environment=_confined_environment(search_path, scratch),
            folder=scratch,
            sandbox=sandbox.model_copy(
                update={
                    "readable": (*sandbox.readable, *_training_files(trial, data)),
                    "listable": (*sandbox.listable, *_folders(data)),
                    "writable": (str(folder.states), str(scratch), _SHARED_MEMORY),
                    "has_network": place.num_ranks > 1,
                }
            ),
            entered_s=entered_s,
        )

    @classmethod
    def for_reading(cls, trials: Sequence[TrialSpec], scratch: Path) -> Room:
        """Make the room in which submissions are imported before there is a trial: no data, if it is a sandbox."""
        if all(trial.isolation is not Isolation.SANDBOX for trial in trials):
            return cls(environment=dict(os.environ), folder=repository_root(), sandbox=None, entered_s=0.0)
        search_path = list(_search_path(trials[0]))
        sandbox = _of_code(trials, search_path).model_copy(update={"writable": (str(scratch),)})
        environment = _confined_environment(search_path, scratch)
        return cls(environment=environment, folder=scratch, sandbox=sandbox, entered_s=0.0)

    def clear(self) -> None:
        """Leave nothing for a later trial to find."""
        if self.sandbox is not None:
            remove(self.folder)
            remove_shared_memory(since_s=self.entered_s)


def _environment() -> dict[str, str]:
    """Return what a trainer inherits: what its rank does, less what concerns the scheduler.

    What it compiles goes into a cache of its own: the referee loads compiled code too, and none that a trainer wrote.
    """
    cache = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}_trainer"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
    # The watchdog of nccl would take a trainer that rests, stopped by its referee, for one that hangs.
    return inherited | {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TORCH_NCCL_ENABLE_MONITORING": "0"}


def _confined_environment(search_path: Sequence[Path], scratch: Path) -> dict[str, str]:
    """Return the few variables of a confined trainer, with the scratch folder for a home."""
    named = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH")
    inherited = {name: value for name, value in _environment().items() if not _is_personal(name)}
    own = {
        "PYTHONPATH": os.pathsep.join(map(str, search_path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "USER": "trainer",
        "LOGNAME": "trainer",
    }
    return inherited | own | dict.fromkeys(named, str(scratch))


def _is_personal(name: str) -> bool:
    return name in _PERSONAL or name.startswith("XDG_")


def _of_code(trials: Sequence[TrialSpec], search_path: Sequence[Path]) -> Sandbox:
    """Return a sandbox in which the code of trials can be read: of a submission's folder what goes on record."""
    code = (*_SYSTEM, sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"))
    read, listed = _without_data([*map(Path, code), *search_path])
    submissions = {trial.submission.name: trial.submission for trial in trials}.values()
    files = [file.path for submission in submissions for file in submission.files.values() if file.path is not None]
    folders = [submission_folder(submission) for submission in submissions]
    own = [folder / name for folder in folders for name in digests_of_files(folder)]
    package = repository_root() / "submissions" / "__init__.py"
    around = {path.parent for path in own} | {folder.parent for folder in folders} | {repository_root(), package.parent}
    return Sandbox(
        readable=(*read, *map(str, own), str(package), *files),
        listable=(*listed, "/dev", *map(str, around)),
        writable=(),
        devices=tuple(str(path) for name in _DEVICES for path in Path("/dev").glob(name)),
        has_network=False,
    )


def _without_data(folders: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Return paths that together are these folders less data sets and submissions in them; and folders to list only."""
    prefixes = (sys.prefix, sys.base_prefix, "/usr", "/usr/local")
    sites = {*sys.path, *(str(site) for prefix in prefixes for site in Path(prefix).glob("lib/python3*/*-packages"))}
    with_data = {Path(site, name).resolve() for site in sites for name in MODULES_WITH_DATA}
    with_data = {path for path in (*with_data, repository_root() / "submissions") if path.is_dir()}
    read: list[str] = []
    listed: list[str] = []
    waiting = [folder.resolve() for folder in folders]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop().resolve()  # a link would allow what it leads to
        if path in with_data or path in seen:
            continue
        seen.add(path)
        if path.is_dir() and any(held.is_relative_to(path) for held in with_data):
            listed.append(str(path))
            waiting += path.iterdir()
        else:
            read.append(str(path))
    return read, listed


def _search_path(trial: TrialSpec, *records: Path) -> Iterator[Path]:
    """Yield where code is imported from, but for folders that hold data, records or submissions as well."""
    kept_out = (Path(trial.data_root), *records, repository_root() / "submissions")
    yield code_folder()
    for path in map(Path, sys.path):
        if path.is_dir() and not any(out.resolve().is_relative_to(path.resolve()) for out in kept_out):
            yield path.resolve()


def _training_files(trial: TrialSpec, data: Path) -> Iterator[str]:
    """Yield the manifest and what it names, less evaluation: nothing that an interrupted preparation has left."""
    patterns = held_out_patterns(trial.workload.family)
    manifest = Manifest.read(data, prepare_command=f"perfbench data prepare {trial.workload.family}")
    yield str(data / MANIFEST_NAME)
    for name in sorted(manifest.files):
        if not any(Path(name).match(pattern) for pattern in patterns):
            yield str(data / name)


def _folders(data: Path) -> Iterator[str]:
    yield str(data)
    yield from (str(path) for path in data.rglob("*") if path.is_dir())
