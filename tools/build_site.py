"""Build the documentation site, offline: stage the documents where they are in the repository, add generated pages.

Links lead from document to document as they do in the repository, so that both are right; the build is refused
if one leads nowhere. The site is in ``build/site/html``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tools.site_pages import (
    api_pages,
    command_page,
    configuration_page,
    overview_pages,
    submission_page,
    workload_page,
)

ROOT = Path(__file__).resolve().parents[1]
_FRONT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "LICENSE", "pyproject.toml")
_LINKED = (".md", ".png", ".svg", ".ipynb")


def stage(target: Path) -> None:
    """Write everything that the site is made of into an empty folder."""
    for name in _FRONT:
        _copy(ROOT / name, target / name)
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.suffix in _LINKED:
            _copy(path, target / path.relative_to(ROOT))
    for path in sorted((ROOT / "submissions").glob("*/README.md")):
        text = submission_page(path.parent.name, path.read_text(encoding="utf-8"))
        _write(target / path.relative_to(ROOT), text)
        for code in path.parent.glob("*.py"):
            _copy(code, target / code.relative_to(ROOT))
    for path in sorted((ROOT / "src" / "perfbench" / "workloads").glob("*/README.md")):
        text = workload_page(path.parent.name, path.read_text(encoding="utf-8"))
        _write(target / path.relative_to(ROOT), text)
    generated = {"commands.md": command_page(), "configuration.md": configuration_page()}
    for name, text in {**generated, **api_pages(), **overview_pages()}.items():
        _write(target / "reference" / name, text)


def write_settings(folder: Path) -> Path:
    """Write the settings beside the staged documents, with the places of this build; return the file."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    settings |= {"docs_dir": "documents", "site_dir": "html"}
    for plugin in settings["plugins"]:
        if isinstance(plugin, dict):
            plugin["mkdocstrings"]["handlers"]["python"]["paths"] = [str(ROOT / "src")]
    _write(folder / "mkdocs.yml", yaml.safe_dump(settings, sort_keys=False))
    return folder / "mkdocs.yml"


def build(folder: Path) -> int:
    """Have the site built, every warning an error; return the exit code."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    settings = write_settings(folder)
    return subprocess.run([*command, "--config-file", str(settings)], cwd=folder, check=False).returncode


def main() -> int:
    """Stage and build."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="default: build/site")
    folder: Path = parser.parse_args().out.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    stage(folder / "documents")
    exit_code = build(folder)
    if exit_code == 0:
        print(f"{folder / 'html' / 'index.html'}; python -m http.server -d {folder / 'html'} shows it, with its search")
    return exit_code


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _write(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
