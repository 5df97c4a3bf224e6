"""Decoding and augmenting photographs: the loader's way against PIL with torchvision's transforms, in turns.

The two photographs that scikit-learn ships (640 x 427 pixels, as distributed: about the mean of ImageNet), and the
small digits of the mini data.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import sklearn
import torch
from PIL import Image
from rich.console import Console
from torchvision import transforms
from torchvision.transforms import v2

from benchmarks.interleaved import rate_table, timed
from perfbench.data.images.transforms import SeededDraws, decoded, eval_view, train_view

CROP_SIDE, RESIZE_SIDE = 224, 256
AREA_RANGE = (0.08, 1.0)
NUM_VIEWS = 40
"""Of each photograph, in a round."""
ENLARGED_DIGIT = 40
DIGIT_CROP = 32


def report(console: Console, rounds: int) -> None:
    """Print views per second of one core."""
    photographs = [
        path.read_bytes() for path in sorted((Path(sklearn.__file__).parent / "datasets/images").glob("*.jpg"))
    ]
    small = [shrunk(photograph, ENLARGED_DIGIT) for photograph in photographs]
    for title, images, side in (("photographs", photographs, CROP_SIDE), ("40 x 40 pixels", small, DIGIT_CROP)):
        console.print(
            rate_table(
                title,
                timed(ways(images, side), rounds=rounds),
                amount=NUM_VIEWS * len(images),
                unit="images per core second",
                base="PIL, training",
            )
        )


def shrunk(encoded: bytes, side: int) -> bytes:
    """Return a photograph as a JPEG of ``side x side`` pixels."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(encoded)).resize((side, side)).save(stream, format="JPEG", quality=95)
    return stream.getvalue()


def ways(images: list[bytes], side: int) -> dict[str, Callable[[], None]]:
    """Return what to time: both ways to train and to evaluate, and decoding alone."""
    plain_train = transforms.Compose(
        [
            transforms.RandomResizedCrop(side, scale=AREA_RANGE),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
    )
    resize_side = round(side * RESIZE_SIDE / CROP_SIDE)
    plain_eval = v2.Compose([v2.Resize(resize_side), v2.CenterCrop(side), v2.PILToTensor()])

    def opened(encoded: bytes) -> Image.Image:
        return Image.open(io.BytesIO(encoded)).convert("RGB")

    def ours(encoded: bytes, number: int) -> torch.Tensor:
        draws = SeededDraws(0, 0, number)
        return train_view(decoded(encoded), crop_side=side, area_range=AREA_RANGE, flip=True, draws=draws)

    def each(view: Callable[[bytes, int], object]) -> Callable[[], None]:
        def block() -> None:
            for number in range(NUM_VIEWS):
                for encoded in images:
                    view(encoded, number)

        return block

    return {
        "loader, training": each(ours),
        "PIL, training": each(lambda encoded, _: plain_train(opened(encoded))),
        "loader, evaluation": each(
            lambda encoded, _: eval_view(decoded(encoded), resize_side=resize_side, crop_side=side)
        ),
        "PIL, evaluation": each(lambda encoded, _: plain_eval(opened(encoded))),
        "loader, decoding alone": each(lambda encoded, _: decoded(encoded)),
        "PIL, decoding alone": each(lambda encoded, _: opened(encoded).load()),
    }
