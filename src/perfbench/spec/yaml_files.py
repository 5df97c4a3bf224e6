"""YAML from anybody, as plain data: bounded, without aliases that unfold to more than a file can mean to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from perfbench.errors import ConfigError

_MOST_BYTES = 1 << 20
_MOST_VALUES = 20_000
"""Counted with what aliases repeat. The largest file of ours has about 400."""
_DEEPEST = 50
# The safe loader written in C is ten times faster, where PyYAML was built with it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a file holds.

    Raises:
        ConfigError: If it cannot be read, is no YAML, is no mapping of names, or unfolds to too much.
    """
    where = str(path)
    try:
        if not path.is_file():
            raise ConfigError("not a file", where=where)
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"larger than {_MOST_BYTES >> 20} MiB", where=where, hint="is it the right file?")
        text = path.read_bytes().decode()
    except OSError as problem:
        raise ConfigError(f"cannot be read: {problem.strerror or problem}", where=where) from None
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8", where=where, hint="it must be YAML") from None
    try:
        root = yaml.compose(text, Loader=_LOADER)
        _check_size(root, where)
        plain = yaml.load(text, Loader=_LOADER)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(problem, "problem", None) or str(problem).splitlines()[0]
        raise ConfigError(f"not YAML: {what}", where=where + line, hint="it must be YAML") from None
    except (ValueError, RecursionError) as problem:  # a date that is none; brackets without end
        raise ConfigError(f"not YAML: {problem}", where=where, hint="it must be YAML") from None
    if not isinstance(plain, dict):
        raise ConfigError("holds no mapping", where=where, hint="begin with `name: ...`")
    if odd := [key for key in plain if not isinstance(key, str)]:
        raise ConfigError(f"not a name: {odd[0]!r}", where=where, hint="write names as text")
    return plain


def read_closed_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a file holds, which refers to nothing outside of itself.

    For what strangers write. ``${...}`` would be replaced by other values, or by variables of whoever reads it, which
    then stand in records that are shown to everybody.

    Raises:
        ConfigError: As :func:`read_yaml_mapping`, and naming the place of a reference.
    """
    plain = read_yaml_mapping(path)
    _refuse_references(plain, str(path), "")
    return plain


def _refuse_references(value: object, where: str, place: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_references(str(key), where, place)
            _refuse_references(inner, where, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_references(inner, where, f"{place}[{number}]")
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(
            f"{place or 'a name'} refers to something else: {value[:60]!r}",
            where=where,
            hint="write the value itself: such a file is data, and ${...} is not looked up in it",
        )


def _check_size(root: yaml.Node | None, where: str) -> None:
    """Refuse a document whose aliases unfold to too many values, or that holds itself; each node is visited once."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if id(node) in sizes:
            if sizes[id(node)] == 0:
                raise ConfigError("an alias stands inside of what it names", where=where, hint="write the values out")
            return sizes[id(node)]
        if depth > _DEEPEST:
            raise ConfigError(f"nested deeper than {_DEEPEST} levels", where=where)
        sizes[id(node)] = 0
        total = 1
        if isinstance(node, yaml.MappingNode):
            total += sum(size(part, depth + 1) for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(part, depth + 1) for part in node.value)
        if total > _MOST_VALUES:
            raise ConfigError(
                f"unfolds to more than {_MOST_VALUES:,} values",
                where=where,
                hint="write the values out, without aliases",
            )
        sizes[id(node)] = total
        return total

    if root is not None:
        size(root, 0)
