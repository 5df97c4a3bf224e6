"""The front end against the figures of the specification, and masks against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from perfbench.compose import compose_workload
from perfbench.data.speech.front_end import MEAN, STANDARD_DEVIATION, LogMel, SpecAugment, mel_filters, valid_frames
from perfbench.workloads.librispeech_conformer.params import Params


def signal(num_samples: int) -> Tensor:
    n = np.arange(num_samples)
    wave = 8000 * np.sin(2 * np.pi * 440 * n / 16000) + 4000 * np.sin(2 * np.pi * 3000 * n / 16000)
    return torch.from_numpy(np.round(wave).astype(np.int16))


def augment(**changes: int) -> SpecAugment:
    params = Params.from_mapping(compose_workload("librispeech_conformer", scale="full").params | changes)
    return SpecAugment(params).train()


def test_the_filter_bank_is_the_published_one() -> None:
    filters = mel_filters()

    assert filters.shape == (257, 80)
    assert int((filters > 1e-4).sum()) == 470
    assert float(filters.sum()) == pytest.approx(234.948, abs=1e-3)
    assert float(filters.max()) == pytest.approx(0.997712, abs=1e-5)
    weights = {(5, 0): 0.69555, (5, 1): 0.30445, (14, 10): 0.73028, (14, 11): 0.26972, (96, 51): 0.34660,
               (96, 52): 0.65340, (243, 79): 0.02643}  # fmt: skip
    assert [float(filters[place]) for place in weights] == pytest.approx(list(weights.values()), abs=2e-5)
    assert filters.sum(dim=0)[[0, 1, 40, 79]].tolist() == pytest.approx([0.69555, 0.74231, 2.34682, 7.35943], abs=1e-4)
    used = (filters > 1e-4).any(dim=1).nonzero().flatten()
    assert (int(used[0]), int(used[-1])) == (5, 243)


def test_standardisation_constants_have_the_published_sums() -> None:
    assert sum(MEAN) == pytest.approx(-520.66950, abs=1e-5)
    assert sum(STANDARD_DEVIATION) == pytest.approx(286.17761, abs=1e-5)


def test_log_mel_energies_of_the_check_signal() -> None:
    front_end, audio, num_samples = LogMel(), signal(320_000)[None], torch.tensor([16_000], dtype=torch.int32)
    bins = [0, 10, 20, 40, 60, 79]

    log_mel = front_end.log_mel(audio, num_samples)[0]
    standardised = front_end(audio, num_samples)[0]

    assert audio[0, :6].tolist() == [0, 5071, 5538, 2433, 1099, 4553]
    assert log_mel.shape == (1998, 80)
    largest = log_mel[50].topk(4)
    assert largest.indices.tolist() == [52, 51, 10, 11]
    assert largest.values.tolist() == pytest.approx([5.4029, 4.7867, 2.6999, 2.4600], abs=1e-4)
    assert standardised[100, [0, 79]].tolist() == pytest.approx([-1.13763, -1.33270], abs=1e-5)
    floor = -11.5129
    expected = {
        50: [floor, 2.6999, floor, floor, floor, floor],
        98: [-6.5558, 2.6173, -5.5317, -6.7227, -3.5726, -4.7043],
        99: [-4.9042, 0.4600, -3.6008, -4.7923, -1.6209, -2.7531],
        100: [floor] * 6,
    }
    for frame, values in expected.items():
        assert log_mel[frame, bins].tolist() == pytest.approx(values, abs=1e-4)
    assert standardised[99, bins].tolist() == pytest.approx([0.7861, 1.7489, 1.0152, 0.4307, 1.1702, 1.2213], abs=1e-4)
    assert float(standardised[:100].mean()) == pytest.approx(-0.816946, abs=1e-4)
    assert float(standardised[:100].std(correction=0)) == pytest.approx(1.156966, abs=1e-4)


def test_what_stands_behind_the_end_of_an_utterance_does_not_matter() -> None:
    audio = signal(24_320)[None].repeat(2, 1)
    audio[1, 16_000:] = 12_345

    features = LogMel()(audio, torch.tensor([16_000, 16_000]))

    assert torch.equal(features[0], features[1])


def test_valid_frames_of_known_lengths() -> None:
    lengths = torch.tensor([0, 400, 16_000, 160_000, 160_001, 320_000], dtype=torch.int32)

    assert valid_frames(lengths, 1998).tolist() == [0, 3, 100, 1000, 1001, 1998]


@pytest.mark.parametrize(("frames", "share"), [(1998, 0.222), (1000, 0.220), (200, 0.203), (19, 0.0)])
def test_time_masks_cover_the_published_share(frames: int, share: float) -> None:
    torch.manual_seed(0)
    kept = augment(frequency_masks=0)(torch.ones(600, frames, 1), torch.full((600,), frames))

    assert float((kept == 0).float().mean()) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("masks", "share"), [(2, 0.294), (4, 0.50)])
def test_frequency_masks_cover_the_published_share(masks: int, share: float) -> None:
    torch.manual_seed(0)
    kept = augment(time_masks=0, frequency_masks=masks)(torch.ones(5000, 20, 80), torch.full((5000,), 20))

    assert float((kept == 0).float().mean()) == pytest.approx(share, abs=0.01)


def test_time_masks_stay_inside_the_utterance_and_vanish_in_evaluation() -> None:
    mask = augment(frequency_masks=0)
    features, lengths = torch.ones(200, 300, 80), torch.full((200,), 100)

    assert bool((mask(features, lengths)[:, 100:] == 1).all())
    assert torch.equal(mask.eval()(features, lengths), features)
