"""Waveforms to standardised log-mel features, and SpecAugment; both run on the device inside the compiled model.

Shape suffixes: b examples, n samples, t feature frames, f mel bins (80).

Source: AlgoPerf librispeech preprocessor, measured figures of its specification, section 4. The filter bank is
torchaudio's Kaldi one, which is equal to it; torchaudio's ``Spectrogram`` would break the graph (docs/adr/0008), so
frames are transformed here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance.kaldi import get_mel_banks

from perfbench.data.speech.params import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE_HZ, SpeechParams

NUM_BINS = 80
_FFT_SIZE = 512
_WINDOW_SAMPLES = FRAME_SAMPLES - 1
_PRE_EMPHASIS = 0.97
_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7600.0
_LOG_FLOOR = 1e-5
_FULL_SCALE = 2.0**15
_TIME_MASK_SHARE = 0.05
"""Of an utterance's frames: the widest time mask."""

MEAN = (
    -7.60478163, -7.12062263, -6.88642454, -6.87057686, -6.96677208, -7.1084094, -6.95280266, -6.7839942,
    -6.61955214, -6.48762655, -6.41206598, -6.39404774, -6.42448711, -6.39937115, -6.51582718, -6.71379995,
    -6.84768772, -6.98850012, -6.92213869, -7.14614868, -7.20404005, -7.05375528, -7.31403828, -7.12232494,
    -7.30251408, -7.12121439, -7.24257326, -7.17305374, -7.0979414, -7.0887475, -6.98499107, -6.87877321,
    -6.76027536, -6.63009453, -6.51457691, -6.42450571, -6.3565135, -6.31787634, -6.26607704, -6.24683285,
    -6.28215265, -6.19083881, -6.2484355, -6.147264, -6.09247255, -6.01710033, -5.92504025, -5.85358334,
    -5.82091093, -5.81189299, -5.80783749, -5.77146292, -5.74537325, -5.77056551, -5.77656412, -5.78316736,
    -5.79540873, -5.79948235, -5.80234766, -5.80471182, -5.81681824, -5.88448, -5.97271061, -6.04446602,
    -6.12848663, -6.22575855, -6.31574965, -6.39061165, -6.49285984, -6.5498457, -6.60543203, -6.6508379,
    -6.6691761, -6.67268896, -6.68423462, -6.69745779, -6.7547183, -6.79491425, -6.86342096, -6.94186544,
)  # fmt: skip
"""Of each log-mel bin over the public training data."""
STANDARD_DEVIATION = (
    3.43532825, 3.59629321, 3.70124722, 3.7369206, 3.75351048, 3.69362926, 3.69224977, 3.76415229,
    3.84197164, 3.89998484, 3.92942405, 3.931741, 3.91395855, 3.90315986, 3.86919999, 3.81550813,
    3.76449704, 3.70991063, 3.69650865, 3.60037661, 3.54932261, 3.54651213, 3.45003605, 3.47128129,
    3.40846109, 3.44081354, 3.41048813, 3.4217639, 3.43128514, 3.41992092, 3.43058062, 3.43826652,
    3.45803666, 3.48179913, 3.49587107, 3.50367928, 3.5047574, 3.49887347, 3.49305606, 3.48229432,
    3.45943046, 3.46127701, 3.45590639, 3.47554231, 3.49715495, 3.53265572, 3.57051992, 3.59203124,
    3.59690738, 3.59135008, 3.58659315, 3.58268094, 3.58377433, 3.58957911, 3.58193135, 3.58378696,
    3.58611846, 3.58895898, 3.59221482, 3.5939455, 3.58566308, 3.58841133, 3.59210229, 3.58704901,
    3.58065701, 3.57310677, 3.56175327, 3.54980731, 3.55273747, 3.54753661, 3.53878498, 3.52561784,
    3.5031836, 3.49227262, 3.48796463, 3.47255945, 3.45583892, 3.43518281, 3.42842937, 3.4299171,
)  # fmt: skip


def valid_frames(num_samples: Tensor, num_frames: int) -> Tensor:
    """Return how many of ``num_frames`` feature frames hold at least one sample, same shape and dtype."""
    return torch.div(num_samples + (HOP_SAMPLES - 1), HOP_SAMPLES, rounding_mode="floor").clamp(max=num_frames)


