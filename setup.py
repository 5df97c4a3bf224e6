"""Building: an installed copy carries what stands beside ``src/`` in a checkout. All else is in pyproject.toml.

``configs/``, ``submissions/`` and ``slurm/sites/`` become ``perfbench/_bundled/`` (``perfbench.places`` knows), with a
file COMMIT that says which commit they are of. An editable installation uses the folders where they are.
"""

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
CARRIED = ("configs", "submissions", "slurm/sites")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


def commit_text() -> str:
    """Return the commit and whether files differ from it, as snapshots say it; empty where nobody knows."""
    noted = ROOT / "COMMIT"  # a source distribution has it
    if noted.exists():
        return noted.read_text()
    if not (ROOT / ".git").exists():
        return ""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit} {'changed' if changes else 'clean'}\n"


class BuildWithFolders(build_py):
    """Copies the folders into the package."""

    def run(self) -> None:
        """Build the modules, then add the folders; an editable installation needs none."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "perfbench" / "_bundled"
        shutil.rmtree(target, ignore_errors=True)  # what an earlier build left
        for name in CARRIED:
            shutil.copytree(ROOT / name, target / name, ignore=LEFT_OUT)
        (target / "COMMIT").write_text(commit_text())


class SourcesWithCommit(sdist):
    """Notes the commit: a source distribution has no history."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Write the tree, and the commit into it."""
        super().make_release_tree(base_dir, files)
        (Path(base_dir) / "COMMIT").write_text(commit_text())


setup(cmdclass={"build_py": BuildWithFolders, "sdist": SourcesWithCommit})
