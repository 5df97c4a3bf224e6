"""Which YAML files there are: those that belong to this code, and the person's own, which come on top. No Hydra."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfbench.errors import ConfigError, nearest_name_hint
from perfbench.places import own_folders, own_submission, own_submissions
from perfbench.registry import repository_root

OUTSIDE_FILE = "submission.yaml"
"""What a folder outside of the repository describes its submission in."""

_NO_GROUPS = ("benchmark", "suite")
"""Folders of ``configs/`` that a run does not choose from."""


def config_folder() -> Path:
    """Return where the YAML files are that belong to this code."""
    return repository_root() / "configs"


def config_folders() -> list[Path]:
    """Return where YAML files are, the person's own first: of two files of one name the first counts."""
    return [*(folder / "configs" for folder in own_folders() if (folder / "configs").is_dir()), config_folder()]


def config_file(group: str, name: str) -> Path:
    """Return the file of a choice: the first that there is, else where it would be."""
    files = [folder / group / f"{name}.yaml" for folder in config_folders()]
    return next((file for file in files if file.is_file()), files[-1])


def choices(group: str) -> list[str]:
    """Return the names in a configuration group, e.g. all workloads with their variants."""
    named = {path.stem for folder in config_folders() for path in (folder / group).glob("*.yaml")}
    return sorted({*named, *own_submissions()} if group == "submission" else named)


def groups() -> list[str]:
    """Return the names of the groups that a run chooses from."""
    folders = [path.name for folder in config_folders() for path in folder.iterdir() if path.is_dir()]
    return [name for name in dict.fromkeys(folders) if name not in _NO_GROUPS]


def check_choice(group: str, choice: str) -> None:
    """Check that there is such a choice.

    Raises:
        ConfigError: If not.
    """
    if group == "submission" and is_path(choice):
        return
    known = choices(group)
    if choice not in known:
        raise ConfigError(
            f"no {group} named {choice!r}", where=group, hint=nearest_name_hint(choice, known, kind=f"{group}s")
        )


def name_or_path(submission: str) -> str:
    """Return the name of a submission of this repository that is given as a path, the path of the person's own."""
    if not is_path(submission):
        own = own_submission(submission)
        return submission if own is None else str(own)
    folder = Path(submission).expanduser().resolve()
    is_inside = folder.parent == repository_root() / "submissions"
    return folder.name if is_inside and folder.name in choices("submission") else submission


def is_path(submission: str) -> bool:
    """Tell whether a submission is given as a path."""
    return "/" in submission


def file_of(group: str, chosen: Mapping[str, Any]) -> Path:
    """Return the file that describes what was chosen."""
    if group == "submission" and chosen.get("folder"):
        return outside_file(Path(str(chosen["folder"])))
    return config_file(group, str(chosen.get("name")))


def outside_file(folder: Path) -> Path:
    """Return what describes the submission in a folder: a file in it, or as in the repository one in ``configs/``."""
    beside = folder.parents[1] / "configs" / "submission" / f"{folder.name}.yaml"
    inside = folder / OUTSIDE_FILE
    return beside if not inside.exists() and own_submission(folder.name) == folder and beside.is_file() else inside
