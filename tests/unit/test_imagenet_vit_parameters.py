"""The order of parameters, which the module's docstring states."""

from __future__ import annotations

from perfbench.compose import compose_workload
from perfbench.workloads.imagenet_vit import model
from perfbench.workloads.imagenet_vit.model import VisionTransformer
from perfbench.workloads.imagenet_vit.params import Params


def test_parameters_are_in_the_order_of_the_forward_pass() -> None:
    params = Params.from_mapping(compose_workload("imagenet_vit", scale="mini").params)
    assert "Parameters are in the order of the forward pass" in str(model.__doc__)
    names = [name for name, _ in VisionTransformer(params).named_parameters()]

    block = [name.removeprefix("blocks.0.").rpartition(".")[0] for name in names if name.startswith("blocks.0.")]
    assert names[0] == "patches.weight"
    assert list(dict.fromkeys(block)) == [
        "attention_norm",
        "attention.query",
        "attention.key",
        "attention.value",
        "attention.out",
        "mlp_norm",
        "mlp.inner",
        "mlp.outer",
    ]
    last = list(dict.fromkeys(name.rpartition(".")[0] for name in names))[-3:]
    assert last == ["encoder_norm", "pre_logits", "head"]
