"""The order of the vision transformer's parameters: what submissions that number them rely on."""

from __future__ import annotations

from perfbench.workloads.imagenet_vit.model import VisionTransformer
from tests.unit.test_imagenet_vit import BASE, TINY, params_of


def test_parameters_are_in_the_order_of_the_forward_pass() -> None:
    names = [name for name, _ in VisionTransformer(params_of(BASE, **TINY)).named_parameters()]

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
