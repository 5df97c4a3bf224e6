"""Where things lie: the one place that knows.

Code of the package is imported from wherever it is. All that stands beside it in a checkout (``configs/``,
``submissions/``, ``slurm/``) an installed copy carries in itself, and a snapshot for jobs has beside ``src/`` again:
:func:`home`. What a person has of their own comes on top: :func:`own_folders`.
"""

from __future__ import annotations

import os
from pathlib import Path

from perfbench.errors import ConfigError

VARIABLE = "PERFBENCH_PATH"
CARRIED = "_bundled"
"""Folder of an installed package that holds what stands beside ``src/`` in a checkout."""
COMMIT = "COMMIT"
"""File that says which commit a copy of the code was made of."""
_GROUP_OF_OURS = "*/*.yaml"
_CODE_OF_OURS = "*/submission.py"


def package_folder() -> Path:
    """Return the folder of this package's modules."""
    return Path(__file__).resolve().parent


def code_folder() -> Path:
    """Return where Python imports this package from: ``src/``, or the installed packages."""
    return package_folder().parent


def is_installed() -> bool:
    """Tell whether this is an installed copy: no checkout, no snapshot."""
    return (package_folder() / CARRIED).is_dir()


def home() -> Path:
    """Return the folder with ``configs/``, ``submissions/`` and ``slurm/`` that belong to this code.

    Raises:
        ConfigError: If there is none: somebody has copied the modules alone.
    """
    folder = package_folder() / CARRIED if is_installed() else package_folder().parents[1]
    if not (folder / "configs").is_dir():
        raise ConfigError(
            "this copy of perfbench has no configs/",
            where=str(folder),
            hint="install it with pip, or use a checkout of the repository",
        )
    return folder


def command() -> str:
    """Return what a person types here to start perfbench."""
    return "perfbench" if is_installed() else ".venv/bin/perfbench"


def own_folders() -> tuple[Path, ...]:
    """Return folders of a person's own, the first before all others and before :func:`home`.

    They have ``configs/`` or ``submissions/``, and may have ``slurm/sites/``: those that ``PERFBENCH_PATH`` names, and
    the working folder if it is such a folder.

    Raises:
        ConfigError: If ``PERFBENCH_PATH`` names what is no such folder.
    """
    named = [Path(text).expanduser() for text in os.environ.get(VARIABLE, "").split(os.pathsep) if text]
    for folder in named:
        if not _has_ours(folder):
            raise ConfigError(
                f"{folder} has neither configs/<group>/<name>.yaml nor submissions/<name>/submission.py",
                where=VARIABLE,
                hint=f"name folders that have, separated by {os.pathsep!r}, or unset it",
            )
    found = [folder.resolve() for folder in (*named, *_working_folder()) if _has_ours(folder)]
    return tuple(folder for folder in dict.fromkeys(found) if folder != home())


def own_submission(name: str) -> Path | None:
    """Return the folder of a submission among the person's own, or ``None``."""
    folders = (folder / "submissions" / name for folder in own_folders())
    return next((folder for folder in folders if (folder / "submission.py").is_file()), None)


def own_submissions() -> list[str]:
    """Return the names of the person's own submissions, sorted."""
    found = (path.parent.name for folder in own_folders() for path in (folder / "submissions").glob(_CODE_OF_OURS))
    return sorted(set(found))


def own_site_scripts() -> dict[str, Path]:
    """Return the person's own set-up scripts for clusters (``slurm/sites/NAME.sh``), by name."""
    found = [path for folder in reversed(own_folders()) for path in sorted((folder / "slurm" / "sites").glob("*.sh"))]
    return {path.stem: path for path in found}


def _working_folder() -> list[Path]:
    try:
        return [Path.cwd()]
    except FileNotFoundError:  # somebody has removed it
        return []


def _has_ours(folder: Path) -> bool:
    """Tell whether a folder has one of our groups or a submission: other projects have a ``configs/`` too."""
    groups = {path.name for path in (home() / "configs").iterdir() if path.is_dir()}
    configs = (path.parent.name for path in (folder / "configs").glob(_GROUP_OF_OURS))
    return any(name in groups for name in configs) or any((folder / "submissions").glob(_CODE_OF_OURS))
