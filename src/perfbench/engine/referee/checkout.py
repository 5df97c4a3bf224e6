"""Which commit a checkout is at. Needs no torch."""

from __future__ import annotations

import subprocess
from pathlib import Path

_TIMEOUT_S = 20.0


def commit_of(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a checkout and whether no file differs from it; ``None`` outside of a checkout.

    Git refuses the checkout of another user, whose settings could start programs; but whoever asks here already runs
    that user's code, so the checkout is named as safe.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, not _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S).stdout.strip()
