"""Transforms and RandAugment against the published figures and against PIL; specifications of both ImageNet tasks."""

from __future__ import annotations

import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional

from perfbench.data.images.randaugment import OPERATIONS, rand_augment
from perfbench.data.images.transforms import SeededDraws, decoded, eval_view, normalised, random_crop_box, train_view

_FROM_THE_FIELD = Path(__file__).resolve().parents[2].parent / "shared" / "inputs" / "exif_orientation_6.JPEG"


class TorchDraws:
    """torch's global generator, used as torchvision's transform uses it."""

    def uniform(self, low: float, high: float) -> float:
        return float(torch.empty(1).uniform_(low, high))

    def integer(self, bound: int) -> int:
        return int(torch.randint(0, bound, size=(1,)))


class FixedDraws:
    """Always the same position in a range."""

    def __init__(self, position: float) -> None:
        self.position = position

    def uniform(self, low: float, high: float) -> float:
        return low + self.position * (high - low)

    def integer(self, bound: int) -> int:
        return min(bound - 1, int(self.position * bound))


def ramp() -> Tensor:
    """Return the specification's 300 x 400 image."""
    y, x = np.mgrid[0:300, 0:400]
    return torch.from_numpy(np.stack([255 * x // 399, 255 * y // 299, (x + y) % 256]).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, quality=92)
    return stream.getvalue()


def test_random_crops_are_torchvision_s_for_the_same_random_numbers() -> None:
    torch.manual_seed(0)

    boxes = [random_crop_box(375, 500, (0.08, 1.0), TorchDraws()) for _ in range(3)]

    assert boxes == [(17, 80, 294, 343), (52, 183, 251, 271), (26, 182, 295, 318)]


def test_areas_and_aspects_of_random_crops() -> None:
    draws = SeededDraws(0)
    boxes = [random_crop_box(375, 500, (0.08, 1.0), draws) for _ in range(20_000)]

    areas = [height * width / (375 * 500) for _, _, height, width in boxes]
    aspects = [width / height for _, _, height, width in boxes]
    assert float(np.mean(areas)) == pytest.approx(0.435, abs=0.01)
    assert max(aspects) < 1.345
    assert min(aspects) > 0.745
    assert all(top + h <= 375 and left + w <= 500 for top, left, h, w in boxes)


def test_an_image_of_extreme_aspect_is_cut_in_the_centre() -> None:
    assert random_crop_box(10, 1000, (1.0, 1.0), SeededDraws(0)) == (0, 493, 10, 13)
    assert random_crop_box(1000, 12, (1.0, 1.0), SeededDraws(0)) == (492, 0, 16, 12)


@pytest.mark.parametrize(
    ("size", "resized"), [((375, 500), (256, 341)), ((333, 500), (256, 384)), ((100, 80), (320, 256))]
)
def test_the_shorter_side_is_resized(size: tuple[int, int], resized: tuple[int, int]) -> None:
    assert (
        tuple(functional.resize(torch.zeros(3, *size, dtype=torch.uint8), [256], antialias=True).shape[1:]) == resized
    )


def test_the_evaluation_view_of_a_ramp() -> None:
    view = eval_view(ramp(), resize_side=256, crop_side=224)

    pixels = normalised(view[None], torch.float64)[0]

    assert pixels.mean(dim=(1, 2)).tolist() == pytest.approx([0.050594, 0.187675, 0.417410], abs=2e-5)
    assert pixels.std(dim=(1, 2)).tolist() == pytest.approx([0.830179, 1.131287, 1.277258], abs=1e-3)
    grey = 1 / 255 / 0.224
    assert pixels[:, 0, 0].tolist() == pytest.approx([-1.381540, -1.755602, -0.288104], abs=grey)
    assert pixels[:, 223, 223].tolist() == pytest.approx([1.478294, 2.130952, -0.096383], abs=grey)


def test_the_evaluation_view_is_pil_s_to_one_grey_level() -> None:
    image = Image.fromarray(ramp().permute(1, 2, 0).numpy())
    resized = image.resize((341, 256), Image.Resampling.BILINEAR)
    oracle = np.asarray(resized.crop((58, 16, 58 + 224, 16 + 224))).transpose(2, 0, 1).astype(int)

    view = eval_view(ramp(), resize_side=256, crop_side=224).numpy().astype(int)

    assert np.abs(view - oracle).max() <= 1


def test_black_and_white() -> None:
    pixels = normalised(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1), torch.float32)

    assert pixels[0].flatten().tolist() == pytest.approx([-2.117904, -2.035714, -1.804444], abs=1e-5)
    assert pixels[1].flatten().tolist() == pytest.approx([2.248908, 2.428571, 2.640000], abs=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_decodes_like_pil(mode: str) -> None:
    image = Image.fromarray(ramp().permute(1, 2, 0).numpy()).convert(mode)

    tensor = decoded(encoded(image))

    oracle = np.asarray(Image.open(io.BytesIO(encoded(image))).convert("RGB")).transpose(2, 0, 1)
    assert np.abs(tensor.numpy().astype(int) - oracle.astype(int)).max() <= 1


def test_a_png_under_the_name_of_a_jpeg_decodes() -> None:
    image = Image.fromarray(ramp().permute(1, 2, 0).numpy())

    assert torch.equal(decoded(encoded(image, "PNG")), ramp())


def drawn_image() -> Image.Image:
    generator = np.random.default_rng(0)
    ramp_of_colours = np.add.outer(np.arange(24) * 7, np.arange(40) * 5)[..., None] + np.array([0, 50, 100])
    noise = generator.integers(0, 30, size=(24, 40, 3))
    return Image.fromarray(((ramp_of_colours + noise) % 256).astype(np.uint8))


def as_pil_decodes(content: bytes) -> Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_ignored(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    drawn_image().save(stream, format=kind, exif=exif)

    image = decoded(stream.getvalue())

    assert Image.open(io.BytesIO(stream.getvalue())).getexif()[0x0112] == orientation
    assert torch.equal(image, as_pil_decodes(stream.getvalue()))


@pytest.mark.skipif(not _FROM_THE_FIELD.exists(), reason="../shared/inputs is not here")
def test_a_turned_image_from_the_field_is_decoded_as_stored() -> None:
    image = decoded(_FROM_THE_FIELD.read_bytes())

    assert image.shape == (3, 8, 16)
    assert torch.equal(image, as_pil_decodes(_FROM_THE_FIELD.read_bytes()))


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "JPEG", {"subsampling": 0}),
        ("RGB", "JPEG", {"subsampling": 1}),
        ("RGB", "JPEG", {"subsampling": 2}),
        ("RGB", "JPEG", {"subsampling": "4:1:1"}),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "JPEG", {"keep_rgb": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("1", "PNG", {}),
        ("L", "PNG", {"transparency": 100}),
        ("P", "PNG", {"transparency": 0}),
        ("LA", "PNG", {}),
        ("RGBA", "PNG", {}),
    ],
)
def test_every_kind_of_pixel_is_decoded_as_pil_does(mode: str, kind: str, options: dict[str, object]) -> None:
    image = drawn_image().convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(drawn_image().convert("L"))
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)

    assert torch.equal(decoded(stream.getvalue()), as_pil_decodes(stream.getvalue()))


def png(header: bytes, rows: bytes, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_of_sixteen_bits_the_upper_eight_count_as_in_pil() -> None:
    samples = np.random.default_rng(1).integers(0, 2**16, size=(24, 40, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    image = decoded(png(struct.pack(">IIBBBBB", 40, 24, 16, 2, 0, 0, 0), rows))

    assert torch.equal(image, torch.from_numpy((samples >> 8).astype(np.uint8)).permute(2, 0, 1))
    assert torch.equal(image, as_pil_decodes(png(struct.pack(">IIBBBBB", 40, 24, 16, 2, 0, 0, 0), rows)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP"])
def test_other_kinds_of_image_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="neither JPEG nor PNG"):
        decoded(encoded(drawn_image(), kind))


def test_the_training_view_is_a_pure_function_of_its_seed() -> None:
    def view(*numbers: int) -> Tensor:
        draws = SeededDraws(*numbers)
        return train_view(ramp(), crop_side=32, area_range=(0.08, 1.0), flip=True, draws=draws)

    assert torch.equal(view(1, 0, 5), view(1, 0, 5))
    assert len({view(*numbers).numpy().tobytes() for numbers in ((1, 0, 5), (2, 0, 5), (1, 1, 5), (1, 0, 6))}) == 4


def photograph() -> Tensor:
    """Return a 224 x 224 image without pixels of the fill colour."""
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, size=(3, 224, 224), dtype=np.uint8))
    return torch.where((image == 128).all(dim=0), torch.tensor(0, dtype=torch.uint8), image)


def share_of_grey(image: Tensor) -> float:
    return float((image == 128).all(dim=0).float().mean())


@pytest.mark.parametrize("position", [0.0, 0.99])
@pytest.mark.parametrize(
    ("name", "share"),
    [("ShearX", 0.15), ("ShearY", 0.15), ("TranslateX", 0.4464), ("TranslateY", 0.4464), ("Rotate", 0.1547)],
)
def test_geometric_operations_fill_the_published_share_with_grey(name: str, share: float, position: float) -> None:
    moved = OPERATIONS[name](photograph(), FixedDraws(position))

    assert share_of_grey(moved) == pytest.approx(share, abs=2e-3)


def test_there_are_sixteen_operations_and_solarize_is_the_identity() -> None:
    assert len(OPERATIONS) == 16
    assert torch.equal(OPERATIONS["Solarize"](photograph(), SeededDraws(0)), photograph())


def test_a_whole_cutout_is_81_pixels_wide_and_the_mean_one_covers_an_eighth() -> None:
    whole = OPERATIONS["Cutout"](photograph(), FixedDraws(0.5))
    draws = SeededDraws(0)
    shares = [share_of_grey(OPERATIONS["Cutout"](photograph(), draws)) for _ in range(400)]

    assert share_of_grey(whole) == pytest.approx(81 * 81 / 224**2)
    assert share_of_grey(whole) == pytest.approx(0.1308, abs=1e-4)
    assert float(np.mean(shares)) == pytest.approx(0.119, abs=0.004)


def add_and_clip(image: Image.Image) -> Image.Image:
    return image.point([min(255, value + 110) if value < 128 else value for value in range(256)] * 3)


@pytest.mark.parametrize(
    ("name", "oracle", "tolerance"),
    [
        ("Brightness", lambda image: ImageEnhance.Brightness(image).enhance(1.9), 0),
        ("Color", lambda image: ImageEnhance.Color(image).enhance(1.9), 1),
        ("Contrast", lambda image: ImageEnhance.Contrast(image).enhance(1.9), 0),
        ("Sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(1.9), 0),
        ("Posterize", lambda image: ImageOps.posterize(image, 4), 0),
        ("SolarizeAdd", add_and_clip, 0),
        ("AutoContrast", ImageOps.autocontrast, 1),
        ("Equalize", ImageOps.equalize, 0),
        ("Invert", ImageOps.invert, 0),
    ],
)
def test_operations_are_pil_s(name: str, oracle: object, tolerance: int) -> None:
    image = ramp()[:, :224, :224].clone()
    expected = np.asarray(oracle(Image.fromarray(image.permute(1, 2, 0).numpy()))).transpose(2, 0, 1)  # type: ignore[operator]

    actual = OPERATIONS[name](image, FixedDraws(0.99)).numpy()

    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= tolerance


def test_operations_are_drawn_with_replacement_and_all_of_them() -> None:
    seen = set()
    for seed in range(200):
        draws = SeededDraws(seed)
        seen.add(list(OPERATIONS)[draws.integer(16)])
    assert len(seen) == 16
    image = photograph()
    assert torch.equal(
        rand_augment(image, num_operations=2, draws=SeededDraws(5)),
        rand_augment(image, num_operations=2, draws=SeededDraws(5)),
    )
    assert torch.equal(rand_augment(image, num_operations=0, draws=SeededDraws(5)), image)


def test_lengths_scale_with_the_side() -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)

    moved = OPERATIONS["TranslateX"](image, FixedDraws(0.99))

    assert share_of_grey(moved) == pytest.approx(14 / 32)
    assert math.isclose(share_of_grey(OPERATIONS["Cutout"](image, FixedDraws(0.5))), 11 * 11 / 32**2)
