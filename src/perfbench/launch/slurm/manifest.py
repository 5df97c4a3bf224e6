"""What an array is, on disk: written before it is submitted, read by its elements and by whoever reads the queue.

Everything that sweeps leave besides trials is in ``<runs_root>/.slurm/``: ``arrays/<id>/`` (manifest, job script, logs)
and ``snapshots/<digest>/`` (the code that the jobs run). A job's name ends with its array's id, so the queue leads to
the manifest, and the manifest to the trial folders; there is no other book that could disagree.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from perfbench.errors import LaunchError, ResultsError
from perfbench.results.files import MOST_FACT_BYTES, read_regular_file, write_text_atomically
from perfbench.results.locks import held
from perfbench.spec.base import Spec
from perfbench.spec.run import NoTracking, SlurmCluster, TrackingSpec

_FILE_NAME = "manifest.json"
_CANCELLED_NAME = "cancelled"
_PATIENCE_S = 300.0


class ArrayManifest(Spec):
    """One submitted array. Stored as ``manifest.json``."""

    schema_version: Literal[1] = 1
    array_id: str
    title: str
    cluster: SlurmCluster
    tracking: TrackingSpec = NoTracking()
    runs_root: str
    snapshot: str
    """Folder of the code that its jobs run."""
    submission_folder: str | None
    """Where the snapshot has a submission from outside the repository."""
    trial_folders: tuple[str, ...]
    """By element, relative to ``runs_root``."""
    time_limit_min: int
    num_put_back: int = 0
    """How often the scoring job has put these trials back, which Slurm had lost."""

    @property
    def job_name(self) -> str:
        """Return the name that the queue shows."""
        return f"{self.title}.{self.array_id}"

    @property
    def folder(self) -> Path:
        """Return where the array's own files are."""
        return array_folder(Path(self.runs_root), self.array_id)

    @property
    def path(self) -> Path:
        """Return the manifest's own path."""
        return self.folder / _FILE_NAME

    def trial_path(self, index: int) -> Path:
        """Return the trial folder of an element."""
        return Path(self.runs_root) / self.trial_folders[index]

    def write(self) -> None:
        """Write the manifest to its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.path, self.to_json())

    def note_cancelled(self) -> None:
        """Note that a person has cancelled the array, so that nothing puts its trials back."""
        (self.folder / _CANCELLED_NAME).touch()

    def was_cancelled(self) -> bool:
        """Tell whether a person has cancelled the array by ``perfbench cancel``."""
        return (self.folder / _CANCELLED_NAME).exists()

    @classmethod
    def read(cls, path: Path) -> ArrayManifest:
        """Read a manifest.

        Raises:
            ResultsError: If it is damaged, or cannot be read.
        """
        try:
            text = read_regular_file(path, max_bytes=MOST_FACT_BYTES)
        except OSError as problem:
            raise ResultsError.of_file(problem, what="the record cannot be read", where=str(path)) from None
        return cls.from_json(text, where=str(path), error=ResultsError)


def books_folder(runs_root: Path) -> Path:
    """Return where everything about jobs is; hidden, so that nothing takes it for results."""
    return runs_root / ".slurm"


def array_folder(runs_root: Path, array_id: str) -> Path:
    """Return an array's folder."""
    return books_folder(runs_root) / "arrays" / array_id


@contextmanager
def submitting(runs_root: Path) -> Iterator[None]:
    """Be the only process that submits from a run folder while the block runs: from looking at the queue to the end.

    Two that looked at the same queue would both submit what it does not hold.

    Raises:
        LaunchError: If another process submits for too long, or the run folder cannot be written.
    """
    books = books_folder(runs_root)
    try:
        books.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise LaunchError.of_file(
            problem,
            what="the run folder cannot be written",
            where=str(books),
            hint="the run folder must be on a disk that all nodes share; choose another with runs_root=...",
        ) from None
    busy = f"another process has been submitting from this run folder for {_PATIENCE_S:.0f} s"
    with held(books / "submitting.lock", busy=busy, hint="wait for it", patience_s=_PATIENCE_S):
        yield


def new_array_id() -> str:
    """Return a name that no other array has."""
    return secrets.token_hex(5)


def manifest_of_job(runs_root: Path, job_name: str) -> ArrayManifest | None:
    """Return the manifest that a job's name leads to; ``None`` for any other job."""
    path = array_folder(runs_root, job_name.rpartition(".")[2]) / _FILE_NAME
    return ArrayManifest.read(path) if path.exists() else None


def manifests(runs_root: Path) -> Iterator[ArrayManifest]:
    """Yield the manifests of all arrays ever submitted for a run folder, oldest first."""
    paths = (books_folder(runs_root) / "arrays").glob(f"*/{_FILE_NAME}")
    for path in sorted(paths, key=lambda found: found.stat().st_mtime_ns):
        yield ArrayManifest.read(path)
