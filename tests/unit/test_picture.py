"""Pictures of batches: which examples are chosen, what a broken picture is told, and that every kind of panel draws."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from perfbench.api.picture import (
    GraphPanel,
    HeatPanel,
    ImagePanel,
    Panel,
    Picture,
    TablePanel,
    TextPanel,
    Verdict,
    problems_of,
    spread_examples,
)
from perfbench.cli.pictures import as_png, drawn
from perfbench.data.classification import classification_picture

IMAGE = ImagePanel(title="grey", pixels=np.eye(4))
COLOUR = ImagePanel(title="colour", pixels=np.zeros((4, 4, 3), dtype=np.uint8), verdict=Verdict.WRONG)
HEAT = HeatPanel(title="heat", values=np.ones((3, 5), dtype=np.float32), width=1.5, x_label="s", y_label="bin")
GRAPH = GraphPanel(
    title="graph",
    places=np.asarray([[0, 0], [1, 0]], dtype=np.float32),
    edges=np.asarray([[0, 1]]),
    labels=("", "N"),
    widths=np.ones(1, dtype=np.float32),
)
TABLE = TablePanel(title="", columns=("a", "b"), rows=(("1 $ 2 $", "x " * 200),), shares=(0.5, 0.5))
TEXT = TextPanel(
    title="text", pieces=("one", " $ two", " three" * 40), values=np.asarray([0, 4, 9], dtype=np.float32), limits=(0, 8)
)


def picture(*panels: Panel) -> Picture:
    return Picture(caption="caption", panels=panels, num_columns=2)


@pytest.mark.parametrize("panel", [IMAGE, COLOUR, HEAT, GRAPH, TABLE, TEXT])
def test_every_kind_of_panel_becomes_a_png(panel: Panel) -> None:
    assert problems_of(picture(panel)) == []

    image = Image.open(io.BytesIO(as_png(drawn(picture(panel, panel, panel), heading="heading"))))

    assert image.format == "PNG"
    assert len(np.unique(np.asarray(image.convert("L")))) > 10, "nothing is drawn"


def test_a_large_picture_is_reduced() -> None:
    noise = np.random.default_rng(0).random((80, 400)).astype(np.float32)
    panels = [HeatPanel(title="", values=noise, width=1, x_label="", y_label="")] * 6

    content = as_png(drawn(picture(*panels), heading="heading"))

    assert len(Image.open(io.BytesIO(content)).convert("RGB").getcolors(1 << 24) or []) <= 48


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (picture(), "no panels"),
        (Picture(caption="", panels=(IMAGE,), num_columns=1), "no caption"),
        (picture(ImagePanel(title="", pixels=np.full((2, 2), np.nan))), "panel 0: pixels that are not finite"),
        (picture(ImagePanel(title="", pixels=np.zeros((2, 2, 3)))), "panel 0: a shape of (2, 2, 3)"),
        (
            picture(
                GraphPanel(
                    title="",
                    places=GRAPH.places,
                    edges=np.asarray([[0, 2]]),
                    labels=GRAPH.labels,
                    widths=GRAPH.widths,
                )
            ),
            "panel 0: an edge ends at no node",
        ),
        (
            picture(IMAGE, TablePanel(title="", columns=("a",), rows=(("1", "2"),), shares=(1.0,))),
            "panel 1: rows and columns differ",
        ),
    ],
)
def test_a_picture_that_cannot_be_drawn_says_why(broken: Picture, problem: str) -> None:
    assert problem in problems_of(broken)


def test_examples_are_spread_over_those_that_are_no_padding() -> None:
    batch = {"x": torch.arange(10), "weights": torch.tensor([1.0] * 7 + [0.0] * 3)}

    assert spread_examples(batch, batch["weights"], count=3)["x"].tolist() == [0, 3, 6]
    assert spread_examples(batch, batch["weights"], count=20)["x"].tolist() == list(range(7))


class Sure(nn.Module):
    """Finds the brightness of an image's first pixel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 256).float()


def test_images_say_label_and_wrong_prediction() -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor([4, 5, 6])
    batch = {"inputs": images, "targets": torch.tensor([4, 9, 6]), "weights": torch.tensor([1.0, 1.0, 0.0])}

    shown = classification_picture(Sure(), batch)

    assert [(panel.title, panel.verdict) for panel in shown.panels if isinstance(panel, ImagePanel)] == [
        ("4", Verdict.RIGHT),
        ("9, not 5", Verdict.WRONG),
    ]
    assert shown.caption == "2 of 3 images of 2 x 2: label, and prediction where it is another; 1 right"


def test_mixed_images_are_shown_mixed_and_either_label_is_right() -> None:
    batch = {
        "inputs": torch.full((1, 3, 2, 2), 8, dtype=torch.uint8),
        "partners": torch.full((1, 3, 2, 2), 4, dtype=torch.uint8),
        "targets": torch.tensor([1]),
        "partner_targets": torch.tensor([7]),
        "mix_weights": torch.tensor([0.75]),
        "weights": torch.ones(1),
    }

    panel = classification_picture(Sure(), batch).panels[0]

    assert isinstance(panel, ImagePanel)
    assert panel.title == "1 + 7"  # the mixture's brightness, 7, is the partner's class
    assert panel.pixels.tolist() == [[[7, 7, 7]] * 2] * 2
