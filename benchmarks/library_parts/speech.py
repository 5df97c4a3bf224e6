"""torchaudio: front end, augmentation, resampling, errors, loading."""

from __future__ import annotations

import io
import math

import numpy as np
import soundfile
import torch
import torchaudio
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn

from benchmarks.library_parts.part import Part, seeded
from perfbench.compose import compose_workload
from perfbench.data.speech.espeak import at_corpus_rate
from perfbench.data.speech.front_end import LogMel, SpecAugment, is_valid, mel_filters
from perfbench.data.speech.params import FRAME_SAMPLES, HOP_SAMPLES, SAMPLE_RATE_HZ
from perfbench.workloads.librispeech_conformer.params import Params

_BATCH, _SECONDS = 2, 10
_RATE_HZ = 22_050


def parts() -> list[Part]:
    """Return the parts of speech."""
    samples = (torch.randn(_BATCH, _SECONDS * SAMPLE_RATE_HZ, generator=seeded()) * 1000).to(torch.int16)
    counts = torch.full((_BATCH,), samples.shape[1] // 2 * 2, dtype=torch.int64)
    return [_log_mel(samples, counts), _mel_scale(), _augmentation(), _resampling(), _errors(), _loading(samples[0])]


class _TheirLogMel(LogMel):
    """torchaudio's spectrogram on the emphasised signal, on our filters."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = torchaudio.transforms.Spectrogram(
            n_fft=512, win_length=FRAME_SAMPLES - 1, hop_length=HOP_SAMPLES, power=2, center=False, pad=56
        )

    def log_mel(self, audio: Tensor, num_samples: Tensor) -> Tensor:
        signal_bn = audio.to(self.window.dtype) / 2.0**15 * is_valid(num_samples, audio.shape[1])
        emphasised_bn = signal_bn - 0.97 * nn.functional.pad(signal_bn, (1, 0))[:, :-1]
        num_frames = 1 + (audio.shape[1] - FRAME_SAMPLES) // HOP_SAMPLES
        power_btw = self.spectrogram(emphasised_bn).transpose(1, 2)[:, :num_frames]
        energies: Tensor = power_btw @ self.filters
        return energies.clamp(min=1e-5).log()


def _log_mel(samples: Tensor, counts: Tensor) -> Part:
    ours, theirs = LogMel(), _TheirLogMel()
    return Part(
        "log-mel features",
        "torchaudio.transforms.Spectrogram(pad=56)",
        lambda: ours(samples, counts),
        lambda: theirs(samples, counts),
        "ours: torchaudio's splits the graph where compiling fails here, and is no shorter",
        is_compiled=True,
    )


def _mel_scale() -> Part:
    return Part(
        "mel filters",
        "torchaudio.functional.melscale_fbanks(mel_scale='htk')",
        mel_filters,
        lambda: torchaudio.functional.melscale_fbanks(257, 125.0, 7600.0, 80, SAMPLE_RATE_HZ, None, "htk"),
        "torchaudio.compliance.kaldi.get_mel_banks is used: these triangles are linear in Hz, not in mel",
    )


def _augmentation() -> Part:
    params = Params.from_mapping(compose_workload("librispeech_conformer", scale="full").params)
    ours = SpecAugment(params).train()
    theirs = torchaudio.transforms.SpecAugment(
        n_time_masks=params.time_masks,
        time_mask_param=40,
        n_freq_masks=params.frequency_masks,
        freq_mask_param=params.max_masked_bins,
        iid_masks=True,
        p=0.05,
        zero_masking=True,
    )
    features = torch.ones(8, 1000, 80)
    num_frames = torch.full((8,), 500)
    return Part(
        "SpecAugment, share kept",
        "torchaudio.transforms.SpecAugment(iid_masks=True)",
        lambda: ours(features, num_frames),
        lambda: theirs(features.transpose(1, 2)[:, None])[:, 0].transpose(1, 2),
        "ours: the width of a mask follows each utterance's length, theirs the padded length",
        is_compiled=True,
        is_random=True,
    )


def _resampling() -> Part:
    spoken = (np.random.default_rng(0).standard_normal(10 * _RATE_HZ) * 1000).astype(np.int16)
    smooth = np.convolve(spoken, np.hanning(32) / 16, mode="same").astype(np.int16)

    def theirs() -> Tensor:
        resampled: Tensor = torchaudio.functional.resample(torch.from_numpy(smooth).double(), _RATE_HZ, SAMPLE_RATE_HZ)
        return resampled.round().clamp(-(2**15), 2**15 - 1)

    return Part(
        "resampling 22,050 to 16,000 Hz, 10 s",
        "torchaudio.functional.resample",
        lambda: torch.from_numpy(at_corpus_rate(smooth, _RATE_HZ)).double(),
        theirs,
        "scipy's: only in preparing small data, whose digests it decides",
    )


def _errors() -> Part:
    drawn = np.random.default_rng(0).integers(0, 50, (2, 16, 40)).astype(str).tolist()
    pairs = list(zip(*drawn, strict=True))
    return Part(
        "word errors, 16 utterances of 40 words",
        "torchaudio.functional.edit_distance",
        lambda: torch.tensor([float(Levenshtein.distance(one, other)) for one, other in pairs]),
        lambda: torch.tensor([float(torchaudio.functional.edit_distance(one, other)) for one, other in pairs]),
        "rapidfuzz's: torchaudio's is a loop in Python",
    )


def _loading(samples: Tensor) -> Part:
    file = io.BytesIO()
    soundfile.write(file, samples.numpy(), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    content = file.getvalue()

    def theirs() -> Tensor:
        waveform: Tensor = torchaudio.load(io.BytesIO(content))[0]
        return (waveform[0] * 2**15).round()

    def ours() -> Tensor:
        decoded, _ = soundfile.read(io.BytesIO(content), dtype="int16")
        return torch.from_numpy(decoded).float()

    assert math.isclose(float(ours().abs().max()), float(samples.abs().max()))
    return Part(
        "reading FLAC, 10 s", "torchaudio.load", ours, theirs, "soundfile's: torchaudio's needs FFmpeg's libraries"
    )