def is_valid(counts: Tensor, size: int) -> Tensor:
    """Return a mask ``[b, size]`` that is true at the first ``counts`` places."""
    return torch.arange(size, device=counts.device) < counts[:, None]


class LogMel(nn.Module):
    """Standardised log-mel energies in float32, whatever precision the model computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_WINDOW_SAMPLES), persistent=False)
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("deviation", torch.tensor(STANDARD_DEVIATION), persistent=False)
        self.window: Tensor
        self.filters: Tensor
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, audio: Tensor, num_samples: Tensor) -> Tensor:
        """Return ``[b, t, f]`` for int16 samples ``[b, n]`` of which the first ``num_samples [b]`` count."""
        with torch.autocast(audio.device.type, enabled=False):
            log_mel: Tensor = (self.log_mel(audio, num_samples) - self.mean) / self.deviation
            return log_mel

    def log_mel(self, audio: Tensor, num_samples: Tensor) -> Tensor:
        """Return log-mel energies before they are standardised."""
        signal_bn = audio.to(self.window.dtype) / _FULL_SCALE
        signal_bn = signal_bn * is_valid(num_samples, audio.shape[1])
        # The window is zero at a frame's first sample, so pre-emphasis of the whole signal equals that of each frame.
        emphasised_bn = signal_bn - _PRE_EMPHASIS * functional.pad(signal_bn, (1, 0))[:, :-1]
        num_frames = 1 + (audio.shape[1] - FRAME_SAMPLES) // HOP_SAMPLES
        frames_btw = emphasised_bn.unfold(1, _WINDOW_SAMPLES, HOP_SAMPLES)[:, :num_frames] * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames_btw, n=_FFT_SIZE))
        power = spectrum.square().sum(dim=-1)
        return (power @ self.filters).clamp(min=_LOG_FLOOR).log()


def mel_filters() -> Tensor:
    """Return the filter bank ``[257, f]``: triangles linear in mel, peak 1, nothing at the Nyquist frequency."""
    banks, _ = get_mel_banks(NUM_BINS, _FFT_SIZE, float(SAMPLE_RATE_HZ), _LOWEST_HZ, _HIGHEST_HZ, 100.0, -500.0, 1.0)
    return functional.pad(banks, (0, 1)).T.contiguous()


class SpecAugment(nn.Module):
    """Masks random stretches of time and bands of frequency of every example while training.

    The widest time mask is a share of the utterance (the published cap of 40 frames has no effect). Masked values
    are 0, the mean of standardised features.
    """

    def __init__(self, params: SpeechParams) -> None:
        super().__init__()
        self._time_masks = params.time_masks
        self._frequency_masks = params.frequency_masks
        self._max_masked_bins = params.max_masked_bins

    def forward(self, features_btf: Tensor, num_frames: Tensor) -> Tensor:
        """Return the features, masked while training; ``num_frames [b]`` are valid."""
        if not self.training:
            return features_btf
        widest = torch.floor(_TIME_MASK_SHARE * num_frames.to(features_btf.dtype))
        width = torch.floor(_TIME_MASK_SHARE * num_frames[:, None] * _uniform(features_btf, self._time_masks)).minimum(
            widest.clamp(min=1.0)[:, None]
        )
        kept_bt = _unmasked(width, num_frames[:, None], features_btf.shape[1])
        bins = torch.floor(self._max_masked_bins * _uniform(features_btf, self._frequency_masks))
        kept_bf = _unmasked(bins, features_btf.shape[2], features_btf.shape[2])
        return features_btf * (kept_bt[:, :, None] & kept_bf[:, None, :])


def _uniform(like: Tensor, count: int) -> Tensor:
    return torch.rand(like.shape[0], count, device=like.device)


def _unmasked(width: Tensor, size: Tensor | int, num_places: int) -> Tensor:
    """Place masks of ``width [b, m]`` at random in the first ``size`` places; return what none covers, ``[b, p]``."""
    start = torch.floor(torch.rand_like(width) * (size - width + 1))
    places = torch.arange(num_places, device=width.device)
    covered = (places >= start[..., None]) & (places < (start + width)[..., None])
    return ~covered.any(dim=1)
