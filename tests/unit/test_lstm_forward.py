"""The LSTM of the speech models: its forward runs once, and its graph can be walked again."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from perfbench.workloads.librispeech_deepspeech.recurrence import Direction

VARIANTS = [
    *(f"librispeech_conformer{suffix}" for suffix in ("", "_attention_temperature", "_layernorm", "_gelu")),
    *(f"librispeech_deepspeech{suffix}" for suffix in ("", "_tanh", "_no_resnet", "_norm_and_spec_aug")),
]
TINY = {
    "librispeech_conformer": {"width": 16, "num_heads": 2, "num_blocks": 1},
    "librispeech_deepspeech": {"width": 16, "num_recurrent": 1, "num_feed_forward": 1},
}

NUM_SAMPLES = 24_320
"""Of the check signal: 150 frames, 38 after subsampling."""


@pytest.mark.parametrize("compiled", [False, True])
def test_the_library_runs_an_lstm_forward_once(compiled: bool) -> None:
    torch.manual_seed(0)
    layer = Direction(12, 6)
    x = torch.randn(40, 5, 12, requires_grad=True)
    function = torch.compile(layer, fullgraph=True, dynamic=False, backend="aot_eager") if compiled else layer
    function(x).sum().backward()  # asks for the size of the workspace

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        function(x).sum().backward()

    names = Counter(event.name for event in seen.events() or ())
    assert names["aten::mkldnn_rnn_layer"] == 1
    assert names["aten::mkldnn_rnn_layer_backward"] == 1


def test_a_graph_of_an_lstm_can_be_walked_twice() -> None:
    torch.manual_seed(0)
    layer = Direction(12, 6)
    loss = layer(torch.randn(40, 5, 12)).square().sum()

    first = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(layer.parameters()))

    assert all(map(torch.equal, first, second))
