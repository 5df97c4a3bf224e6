"""Masks, preprocessing and similarity. Source of the figures: AlgoPerf fastMRI specification, section 8."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity as slow_similarity
from torch import Tensor

from perfbench.workloads.fastmri.imaging import Example, example_of, hybrid_of, zero_filled
from perfbench.workloads.fastmri.masks import EVALUATION_KEY, evaluation_columns, kept_columns, uniforms
from perfbench.workloads.fastmri.ssim import structural_similarity
from tests.unit.fastmri_figures import pseudo_random

columns_of = partial(kept_columns, acceleration=4, center_fraction=0.08)
evaluation_columns_of = partial(evaluation_columns, acceleration=4, center_fraction=0.08)


def test_uniforms_are_the_measured_ones() -> None:
    first = [0.2110154629, 0.7060099840, 0.8000633717, 0.7707922459, 0.3885886669, 0.8703594208, 0.8081874847]
    first.append(0.1969408989)

    assert uniforms((0, 0), 8).tolist() == pytest.approx(first, abs=1e-9)
    assert uniforms((1, 2), 3).tolist() == pytest.approx([0.8440604, 0.19204533, 0.9962232], abs=1e-7)


def test_uniforms_of_a_shorter_sequence_are_its_beginning() -> None:
    assert np.array_equal(uniforms((3, 4), 13), uniforms((3, 4), 400)[:13])


@pytest.mark.parametrize(
    ("width", "kept"), [(320, 80), (322, 82), (356, 92), (368, 97), (372, 97), (400, 108), (74, 20), (80, 21)]
)
def test_evaluation_masks_keep_the_published_number_of_columns(width: int, kept: int) -> None:
    assert int(evaluation_columns_of(width).sum()) == kept


@pytest.mark.parametrize(
    ("width", "num_center", "first", "probability"),
    [
        (320, 25, 148, 0.186441), (322, 25, 149, 0.186869), (356, 28, 164, 0.185976), (368, 29, 170, 0.185841),
        (372, 29, 172, 0.186589), (400, 32, 184, 0.184783), (74, 5, 35, 0.195652), (80, 6, 37, 0.189189),
    ],
)  # fmt: skip
def test_masks_have_the_published_centre_and_share(width: int, num_center: int, first: int, probability: float) -> None:
    masks = np.stack([columns_of((7, number), width) for number in range(400)])

    always = np.flatnonzero(masks.all(axis=0))
    assert always.tolist() == list(range(first, first + num_center))
    others = np.delete(masks, always, axis=1)
    assert float(others.mean()) == pytest.approx(probability, abs=4 * (0.16 / others.size) ** 0.5)


@pytest.mark.parametrize(
    ("width", "bits"),
    [
        (368, "0030184a82004501240822100040422401080048283ffffffe30801028c424640020201202864480e22400218252"),
        (372, "0030184a82004501240822100040422401080048280fffffffb0801028c424640020201202864480e2240021825200"),
        (320, "0030184a82004501240822100040422401080ffffff8100a0430801028c424640020201202864480"),
        (74, "0030185a9f0045012400"),
        (80, "0030184a87e045012408"),
    ],
)
def test_evaluation_masks_are_the_published_ones(width: int, bits: str) -> None:
    mask = evaluation_columns_of(width)

    assert np.packbits(mask).tobytes().hex() == bits


def test_training_masks_differ_by_slice_and_seed_and_keep_a_quarter_on_average() -> None:
    masks = np.stack([columns_of((5, number), 368) for number in range(200)])
    other = columns_of((6, 0), 368)

    assert len({mask.tobytes() for mask in masks}) == 200
    assert not np.array_equal(masks[0], other)
    assert masks[:, 170:199].all()
    assert float(masks.mean()) == pytest.approx(0.25, abs=0.005)


def published_kspace() -> NDArray[np.complex64]:
    n = 32 * 24
    u = pseudo_random(2 * n)
    rows, columns = np.mgrid[:32, :24]
    decay = 8 / (1 + (rows - 16) ** 2 + (columns - 12) ** 2)
    kspace: NDArray[np.complex64] = ((u[:n] + 1j * u[n:]).reshape(32, 24) * decay).astype(np.complex64)
    return kspace


def image_of(kspace: NDArray[np.complex64], kept: NDArray[np.bool_], size: int) -> NDArray[np.float64]:
    """Do what the reference describes, in double precision: the whole transform, then the crop."""
    masked = np.fft.ifftshift(kspace.astype(np.complex128) * kept)
    image = np.fft.fftshift(np.fft.ifft2(masked)) * np.sqrt(kspace.size)
    top, left = (kspace.shape[0] - size) // 2, (kspace.shape[1] - size) // 2
    cropped: NDArray[np.float64] = np.abs(image[top : top + size, left : left + size])
    return cropped


def published_example() -> tuple[Example, float]:
    hybrid = hybrid_of(published_kspace(), 16)
    target = zero_filled(hybrid, np.ones(24, dtype=bool), 16)
    kept = columns_of(EVALUATION_KEY, 24)
    assert "".join("01"[int(bit)] for bit in kept) == "100000010011110001011001"
    return example_of(zero_filled(hybrid, kept, 16), target), float(target.max())


def test_preprocessing_gives_the_measured_figures() -> None:
    example, maximum = published_example()

    assert maximum == pytest.approx(0.342707, abs=1e-6)
    assert float(example.mean) == pytest.approx(0.1394712, abs=1e-7)
    assert float(example.std) == pytest.approx(0.0675329, abs=1e-7)
    inputs = [float(example.inputs[index]) for index in ((0, 0), (5, 7), (15, 15))]
    targets = [float(example.targets[index]) for index in ((0, 0), (5, 7), (15, 15))]
    assert inputs == pytest.approx([0.604258, 0.084140, 0.215547], abs=2e-6)
    assert targets == pytest.approx([1.155092, -0.118853, -0.100570], abs=2e-6)
    assert float(np.abs(example.inputs - example.targets).mean()) == pytest.approx(0.487480, abs=1e-6)


def test_the_similarity_of_the_zero_filled_image_is_the_measured_one() -> None:
    example, maximum = published_example()
    images = [torch.from_numpy(a)[None].double() * float(example.std) + float(example.mean) for a in example[:2]]

    similarity = structural_similarity(images[0], images[1], torch.tensor([maximum]))

    assert float(similarity[0]) == pytest.approx(0.741610, abs=1e-6)


@pytest.mark.parametrize("width", [322, 368, 372])
def test_the_stored_half_transform_gives_what_the_whole_one_gives(width: int) -> None:
    generator = np.random.default_rng(width)
    kspace = (generator.normal(size=(640, width)) + 1j * generator.normal(size=(640, width))).astype(np.complex64)
    kept = evaluation_columns_of(width)

    fast = zero_filled(hybrid_of(kspace, 320), kept, 320)

    assert np.abs(fast - image_of(kspace, kept, 320)).max() < 2e-6


def test_targets_are_clipped_at_six_deviations_of_the_input() -> None:
    image = np.zeros((4, 4), dtype=np.float32)
    image[0, 0] = 1
    example = example_of(image, image * 100)

    assert float(example.targets.max()) == 6.0


def ramp(size: int) -> Tensor:
    return (torch.arange(size * size, dtype=torch.float64) / (size * size - 1)).view(1, size, size)


def similarity(first: Tensor, second: Tensor, data_range: float = 1.0) -> float:
    return float(structural_similarity(first, second, torch.tensor([data_range]))[0])


def test_similarity_by_hand() -> None:
    checkers = ((torch.arange(7)[:, None] + torch.arange(7)[None] + 1) % 2).double()[None]

    assert similarity(ramp(7), ramp(7)) == 1
    assert similarity(torch.full((1, 7, 7), 0.5), torch.ones(1, 7, 7)) == pytest.approx(0.8000159987, abs=1e-10)
    assert similarity(checkers, 1 - checkers) == pytest.approx(-0.9956486712, abs=1e-10)
    assert similarity(ramp(7), ramp(7).transpose(1, 2)) == pytest.approx(0.2836378333, abs=1e-10)
    assert similarity(ramp(7), ramp(7) / 2) == pytest.approx(0.6413408293, abs=1e-10)
    assert similarity(ramp(7), ramp(7) / 2, 2.0) == pytest.approx(0.6452425434, abs=1e-10)
    assert similarity(ramp(7), ramp(7) / 2, 0.0) == similarity(ramp(7), ramp(7) / 2, 1.0)
    assert similarity(ramp(8), ramp(8) ** 2) == pytest.approx(0.8715828574, abs=1e-10)


def test_similarity_equals_an_independent_implementation_at_raw_magnitudes() -> None:
    generator = np.random.default_rng(0)
    first = generator.random((3, 40, 33)) * 5e-4
    second = first + generator.normal(size=first.shape) * 5e-5
    ranges = first.max(axis=(1, 2))

    fast = structural_similarity(*(torch.from_numpy(a) for a in (first, second, ranges)))

    # scikit-image has no types for this function.
    slow = [
        slow_similarity(x, y, data_range=r)  # type: ignore[no-untyped-call]
        for x, y, r in zip(first, second, ranges, strict=True)
    ]
    assert fast.tolist() == pytest.approx(slow, abs=1e-12)
