"""Pages of the site that nobody writes: from typed specs, parsers, and the YAML of workloads and submissions."""

from __future__ import annotations

import argparse
import functools
import importlib
import pkgutil
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

import perfbench
from perfbench.cli.main import VERBS, parser_of
from perfbench.compose import compose_sweep
from perfbench.config_files import choices, config_file, config_folder, groups
from perfbench.registry import submission_names, workload_families
from perfbench.spec.run import RunSpec
from perfbench.spec.workload import ScaleName, WorkloadSpec

_API = ("perfbench.api", "perfbench.api.optim")


def command_page() -> str:
    """Return the reference of all verbs, from their parsers."""
    parts = ["# Commands", "`perfbench VERB --help` says the same. Flags and keys may stand in any order."]
    for verb, text in VERBS.items():
        parser = parser_of(verb)
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        parts += [f"## perfbench {verb}", f"{text[0].upper()}{text[1:]}.", f"```text\n{usage}\n```"]
        rows = [_argument_row(action) for action in _arguments(parser)]
        if rows:
            parts.append("\n".join(["| argument | what |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def configuration_page() -> str:
    """Return the reference of every key of a run, from the typed specs."""
    parts = [
        "# Configuration",
        "Every key of a run, as it stands before its equals sign: `perfbench run workload=criteo seed=1`. Unknown keys "
        "and wrong types are refused before anything starts, all together. `perfbench show KEY=VALUE ...` prints what "
        "comes out; the files are in `configs/`, and [your own come on top](../docs/how-to/install.md).",
        "## What is chosen by name",
        "\n".join(
            ["| key | choices |", "| --- | --- |"]
            + [f"| `{group}` | {', '.join(f'`{name}`' for name in choices(group))} |" for group in groups()]
        ),
    ]
    plain = [(name, field) for name, field in RunSpec.model_fields.items() if name not in groups()]
    parts += ["## Of the run itself", _field_table("", plain)]
    for group in groups():
        for kind in _models(RunSpec.model_fields[group].annotation):
            parts += [f"## {group}: {kind.__name__}", _first_paragraph(kind), _field_table(f"{group}.", _flat(kind))]
    return "\n\n".join(parts) + "\n"


def api_pages() -> dict[str, str]:
    """Return the reference of what can be imported, by file name; mkdocstrings fills it in from the docstrings."""
    names = [name for name in perfbench.__all__ if not name.startswith("__")]
    objects = (getattr(perfbench, name) for name in names)
    paths = sorted(f"{found.__module__}.{found.__name__}" for found in objects)
    front = "# perfbench\n\n`import perfbench` has these; [the page on Python](../docs/how-to/python.md) shows them.\n"
    pages = {"perfbench.md": front + "".join(f"\n::: {path}\n" for path in paths)}
    for package in _API:
        module = importlib.import_module(package)
        inside = [f"{package}.{one.name}" for one in pkgutil.iter_modules(module.__path__) if not one.ispkg]
        text = f"# {package}\n\n{module.__doc__}\n" + "".join(f"\n::: {path}\n" for path in inside)
        pages[f"{package}.md"] = text
    return pages


def submission_page(name: str, readme: str) -> str:
    """Return a submission's README with its YAML below it."""
    file = config_file("submission", name)
    return f"{readme.rstrip()}\n\n## Its YAML\n\n`configs/submission/{file.name}`:\n\n{_yaml(file)}"


def workload_page(family: str, readme: str) -> str:
    """Return a family's README with a table of its workloads at both scales, and its YAML."""
    rows = ["| workload | scale | data | target | budget (s) | steps |", "| --- | --- | --- | --- | ---: | ---: |"]
    for spec in _workloads():
        if spec.family == family:
            targets = ", ".join(f"{kind.value} {one.metric} {one.threshold:g}" for kind, one in spec.targets.items())
            budget = f"{spec.max_submission_time_s:,.0f} | {spec.step_hint:,}"
            rows.append(f"| `{spec.name}` | {spec.scale.value} | `{spec.dataset}` | {targets} | {budget} |")
    table = "\n".join(rows)
    file = config_file("workload", family)
    return f"{readme.rstrip()}\n\n## Workloads\n\n{table}\n\n`configs/workload/{file.name}`:\n\n{_yaml(file)}"


@functools.cache
def _workloads() -> list[WorkloadSpec]:
    """Return all workloads at both scales, each beside itself; composed in one pass a scale."""
    asked = [f"workload={','.join(choices('workload'))}"]
    specs = [run.workload for scale in ScaleName for run in compose_sweep([*asked, f"scale={scale.value}"])]
    return sorted(specs, key=lambda spec: spec.name)


def overview_pages() -> dict[str, str]:
    """Return the lists of all workloads and submissions, by file name."""
    families = "\n".join(
        f"| [{name}](../src/perfbench/workloads/{name}/README.md) | {_described(config_file('workload', name))} |"
        for name in workload_families()
    )
    submissions = "\n".join(
        f"| [{name}](../submissions/{name}/README.md) | {_described(config_file('submission', name))} |"
        for name in submission_names()
    )
    return {
        "workloads.md": f"# Workloads\n\n| family | what it is |\n| --- | --- |\n{families}\n",
        "submissions.md": f"# Submissions\n\n| name | what it is |\n| --- | --- |\n{submissions}\n",
    }


def _described(file: Path) -> str:
    import yaml

    return str(yaml.safe_load(file.read_text(encoding="utf-8"))["description"])


def _yaml(file: Path) -> str:
    assert file.is_relative_to(config_folder()), "the site is made from this repository alone"
    return f"```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```\n"


def _arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    yield from (action for action in parser._actions if action.dest != "help")  # noqa: SLF001 - no other way


def _argument_row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    value = "" if not action.option_strings or action.nargs == 0 else f" `{action.metavar or action.dest.upper()}`"
    known = "" if action.choices is None else f"one of {', '.join(f'`{one}`' for one in action.choices)}; "
    return f"| {names}{value} | {_cell(known + (action.help or ''))} |"


def _flat(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every field of a spec and of the specs in it, by its dotted path."""
    for name, field in model.model_fields.items():
        below = _models(field.annotation)
        if below and not _is_mapping(field.annotation):
            for kind in below:
                yield from _flat(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _field_table(prefix: str, fields: Any) -> str:  # noqa: ANN401 - pairs of a name and pydantic's description of it
    rows = {
        name: f"| `{prefix}{name}` | {_cell(_type_name(field.annotation))} | {_cell(field.description or '')} |"
        for name, field in fields
    }
    return "\n".join(["| key | type | what |", "| --- | --- | --- |", *rows.values()])


def _models(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in get_args(annotation) for model in _models(one)]


def _is_mapping(annotation: Any) -> bool:  # noqa: ANN401 - any annotation
    return get_origin(annotation) in (dict, tuple, list)


def _type_name(annotation: Any) -> str:  # noqa: ANN401 - any annotation
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(one) for one in inside)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{one.value}`" for one in annotation)
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inside)
    if origin is not None and inside:
        name = {"dict": "mapping", "tuple": "list"}.get(getattr(origin, "__name__", ""), "")
        return (
            f"{name} of {_type_name(inside[-1] if inside[-1] is not Ellipsis else inside[0])}"
            if name
            else _type_name(inside[0])
        )
    if annotation is type(None):
        return "`null`"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "`true` or `false`"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", "value")
    )


def _first_paragraph(kind: type[BaseModel]) -> str:
    return (kind.__doc__ or "").strip().split("\n\n")[0].replace("``", "`")


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").replace("%%", "%").split())
