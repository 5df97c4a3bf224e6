"""Points that somebody tries by hand: lists, ranges, and products of both."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from perfbench.errors import ConfigError
from perfbench.spec.submission import HyperparameterPoint, Range, RangeSpace, Scaling, SearchSpace
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point

Values = Sequence[JsonValue] | Range
"""What a hyperparameter takes: each of some values, or anything in a range."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?:(log|linear)\()?({_NUMBER})\.\.({_NUMBER})(\))?")
_DIGITS = 6
"""Of a drawn value: as many as a person writes down and a folder's name can carry."""


def parse_range(name: str, text: str, space: SearchSpace | None) -> Range | None:
    """Return the range that a text names; ``None`` if it is none.

    ``1e-4..1e-2`` is filled as the submission's search space fills that hyperparameter, else by logarithm where both
    ends are positive; ``log(1e-4..1e-2)`` and ``linear(0.1..0.9)`` say it.

    Raises:
        ConfigError: If the range is none that can be filled.
    """
    if ".." not in text:
        return None
    where, hint = f"hp.{name}", f"for example hp.{name}=1e-4..1e-2, log(1e-4..1e-2) or linear(0.1..0.9)"
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None or bool(match[1]) != bool(match[4]):
        raise ConfigError(f"not a range of two numbers: {text}", where=where, hint=hint)
    low, high = float(match[2]), float(match[3])
    known = space.dimensions.get(name) if isinstance(space, RangeSpace) else None
    if match[1]:
        scaling = Scaling(match[1])
    elif isinstance(known, Range):
        scaling = known.scaling
    else:
        scaling = Scaling.LOG if low > 0 else Scaling.LINEAR
    if not low < high or not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"the first number must be below the second: {text}", where=where, hint=hint)
    if scaling is Scaling.LOG and low <= 0:
        raise ConfigError(
            f"a range filled by logarithm needs positive ends: {text}",
            where=where,
            hint=f"or linear({low:g}..{high:g})",
        )
    return Range(min=low, max=high, scaling=scaling)


def expand(
    axes: Mapping[str, Values], *, num_points: int | None = None, grid: int | None = None
) -> list[HyperparameterPoint]:
    """Return every combination of listed values with the points drawn from all ranges together.

    Args:
        axes: By hyperparameter.
        num_points: Of the ranges, drawn quasi-randomly as the rules draw points.
        grid: Instead: so many evenly spaced values of each range, its ends included, in all combinations.

    Raises:
        ConfigError: If there are ranges and no number of points, or the reverse.
    """
    ranges = {name: values for name, values in axes.items() if isinstance(values, Range)}
    lists = {name: values for name, values in axes.items() if not isinstance(values, Range)}
    _check_numbers(ranges, num_points, grid)
    drawn: list[HyperparameterPoint] = [{}]
    if ranges and grid is not None:
        columns = [[rounded(value, one) for value in _evenly(one, grid)] for one in ranges.values()]
        drawn = [dict(zip(ranges, values, strict=True)) for values in itertools.product(*columns)]
    elif ranges and num_points is not None:
        space = RangeSpace(dimensions=dict(ranges))
        cube = halton.points(len(ranges), num_points=num_points)
        drawn = [
            {name: rounded(value, ranges[name]) for name, value in map_point(space, point).items()} for point in cube
        ]
    listed = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
    return [{**values, **point} for values in listed for point in drawn]


def _check_numbers(ranges: Mapping[str, Range], num_points: int | None, grid: int | None) -> None:
    for name, number in (("points", num_points), ("grid", grid)):
        if number is not None and not ranges:
            raise ConfigError(f"{name}={number}, but there is no range", where=name, hint="hp.learning_rate=1e-4..1e-2")
        if number is not None and number < 1:
            raise ConfigError(f"must be at least 1, got {number}", where=name)
    if num_points is not None and grid is not None:
        raise ConfigError("points= and grid= exclude each other", where="points")
    if ranges and num_points is None and grid is None:
        raise ConfigError(
            "a range needs a number of points",
            where=f"hp.{next(iter(ranges))}",
            hint="points=8 draws eight quasi-randomly; grid=5 takes five evenly spaced values of each range",
        )


def _evenly(one: Range, number: int) -> list[float]:
    """Return values from end to end; a single one is the middle."""
    shares = [0.5] if number == 1 else [index / (number - 1) for index in range(number)]
    if one.scaling is Scaling.LOG:
        return [one.min * (one.max / one.min) ** share for share in shares]
    return [one.min + share * (one.max - one.min) for share in shares]


def rounded(value: JsonValue, one: Range) -> float:
    """Return a drawn value with few digits, still inside its range."""
    assert isinstance(value, int | float)
    return min(one.max, max(one.min, float(f"{value:.{_DIGITS}g}")))
