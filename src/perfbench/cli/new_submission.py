"""``perfbench new-submission NAME``: a folder and a YAML that keep the contract from the first minute."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from string import Template

from rich.console import Console

from perfbench.cli.from_algoperf import texts_from
from perfbench.config_files import OUTSIDE_FILE, choices, config_folder
from perfbench.errors import ConfigError, ExitCode
from perfbench.places import command, home, is_installed
from perfbench.registry import submission_names
from perfbench.results.files import write_text_atomically

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPTIMIZER = "AdamW"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("name", help="lower case, as it will stand in commands and records")
    parser.add_argument(
        "--folder",
        type=Path,
        help="write everything into FOLDER/NAME (default: submissions/ and configs/ of the checkout; "
        "where perfbench is installed, ./submissions/NAME)",
    )
    parser.add_argument(
        "--from-algoperf",
        type=Path,
        metavar="FOLDER",
        help="with the points and batch sizes of a submission of AlgoPerf's (which `run` takes as it is, too)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files, overwriting nothing, and say what to do next."""
    name: str = arguments.name
    _check_name(name)
    folder: Path | None = arguments.folder or (Path("submissions") if is_installed() else None)
    outside = None if folder is None else folder.expanduser().resolve() / name
    code = outside or home() / "submissions" / name
    facts = outside / OUTSIDE_FILE if outside else config_folder() / "submission" / f"{name}.yaml"
    for path in (code, facts):
        if path.exists():
            raise ConfigError("exists already, and nothing is overwritten", where=str(path), hint="choose another name")
    choice = str(outside) if arguments.folder else name
    texts = _texts(name, choice, arguments.from_algoperf)
    targets = {code / "submission.py": "submission.py", code / "README.md": "README.md", facts: "submission.yaml"}
    try:
        code.mkdir(parents=True)
        write_text_atomically(code / "__init__.py", f'"""Submission: {name}."""\n')
        for path, template in targets.items():
            write_text_atomically(path, texts[template])
    except OSError as problem:
        raise ConfigError(f"cannot be written: {problem.strerror}", where=str(problem.filename)) from None
    _report(Console(soft_wrap=True), [*targets], choice)
    return int(ExitCode.DONE)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a submission's name",
            where="NAME",
            hint="lower-case letters, digits and underscores, beginning with a letter",
        )
    if name in submission_names() or name in choices("submission"):
        raise ConfigError(f"there is a submission named {name!r} already", where="NAME", hint="choose another")


def _texts(name: str, choice: str, theirs: Path | None) -> dict[str, str]:
    """Return what is written, by the names of the templates."""
    to_run = _commands(choice)[0]
    templates = Path(__file__).parent / "templates"
    if theirs is not None:
        return texts_from(theirs, name=name, command=to_run, templates=templates / "from_algoperf")
    values = {"name": name, "optimizer": _OPTIMIZER, "command": to_run}
    return {
        file: Template((templates / "new_submission" / f"{file}.txt").read_text(encoding="utf-8")).substitute(values)
        for file in ("submission.py", "README.md", "submission.yaml")
    }


def _report(console: Console, written: list[Path], choice: str) -> None:
    for path in written:
        console.print(f"wrote {path}")
    console.print(
        f"\nnext: put your optimizer into {written[0].name}, then\n"
        + "\n".join(f"  {line}" for line in (f"{command()} check submission {choice}", *_commands(choice)))
    )


def _commands(choice: str) -> tuple[str, str, str]:
    """Return what an author does next: a trial, a sweep, a look at both."""
    if is_installed():
        return (
            f"perfbench run workload=mnist submission={choice}",
            f"perfbench sweep workload=mnist submission={choice} hp.learning_rate=1e-4..1e-2 points=4",
            "perfbench table",
        )
    return (
        f"make run WORKLOAD=mnist SUB={choice}",
        f'make sweep WORKLOAD=mnist SUB={choice} HP="learning_rate=1e-4..1e-2" POINTS=4',
        "make table",
    )
