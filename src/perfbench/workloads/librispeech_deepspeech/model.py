"""Subsampling, bidirectional LSTM layers, feed-forward layers and a CTC output.

Shape suffixes: b examples, t encoder frames, d width.

Source: AlgoPerf librispeech_deepspeech (PyTorch), measured figures of its specification, sections 2 to 7. The order of
parameters is the reference's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perfbench.data.modules import AuxiliaryDropout
from perfbench.data.speech.layers import Activation, FrontEnd, LayerNorm, MaskedBatchNorm, Subsampling, initialise
from perfbench.data.speech.params import SUBSAMPLING
from perfbench.workloads.librispeech_deepspeech.params import Params
from perfbench.workloads.librispeech_deepspeech.recurrence import BidirectionalLSTM

_ACTIVATIONS: dict[str, Activation] = {"relu": torch.relu, "tanh": torch.tanh}


class Normalisation(nn.Module):
    """Batch norm over valid frames, or layer norm over all."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.batch_norm: MaskedBatchNorm | None = None
        self.layer_norm: LayerNorm | None = None
        if params.normalisation == "batch":
            self.batch_norm = MaskedBatchNorm(
                params.width, momentum=params.batch_norm_momentum, group_examples=params.batch_norm_examples
            )
        else:
            self.layer_norm = LayerNorm(params.width)

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return the normalised tensor, same shape."""
        if self.batch_norm is not None:
            out: Tensor = self.batch_norm(x_btd, valid_bt)
            return out
        assert self.layer_norm is not None
        normed: Tensor = self.layer_norm(x_btd)
        return normed


class RecurrentLayer(nn.Module):
    """Norm, then both directions of an LSTM."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.norm = Normalisation(params)
        self.lstm = BidirectionalLSTM(params.width, params.width // 2)

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return ``[b, t, d]``, 0 at padded frames."""
        out: Tensor = self.lstm(self.norm(x_btd, valid_bt), valid_bt)
        return out


class FeedForwardLayer(nn.Module):
    """Norm, linear layer, activation, mask, dropout."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.norm = Normalisation(params)
        self.lin = nn.Linear(params.width, params.width)
        self.dropout = nn.Dropout(params.dropout_rate)
        self._activation = _ACTIVATIONS[params.activation]

    def forward(self, x_btd: Tensor, valid_bt: Tensor) -> Tensor:
        """Return ``[b, t, d]``, 0 at padded frames."""
        activated = self._activation(self.lin(self.norm(x_btd, valid_bt)))
        out: Tensor = self.dropout(activated * valid_bt[..., None])
        return out


class DeepSpeech(nn.Module):
    """Waveforms to logits of word pieces.

    Args:
        params: Width, depth and kind of layers.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params
        self.front_end = FrontEnd(params)
        self.subsample = Subsampling(params.width, _ACTIVATIONS[params.activation])
        self.dropout = AuxiliaryDropout(params.dropout_rate)
        self.lstms = nn.ModuleList(RecurrentLayer(params) for _ in range(params.num_recurrent))
        self.ffns = nn.ModuleList(FeedForwardLayer(params) for _ in range(params.num_feed_forward))
        self.ln = LayerNorm(params.width) if params.normalisation == "batch" else nn.Identity()
        self.lin = nn.Linear(params.width, params.num_pieces)
        initialise(self)

    def forward(self, audio: Tensor, num_samples: Tensor) -> Tensor:
        """Return logits ``[b, t, pieces]`` for int16 samples ``[b, n]``; the first ``num_samples [b]`` count."""
        features_btf, valid_frames = self.front_end(audio, num_samples)
        valid_bt = valid_frames[:, ::SUBSAMPLING]
        x_btd = self.dropout(self.subsample(features_btf, valid_frames))
        for layer in (*self.lstms, *self.ffns):
            added = layer(x_btd, valid_bt)
            x_btd = x_btd + added if self.params.residual else added
        logits: Tensor = self.lin(self.ln(x_btd))
        return logits
