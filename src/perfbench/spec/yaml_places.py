"""Where a field stands in a YAML file, so that an error about it can say the line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from perfbench.errors import ConfigError

_FIELD = re.compile(r"(?:^|(?<=\n  - ))(?:submission|workload)(?:\.[\w/]+)+")
"""At the beginning of an error, or of a line of one that lists several."""


def line_of(text: str, path: Sequence[str]) -> int | None:
    r"""Return the line (from 1) of the field at a path, or of the nearest field above it that is there.

    ``None`` where not even the path's first field is there.

    >>> line_of("a: 1\nb:\n  c: {d: 2}\n", ["b", "c", "d"]), line_of("a: 1\n", ["b"])
    (3, None)
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line: int | None = None
    for name in path:
        if isinstance(node, yaml.MappingNode):
            pairs = {str(key.value): (key, value) for key, value in node.value}
            if name not in pairs:
                break
            key, node = pairs[name]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and name.isdecimal() and int(name) < len(node.value):
            node = node.value[int(name)]
            line = node.start_mark.line + 1
        else:
            break
    return line


def deepest_line(text: str, paths: Iterable[Sequence[str]]) -> int | None:
    """Return the line of the first path whose last field is there, else of what is nearest to the last one."""
    found: int | None = None
    for path in paths:
        whole, above = line_of(text, path), line_of(text, path[:-1])
        if whole is not None and whole != above:
            return whole
        found = whole or found
    return found


def describe(problem: yaml.YAMLError) -> tuple[str, str]:
    """Return what is wrong with a file that cannot be read, and at which line of which file."""
    mark = getattr(problem, "problem_mark", None)
    what = getattr(problem, "problem", None) or str(problem).splitlines()[0]
    return f"no valid YAML: {what}", "" if mark is None else f"{mark.name}:{mark.line + 1}"


def with_places(text: str, place: Callable[[str], str]) -> str:
    """Return an error's text with something added after each field that it is about.

    >>> with_places("submission.version", lambda field: f" (line of {field})")
    'submission.version (line of submission.version)'
    """
    return _FIELD.sub(lambda match: match[0] + place(match[0]), text)


def with_lines(
    problem: ConfigError,
    composed: Mapping[str, Any],
    *,
    given: Sequence[str],
    root: Path,
    file_of: Callable[[str, Mapping[str, Any]], Path],
) -> ConfigError:
    """Return an error whose fields are followed by file and line, where they stand in the YAML that was chosen.

    Args:
        problem: About the composed configuration.
        composed: Plain data, not yet read.
        given: Keys that the command line sets: those stand in no file.
        root: Files below it are shown relative to it.
        file_of: Gives the file of what was chosen in a group.
    """

    def place(field: str) -> str:
        group, *path = field.split(".")
        file = file_of(group, composed[group])
        if any("." in key and field.startswith(key) for key in given) or not file.is_file():
            return ""
        at_scale = ["scales", str(composed["scale"]["name"]), *path]
        line = deepest_line(file.read_text(encoding="utf-8"), [at_scale, path] if group == "workload" else [path])
        shown = file.relative_to(root) if file.is_relative_to(root) else file
        return "" if line is None else f" ({shown}:{line})"

    return ConfigError(with_places(problem.what, place), where=with_places(problem.where, place), hint=problem.hint)
