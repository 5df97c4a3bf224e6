"""What workloads do to a model of any kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from perfbench.api.workload import ParameterRole
from perfbench.data.modules import roles_of, seeded, set_dropout_rate


def test_a_seed_decides_what_is_drawn_and_the_global_generator_goes_on_as_if_nothing_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with seeded(7):
        first = torch.rand(2)
    after = torch.rand(3)
    with seeded(7):
        second = torch.rand(2)

    assert torch.equal(after, expected)
    assert torch.equal(first, second)


def test_the_generators_of_devices_go_on_as_if_nothing_was(monkeypatch: pytest.MonkeyPatch) -> None:
    on_device = torch.Generator().manual_seed(1)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", on_device.manual_seed)
    torch.manual_seed(1)
    assert on_device.initial_seed() == 1, "the stand-in is seeded as the device's generator would be"
    torch.manual_seed(2)  # as the engine does, with another number on each rank

    with seeded(7):
        torch.rand(1)

    assert on_device.initial_seed() == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: the device's generator is tested on a stand-in only")
def test_the_gpu_generator_goes_on_as_if_nothing_was() -> None:
    torch.manual_seed(1)
    before = torch.cuda.get_rng_state()

    with seeded(7):
        nn.Linear(2, 2)

    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_every_dropout_layer_gets_the_rate_and_no_other_module() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Sequential(nn.Dropout2d(0.2), nn.AlphaDropout(0.3)))

    set_dropout_rate(model, 0.5)

    assert [module.p for module in model.modules() if hasattr(module, "p")] == [0.5, 0.5, 0.3]


def test_roles_are_named_as_the_model_names_its_parameters_at_every_depth() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.inner = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))

    def role_of(module: nn.Module, name: str) -> ParameterRole:
        if isinstance(module, nn.LayerNorm):
            return ParameterRole.LAYER_NORM_SCALE
        return ParameterRole.BIAS if name == "bias" else ParameterRole.WEIGHT

    model = Outer()
    roles = roles_of(model, role_of)

    assert list(roles) == [name for name, _ in model.named_parameters()]
    assert roles["scale"] is ParameterRole.WEIGHT
    assert roles["inner.0.bias"] is ParameterRole.BIAS
    assert roles["inner.1.bias"] is ParameterRole.LAYER_NORM_SCALE
