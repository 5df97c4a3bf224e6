"""A folder of theirs as the facts that a submission's YAML would hold."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from perfbench.algoperf.folder import Folder, read_folder
from perfbench.algoperf.tuning import read_search_space
from perfbench.errors import ConfigError
from perfbench.results.folders import digests_of_files
from perfbench.spec.yaml_files import read_yaml_mapping

_PATIENCE_S = 300
_LONGEST_NAME = 80
_OF_A_RANK = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")

TheirNames = Mapping[str, tuple[str, str]]
"""By our name of a workload: theirs, and theirs of its family."""


def facts_of(path: Path, *, taken_names: Collection[str], workloads: TheirNames) -> dict[str, Any]:
    """Return the facts of a folder in the form of a submission's YAML.

    Args:
        path: The folder.
        taken_names: Names of submissions that this one must not have.
        workloads: Whose batch sizes are asked.

    Raises:
        ConfigError: If it holds no submission of theirs, or that cannot be asked for its batch sizes.
    """
    folder = read_folder(path)
    tuning = folder.tuning_file
    return {
        "name": _name_of(path, taken_names),
        "version": 1,
        "description": f"AlgoPerf submission in {path.name}"[:_LONGEST_NAME],
        "rulesets": ["self_tuning" if tuning is None else "external"],
        "search_space": None if tuning is None else read_search_space(tuning),
        "batch_sizes": {"full": batch_sizes_of(path, workloads)},
        "packages": ["perfbench.algoperf.adapter", *folder.imports.packages],
        "loss_settings": loss_settings_of(folder),
        "options": {"dropout": "as_run"},
        "form": "algoperf",
        "folder": str(path),
    }


def their_names(workloads: Collection[str], families: Collection[str], *, benchmarks: Path) -> TheirNames:
    """Return what AlgoPerf calls workloads and their families.

    Args:
        workloads: Our names.
        families: Our names of families, which begin their workloads' names.
        benchmarks: Folder of the benchmarks' files, which have the names that differ.
    """
    other: dict[str, str] = {}
    for file in benchmarks.glob("*.yaml"):
        other.update(read_yaml_mapping(file).get("exported_names") or {})
    names = {}
    for name in workloads:
        family = max((one for one in families if name == one or name.startswith(f"{one}_")), key=len, default=name)
        theirs = other.get(family, family)
        names[name] = (other.get(name, theirs + name.removeprefix(family)), theirs)
    return names


def batch_sizes_of(path: Path, workloads: TheirNames) -> dict[str, int]:
    """Return what ``get_batch_size`` says of workloads, asked in a process of its own; none where it raises ValueError.

    Raises:
        ConfigError: If it cannot be imported, or raises something else.
    """
    if not workloads:
        return {}
    contents = json.dumps(digests_of_files(path))
    return dict(_asked(path, contents, json.dumps(workloads)))


@cache
def _asked(path: Path, _contents: str, workloads: str) -> dict[str, int]:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_RANK}
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        command = [sys.executable, "-m", "perfbench.algoperf.batch_sizes", str(path), str(answer)]
        try:
            ended = subprocess.run(
                command,
                input=workloads,
                capture_output=True,
                text=True,
                check=False,
                env=environment,
                timeout=_PATIENCE_S,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"importing it took more than {_PATIENCE_S} s", where=str(path), hint="what does its top level do?"
            ) from None
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None
    if found is None:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigError(
            f"the process that asks for its batch sizes ended with exit code {ended.returncode}: {last}",
            where=str(path),
            hint="importing a submission must not end the process",
        )
    if "sizes" not in found:
        raise ConfigError(found["what"], where=found["where"], hint=found["hint"])
    return {str(name): int(size) for name, size in found["sizes"].items()}


def loss_settings_of(folder: Folder) -> list[dict[str, Any]]:
    """Return how its text seems to call the loss: each way is compiled before the clock starts.

    A guess costs nothing but time: what is called otherwise is compiled on the clock.
    """
    given = [keyword.value for call in folder.calls("model_fn") for keyword in call.keywords if keyword.arg == _MOVES]
    modes = {value.value if isinstance(value, ast.Constant) else None for value in given} or {True}
    numbers = {
        name: value
        for name in ("label_smoothing", "dropout_rate")
        if (value := _only_number(folder, name)) and (name != "dropout_rate" or folder.passes_dropout)
    }
    is_set_by_runner = folder.tuning_file is not None and not folder.passes_dropout
    apart = {"auxiliary_dropout": "own"} if is_set_by_runner else {}
    batch_norm = ["update"] * bool(modes & {True, None}) + ["freeze"] * bool(modes & {False, None})
    return [{"batch_norm": mode, **numbers, **apart} for mode in batch_norm]


_MOVES = "update_batch_norm"


def _only_number(folder: Folder, name: str) -> float | None:
    """Return the one positive number that a folder's text gives a name, if there is one only."""
    found = {value for _, tree in folder.used() for value in _numbers_named(tree, name)}
    return found.pop() if len(found) == 1 else None


def _numbers_named(tree: ast.Module, name: str) -> Iterator[float]:
    for node in ast.walk(tree):
        match node:
            case ast.Dict(keys=keys, values=values):
                named = [(key, value) for key, value in zip(keys, values, strict=True) if isinstance(key, ast.Constant)]
                values = [value for key, value in named if key.value == name]
            case ast.keyword(arg=str(arg), value=value) if arg == name:
                values = [value]
            case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                values = [value]
            case _:
                continue
        numbers = [value.value for value in values if isinstance(value, ast.Constant)]
        yield from (float(number) for number in numbers if isinstance(number, float | int) and 0 < number < 1)


def _name_of(path: Path, taken: Collection[str]) -> str:
    """Return the folder's name as a submission's."""
    plain = re.sub(r"[^a-z0-9]+", "_", path.name.lower()).strip("_")[:_LONGEST_NAME]
    name = plain if plain[:1].isalpha() else f"submission_{plain}"
    return f"{name}_algoperf" if name in taken else name
