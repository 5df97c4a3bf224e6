"""Against the package fastMRI: what is its own here, what equals it, and what differs by definition."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import fastmri
import numpy as np
import pytest
import torch
from fastmri.data.mri_data import SliceDataset
from fastmri.data.subsample import RandomMaskFunc
from fastmri.data.transforms import UnetDataTransform, complex_center_crop, to_tensor
from fastmri.losses import SSIMLoss
from fastmri.models import Unet

from perfbench.workloads.fastmri import raw
from perfbench.workloads.fastmri.acquisition import acquire
from perfbench.workloads.fastmri.imaging import example_of, hybrid_of, zero_filled
from perfbench.workloads.fastmri.masks import EVALUATION_KEY, kept_columns, uniforms
from perfbench.workloads.fastmri.model import UNet
from perfbench.workloads.fastmri.ssim import structural_similarity
from tests.unit.fastmri_figures import params_of

columns_of = partial(kept_columns, acceleration=4, center_fraction=0.08)


def test_the_model_is_fastmri_s_with_other_names_of_blocks() -> None:
    """A checkpoint of the package loads once ``layers`` of its convolution blocks is renamed, as published."""
    theirs = Unet(1, 1, chans=8, num_pool_layers=3)
    model = UNet(params_of(channels=8, num_pools=3, dropout_rate=0.0))
    names = dict(zip(theirs.state_dict(), model.state_dict(), strict=True))
    x = torch.randn(2, 35, 37)

    model.load_state_dict({names[name]: value for name, value in theirs.state_dict().items()})

    assert isinstance(model, Unet)
    assert names["conv.layers.4.weight"] == "conv.conv_layers.4.weight"
    assert names["up_transpose_conv.0.layers.0.weight"] == "up_transpose_conv.0.layers.0.weight"
    assert torch.equal(model(x), theirs(x[:, None])[:, 0])


def test_the_model_imports_none_of_what_its_package_does() -> None:
    code = (
        "import sys, perfbench.workloads.fastmri.workload\n"
        "print(sorted({'pandas', 'requests', 'h5py', 'pytorch_lightning', 'fastmri'} & set(sys.modules)))"
    )

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"


def test_fastmri_reads_our_volumes_and_makes_of_them_what_we_make(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    kspace, targets = acquire(generator.random((3, 64, 64)), generator, rows=80, columns=74)
    raw.write_volume(tmp_path / "file1.h5", kspace, targets, acquisition="CORPD_FBK", patient_id="x")
    mask_of = RandomMaskFunc([0.08], [4])
    samples = SliceDataset(tmp_path, "singlecoil", transform=UnetDataTransform("singlecoil", mask_func=mask_of))
    mask, _ = mask_of((80, 74, 2), seed=tuple(map(ord, "file1.h5")))
    kept = mask.numpy().reshape(-1) > 0

    assert len(samples) == 3
    for number, sample in enumerate(samples):
        example = example_of(zero_filled(hybrid_of(kspace[number], 64), kept, 64), targets[number])
        of_sample = (64**2 / (64**2 - 1)) ** 0.5  # theirs is the deviation of a sample
        assert float(sample.mean) == pytest.approx(float(example.mean), rel=1e-5)
        assert float(sample.std) == pytest.approx(float(example.std) * of_sample, rel=1e-5)
        assert np.abs(sample.image.numpy() * of_sample - example.inputs).max() < 2e-5
        assert np.abs(sample.target.numpy() * of_sample - example.targets).max() < 2e-5
        assert sample.max_value == pytest.approx(float(targets.max()))


@pytest.mark.parametrize("width", [322, 368, 372])
def test_the_stored_half_transform_gives_what_fastmri_s_whole_one_gives(width: int) -> None:
    generator = np.random.default_rng(width)
    kspace = (generator.normal(size=(640, width)) + 1j * generator.normal(size=(640, width))).astype(np.complex64)
    kept = columns_of(EVALUATION_KEY, width)

    whole = fastmri.complex_abs(complex_center_crop(fastmri.ifft2c(to_tensor(kspace * kept)), (320, 320)))

    assert np.abs(zero_filled(hybrid_of(kspace, 320), kept, 320) - whole.numpy()).max() < 2e-6


class OurNumbers(RandomMaskFunc):  # type: ignore[misc]  # fastMRI has no types
    """fastMRI's mask on the published generator and with the published number of centre columns."""

    def __init__(self, key: tuple[int, int]) -> None:
        super().__init__([0.08], [4])
        self.key = key

    def uniform(self, size: int) -> np.ndarray:
        return uniforms(self.key, size)

    def of(self, width: int) -> np.ndarray:
        self.rng = self
        num_center = int(width * 0.08)
        random = self.calculate_acceleration_mask(width, 4, None, num_center)
        kept: np.ndarray = random | (self.calculate_center_mask((1, width, 2), num_center) > 0)
        return kept


@pytest.mark.parametrize("width", [74, 80, 320, 322, 356, 368, 372, 400])
def test_masks_are_fastmri_s_on_another_generator_with_a_truncated_centre(width: int) -> None:
    for number in range(5):
        assert np.array_equal(OurNumbers((3, number)).of(width), columns_of((3, number), width))
    _, num_center = RandomMaskFunc([0.08], [4])((1, width, 2))
    assert num_center == round(width * 0.08)
    assert (num_center != int(width * 0.08)) == (width in (74, 320, 322, 372))


def test_similarity_equals_fastmri_s() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, 40, 48, generator=generator, dtype=torch.float64) * 5e-4
    second = first + torch.randn(3, 40, 48, generator=generator, dtype=torch.float64) * 2e-5
    ranges = first.amax(dim=(1, 2))

    lost = SSIMLoss().double()(first[:, None], second[:, None], ranges, reduced=False)

    expected = 1 - lost.mean(dim=(1, 2, 3))
    assert structural_similarity(first, second, ranges).tolist() == pytest.approx(expected.tolist(), abs=1e-8)
