"""Layers that know about padding: normalisation and the strided convolutions in front of every encoder.

Scales are stored as offsets from 1, so that weight decay pulls the multiplier to 1.

Shape suffixes: b examples, t frames, c channels, f mel bins. Source: AlgoPerf librispeech models, specification of the
conformer, sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.data.speech.front_end import NUM_BINS, LogMel, SpecAugment, is_valid, valid_frames
from perfbench.data.speech.params import SUBSAMPLING, SpeechParams

_LAYER_NORM_EPS = 1e-6
_BATCH_NORM_EPS = 1e-3

Activation = Callable[[Tensor], Tensor]


class LayerNorm(nn.Module):
    """Layer norm over the last dimension, ``(1 + scale) * normalised + bias``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised tensor, same shape."""
        return functional.layer_norm(x, self.scale.shape, 1 + self.scale, self.bias, eps=_LAYER_NORM_EPS)


class MaskedBatchNorm(nn.Module):
    """Batch norm over valid frames only; padded frames become 0.

    Variances are biased, also the running one. The running statistics are updated in place, by the mean over groups.

    Args:
        width: Channels.
        momentum: Share of a batch in the running statistics.
        group_examples: Consecutive examples that share statistics; ``None``: the whole batch of this rank.
    """

    def __init__(self, width: int, *, momentum: float, group_examples: int | None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.momentum = momentum
        self.is_frozen = False
        self._group_examples = group_examples
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_variance", torch.ones(width))
        self.running_mean: Tensor
        self.running_variance: Tensor

    def forward(self, x_btc: Tensor, valid_bt: Tensor) -> Tensor:
        """Return the normalised tensor ``[b, t, c]``; ``valid_bt`` is true at valid frames."""
        # Evaluation has no statistics of its own: a batch of any size will do.
        group_examples = self._group_examples if self.training else None
        num_groups = 1 if group_examples is None else x_btc.shape[0] // group_examples
        grouped = x_btc.float().reshape(num_groups, -1, x_btc.shape[-1])
        valid = valid_bt.reshape(num_groups, -1, 1)
        if self.training:
            mean, variance = self._batch_statistics(grouped, valid)
        else:
            mean, variance = self.running_mean, self.running_variance
        normalised = (grouped - mean) * torch.rsqrt(variance + _BATCH_NORM_EPS)
        scaled = (normalised * (1 + self.scale) + self.bias) * valid
        return scaled.reshape(x_btc.shape).to(x_btc.dtype)

    def _batch_statistics(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        count = valid.sum(dim=1, keepdim=True).clamp(min=1)
        mean = (x * valid).sum(dim=1, keepdim=True) / count
        variance = ((x - mean).square() * valid).sum(dim=1, keepdim=True) / count
        if not self.is_frozen:
            with torch.no_grad():
                self.running_mean.lerp_(mean.mean(dim=0)[0], self.momentum)
                self.running_variance.lerp_(variance.mean(dim=0)[0], self.momentum)
        return mean, variance


class Subsampling(nn.Module):
    """Two 3x3 convolutions with stride 2 and one linear layer: a quarter of the frames, ``width`` features each."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, stride=2)
        self.conv2 = nn.Conv2d(width, width, 3, stride=2)
        self.linear = nn.Linear(NUM_BINS // SUBSAMPLING * width, width)
        self._activation = activation

    def forward(self, features_btf: Tensor, valid_bt: Tensor) -> Tensor:
        """Return ``[b, t / 4, width]``."""
        x_bctf = self._convolved(self.conv1, features_btf[:, None], valid_bt[:, ::2])
        x_bctf = self._convolved(self.conv2, x_bctf, valid_bt[:, ::2][:, ::2])
        out: Tensor = self.linear(x_bctf.permute(0, 2, 3, 1).flatten(2))  # channels vary fastest
        return out

    def _convolved(self, conv: nn.Conv2d, x_bctf: Tensor, valid_bt: Tensor) -> Tensor:
        padded = functional.pad(x_bctf, (*_same_padding(x_bctf.shape[3]), *_same_padding(x_bctf.shape[2])))
        return self._activation(conv(padded)) * valid_bt[:, None, :, None]


def _same_padding(size: int) -> tuple[int, int]:
    """Return padding before and after for kernel 3 and stride 2, the smaller half first.

    >>> _same_padding(1998), _same_padding(999)
    ((0, 1), (1, 1))
    """
    total = 1 if size % 2 == 0 else 2
    return total // 2, total - total // 2


class FrontEnd(nn.Module):
    """Waveforms to augmented features with the masks of valid frames, before and after subsampling."""

    def __init__(self, params: SpeechParams) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.augment = SpecAugment(params)

    def forward(self, audio: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``[b, t, f]`` and validity ``[b, t]``."""
        features_btf = self.log_mel(audio, num_samples)
        num_frames = valid_frames(num_samples, features_btf.shape[1])
        return self.augment(features_btf, num_frames), is_valid(num_frames, features_btf.shape[1])


def initialise(module: nn.Module) -> None:
    """Draw every weight of a convolution or linear layer Xavier-uniform, from the global generator; biases are 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
