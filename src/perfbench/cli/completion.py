"""``perfbench completion SHELL``: what has a shell complete verbs, options, keys, and names of what there is.

The shell asks perfbench itself (argcomplete), so that one's own workloads and submissions are among the names.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

SHELLS = ("bash", "zsh", "fish")
_CHOICES_OF = {"workload": ("workload",), "submission": ("submission",), "name": ("submission", "workload")}
"""Groups whose names an argument takes, by its own name."""
_ONLY_SWEEPS = ("points=", "grid=")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("shell", choices=SHELLS, help='in bash and zsh: eval "$(perfbench completion bash)"; in fish: '
                        "perfbench completion fish | source")  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Print what the shell has to read."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["perfbench"], shell=arguments.shell))  # noqa: T201 - the verb's product
    return 0


def answer(front_door: argparse.ArgumentParser) -> None:
    """Answer a shell that asks, and end the process; return where none has asked.

    Args:
        front_door: Knows all verbs, and the arguments of the one that stands on the command line.
    """
    import argcomplete

    for action in _all_actions(front_door):
        if action.metavar is not None and "KEY=VALUE" in action.metavar:
            action.completer = complete_key  # type: ignore[attr-defined] # where argcomplete looks
        elif action.dest in _CHOICES_OF and action.type is None and action.choices is None:
            action.completer = _Names(_CHOICES_OF[action.dest])  # type: ignore[attr-defined]
    argcomplete.autocomplete(front_door, append_space=False)


def complete_key(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return what ``prefix`` can become: a key with its equals sign, or a key with one of its values."""
    key, equals, _value = prefix.partition("=")
    if equals:
        return [f"{key}={value}" for value in _values(key)]
    given: Sequence[str] = getattr(parsed_args, "overrides", None) or getattr(parsed_args, "what", None) or ()
    if prefix.startswith("hp."):
        return [f"hp.{name}=" for name in _hyperparameters(given)]
    words = ["workloads", "submissions"] if hasattr(parsed_args, "what") else []
    keys = _keys()
    return [*words, *(keys if "." in prefix else (key for key in keys if "." not in key[:-1]))]


class _Names:
    """Completes names of what there is."""

    def __init__(self, groups: Sequence[str]) -> None:
        self._groups = groups

    def __call__(self, **_: object) -> list[str]:
        from perfbench.config_files import choices

        return [name for group in self._groups for name in choices(group)]


def _all_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to its arguments
        yield action
        if isinstance(action.choices, dict):
            for one in action.choices.values():
                yield from _all_actions(one)


def _keys() -> list[str]:
    """Return every key that a run has, as it stands before its value."""
    from perfbench.config_files import groups
    from perfbench.spec.run import RunSpec

    return [
        "data=",
        "hp.",
        *_ONLY_SWEEPS,
        *(f"{group}=" for group in groups()),
        *_fields_of(RunSpec, "", set(groups())),
    ]


def _fields_of(model: Any, prefix: str, groups: set[str]) -> list[str]:  # noqa: ANN401 - a pydantic model or whatever
    names: list[str] = []
    for name, field in model.model_fields.items():
        below = [kind for kind in (field.annotation, *get_args(field.annotation)) if hasattr(kind, "model_fields")]
        names += [] if prefix or name not in groups else [f"{name}."]
        names += [key for kind in below for key in _fields_of(kind, f"{prefix}{name}.", groups)]
        names += [] if below or (not prefix and name in groups) else [f"{prefix}{name}="]
    return list(dict.fromkeys(names))


def _values(key: str) -> list[str]:
    from perfbench.config_files import choices, groups
    from perfbench.spec.environment import Isolation

    if key in groups():
        return choices(key) + (choices("suite") if key == "workload" else [])
    return [level.value for level in Isolation] if key == "isolation" else []


def _hyperparameters(given: Sequence[str]) -> list[str]:
    """Return the names of a submission's hyperparameters, of that which the command line has so far."""
    from perfbench.errors import PerfbenchError

    compose = importlib.import_module("perfbench.compose")
    chosen = [word for word in given if word.startswith("submission=")]
    try:
        space = compose.compose_run(chosen[-1:]).submission.search_space
    except PerfbenchError:
        return []
    if space is None:
        return []
    return list(space.points[0] if hasattr(space, "points") else space.dimensions)
