"""The base of every fact: frozen, strict, closed; with canonical JSON and a digest.

Facts are read from JSON text only, so that the lossless conversions JSON needs (list to tuple, string to
enumeration) are the only ones that happen: ``"3"`` is never taken for an ``int``. Every problem of an input is
reported at once, each with its dotted path and, for an unknown field, the nearest valid name.
"""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from perfbench.errors import ConfigError, PerfbenchError, nearest_name_hint

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,99}$"
"""Of workloads, submissions and data sets: they become folders, and stand on every board."""
VERSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,39}$"
MOST_CHARACTERS = 2000
"""Of a text for people."""
_MOST_PROBLEMS = 30
"""Of one input are described: a file of something else has millions."""
_MOST_SHOWN = 200


class Spec(BaseModel):
    """A frozen fact: no unknown field, no coerced type, no change after construction."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",  # a NaN metric is a finding and must survive the round trip
    )

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "", error: type[PerfbenchError] = ConfigError) -> Self:
        """Read the fact from JSON text.

        Args:
            text: JSON document.
            where: Prefix of the dotted paths in an error, or the file's path.
            error: The error to raise.

        Raises:
            PerfbenchError: Of the class ``error``, listing every problem with its dotted path.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as problem:
            raise error(**describe_problems(cls, problem, where=where)) from None

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, where: str = "") -> Self:
        """Read the fact from plain data (what YAML and JSON hold), as strictly as from JSON text.

        Raises:
            ConfigError: Listing every problem with its dotted path.
        """
        try:
            text = json.dumps(mapping)
        except (TypeError, ValueError) as problem:
            raise ConfigError(f"not plain data: {problem}", where=where) from None
        return cls.from_json(text, where=where)

    def to_json(self, *, indent: int | None = 2) -> str:
        """Return JSON text that :meth:`from_json` reads back to an equal fact."""
        return self.model_dump_json(indent=indent)

    def digest(self, *, exclude: set[str] | None = None) -> str:
        """Return 16 hexadecimal digits that name this fact's content, whatever the order of its fields."""
        plain = self.model_dump(mode="json", exclude=exclude)
        canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def describe_problems(model: type[BaseModel], problem: ValidationError, *, where: str) -> dict[str, str]:
    """Turn pydantic's findings into the ``what``, ``where`` and ``hint`` of one error."""
    findings = problem.errors(include_url=False)
    shown = findings[:_MOST_PROBLEMS]
    lines = [_describe(model, finding, where) for finding in shown]
    hints = list(dict.fromkeys(hint for finding in shown if (hint := _hint(model, finding))))
    if len(lines) == 1:
        path, _, what = lines[0].partition(": ")
        return {"what": what, "where": path, "hint": "; ".join(hints)}
    listing = "".join(f"\n  - {line}" for line in lines) + ("\n  - ..." if len(findings) > len(shown) else "")
    return {"what": f"{len(findings)} problems:{listing}", "where": where, "hint": "; ".join(hints)}


def _dotted(location: Iterable[int | str]) -> str:
    return ".".join(str(part) for part in location)


def _describe(model: type[BaseModel], finding: ErrorDetails, where: str) -> str:
    location = _without_union_tags(model, finding["loc"])
    path = ".".join(part for part in (where, _dotted(location)) if part) or model.__name__
    if finding["type"] == "extra_forbidden":
        return f"{path}: unknown field"
    if finding["type"] == "missing":
        return f"{path}: required, but not given"
    message = finding["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{path}: {message}, got {textwrap.shorten(_shown(finding['input']), 80, placeholder='...')}"


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever stood there
    """Return the beginning of a value, however large or deep it is."""
    if isinstance(value, (str, bytes)):
        value = value[:_MOST_SHOWN]
    try:
        return json.dumps(value, default=str)[:_MOST_SHOWN]
    except (RecursionError, ValueError):
        return "..."


def _hint(model: type[BaseModel], finding: ErrorDetails) -> str:
    if finding["type"] != "extra_forbidden":
        return ""
    location = _without_union_tags(model, finding["loc"])
    fields = _fields_at(model, location[:-1])
    return nearest_name_hint(str(location[-1]), fields, kind="fields") if fields else ""


def _models_in(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 - a type annotation has no type
    """List the models that an annotation allows, looking through unions and containers."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple, list, dict):
        return [model for argument in get_args(annotation) for model in _models_in(argument)]
    return []


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """List the field names that are valid at ``location``; empty where it is no model."""
    models: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        models = [
            found
            for candidate in models
            if part in candidate.model_fields
            for found in _models_in(candidate.model_fields[part].annotation)
        ] or models
    return sorted({name for candidate in models for name in candidate.model_fields})


def _without_union_tags(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Drop the union member that pydantic adds after a field: a person knows only field names."""
    kept: list[int | str] = []
    models: list[type[BaseModel]] = [model]
    pending_union = pending_key = False
    for part in location:
        if pending_key:  # of a dictionary, or a place in a list: a person wrote it
            pending_key = False
            kept.append(part)
            continue
        if pending_union:
            pending_union = False
            continue
        known = [candidate for candidate in models if part in candidate.model_fields]
        kept.append(part)
        if known:
            annotations = [candidate.model_fields[str(part)].annotation for candidate in known]
            models = [found for annotation in annotations for found in _models_in(annotation)]
            pending_union = len(models) > 1
            pending_key = any(get_origin(annotation) in (dict, list, tuple) for annotation in annotations)
    return tuple(kept)
