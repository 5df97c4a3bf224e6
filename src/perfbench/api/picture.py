"""What a batch looks like, as arrays and text: a workload says what is to be seen, ``cli/pictures.py`` draws it.

Nothing here knows a drawing library, so that a workload's picture can be checked number by number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from perfbench.api.workload import Batch


class Verdict(StrEnum):
    """What a panel says about the model's prediction."""

    NONE = "none"
    RIGHT = "right"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePanel:
    """An image: grey values ``[h, w]`` or colours ``uint8 [h, w, 3]``."""

    title: str
    pixels: NDArray[Any]
    limits: tuple[float, float] | None = None
    """Grey values drawn as black and white; the image's own extremes if ``None``."""
    verdict: Verdict = Verdict.NONE


@dataclass(frozen=True, kw_only=True, slots=True)
class HeatPanel:
    """Values ``[rows, columns]`` over a horizontal axis from 0 to ``width``; row 0 is lowest."""

    title: str
    values: NDArray[np.float32]
    width: float
    x_label: str
    y_label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphPanel:
    """A graph: ``places [n, 2]``, ``edges [m, 2]`` (node numbers), a label per node (empty is a plain dot)."""

    title: str
    places: NDArray[np.float32]
    edges: NDArray[np.int64]
    labels: tuple[str, ...]
    widths: NDArray[np.float32]
    """Of the edges' lines, ``[m]``: 1 is a plain line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TablePanel:
    """Text in columns; long cells are wrapped to their column's share of the width."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    shares: tuple[float, ...]
    """Of the width, by column; their sum is 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPanel:
    """Running text in pieces, each on a shade that its value chooses; wrapped where a line is full."""

    title: str
    pieces: tuple[str, ...]
    values: NDArray[np.float32]
    """Of the pieces, ``[n]``."""
    limits: tuple[float, float]
    """Values drawn without a shade and with the deepest one."""


Panel = ImagePanel | HeatPanel | GraphPanel | TablePanel | TextPanel


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Panels in a grid, row by row."""

    caption: str
    """What all of it shows: sizes, padding share, a score of the batch."""
    panels: tuple[Panel, ...]
    num_columns: int


def padding_share(num_used: int, num_slots: int) -> str:
    """Return how much of a batch is padding, as text.

    >>> padding_share(90, 120)
    '25.0 % padding'
    """
    return f"{1 - num_used / num_slots:.1%} padding".replace("%", " %")


def spread_examples(batch: Batch, is_real: Tensor, *, count: int) -> Batch:
    """Return up to ``count`` examples, evenly spread over those of a batch that are no padding.

    Stored splits are often sorted (by class, volume or length): the first examples would all look alike.

    Args:
        batch: Tensors whose first dimension is the example.
        is_real: ``[examples]``, 0 or false where padded.
        count: At most.
    """
    real = is_real.nonzero().flatten()
    places = np.unique(np.linspace(0, len(real) - 1, min(count, len(real))).round().astype(np.int64))
    chosen = real[places.tolist()]
    return {name: tensor[chosen] for name, tensor in batch.items()}


def problems_of(picture: Picture) -> list[str]:
    """Return what is wrong with a picture; empty for one that can be drawn."""
    found = [] if picture.caption else ["no caption"]
    if not picture.panels or picture.num_columns < 1:
        found.append("no panels")
    for number, panel in enumerate(picture.panels):
        found += [f"panel {number}: {problem}" for problem in _panel_problems(panel)]
    return found


def _panel_problems(panel: Panel) -> list[str]:
    match panel:
        case ImagePanel(pixels=pixels):
            is_colour = pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)
            return _array_problems(pixels, "pixels") + ([] if pixels.ndim == 2 or is_colour else [_shape(pixels)])  # noqa: PLR2004
        case HeatPanel(values=values):
            return _array_problems(values, "values") + ([] if values.ndim == 2 else [_shape(values)])  # noqa: PLR2004
        case GraphPanel(places=places, edges=edges):
            is_inside = not edges.size or (edges.min() >= 0 and edges.max() < len(places))
            counts = (len(panel.labels), len(panel.widths)) == (len(places), len(edges))
            found = [] if is_inside else ["an edge ends at no node"]
            return _array_problems(places, "places") + found + ([] if counts else ["a node or edge is undescribed"])
        case TablePanel(rows=rows):
            is_even = _all_as_long(rows, panel.columns) and len(panel.shares) == len(panel.columns)
            return ([] if rows else ["no rows"]) + ([] if is_even else ["rows and columns differ"])
        case TextPanel(pieces=pieces, values=values):
            return _array_problems(values, "values") + ([] if len(pieces) == len(values) else ["a piece has no value"])


def _all_as_long(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> bool:
    return all(len(row) == len(columns) for row in rows)


def _array_problems(array: NDArray[Any], name: str) -> list[str]:
    if not array.size:
        return [f"no {name}"]
    return [] if np.isfinite(array).all() else [f"{name} that are not finite"]


def _shape(array: NDArray[Any]) -> str:
    return f"a shape of {array.shape}"
