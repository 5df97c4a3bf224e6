"""The LSTM that a full graph can hold: the packed one's numbers, one forward, and an operator by torch's rules."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from perfbench.workloads.librispeech_deepspeech.lstm_operator import _lstm
from perfbench.workloads.librispeech_deepspeech.recurrence import BidirectionalLSTM, Direction


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_masked_lstm_is_the_packed_one(compiled: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("NO GPU: oneDNN's LSTM is tested, cuDNN's is not")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # the default, and too coarse for what is asserted
    torch.manual_seed(0)
    ours, reference = (
        BidirectionalLSTM(12, 6).to(device),
        nn.LSTM(12, 6, batch_first=True, bidirectional=True).to(device),
    )
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        other.data.copy_(one.data)
    lengths = torch.tensor([40, 33, 20, 7, 1])
    x = torch.randn(5, 40, 12, device=device)
    valid = (torch.arange(40) < lengths[:, None]).to(device)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    expected, _ = nn.utils.rnn.pad_packed_sequence(reference(packed)[0], batch_first=True)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()

    function = torch.compile(ours, fullgraph=True, dynamic=False) if compiled else ours
    out = function(x, valid)
    (out * weights).sum().backward()

    assert torch.allclose(out, expected, atol=1e-6)
    assert float(out[4, 1:].detach().abs().max()) == 0.0
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, atol=2e-5)


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


@pytest.mark.parametrize("with_gradients", [False, True])
def test_under_autocast_the_library_computes_in_float32(with_gradients: bool) -> None:
    torch.manual_seed(0)
    layer = Direction(12, 6)
    x = torch.randn(40, 5, 12)

    with torch.set_grad_enabled(with_gradients), torch.autocast("cpu", dtype=torch.bfloat16):
        cast = layer(x)

    assert cast.dtype == torch.float32
    assert torch.equal(cast.detach(), layer(x).detach())


def test_a_graph_of_an_lstm_can_be_walked_twice() -> None:
    torch.manual_seed(0)
    layer = Direction(12, 6)
    loss = layer(torch.randn(40, 5, 12)).square().sum()

    first = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(layer.parameters()))

    assert all(map(torch.equal, first, second))


@pytest.mark.slow
@pytest.mark.parametrize("with_workspace", [False, True])
def test_the_operator_keeps_torch_s_rules_for_operators(with_workspace: bool) -> None:
    """Its fake has the form of what it returns, it changes nothing it is given, and no outputs share memory."""
    torch.manual_seed(0)
    shapes = ((40, 5, 12), (24, 12), (24, 6), (24,), (24,))
    inputs = [torch.randn(shape, requires_grad=with_workspace) for shape in shapes]

    # Not whether two runs give the same bits: a part of the workspace is never written.
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    seen = torch.library.opcheck(_lstm, (*inputs, with_workspace), test_utils=checks)

    assert set(seen.values()) == {"SUCCESS"}
