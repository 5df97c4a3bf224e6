"""Source of the figures: AlgoPerf ogbg specification, sections 4, 5 and 11 (measured on the reference model)."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perfbench.compose import compose_workload
from perfbench.workloads.ogbg.model import GraphNetwork, Update, Wiring
from perfbench.workloads.ogbg.params import Params
from perfbench.workloads.ogbg.workload import OgbgWorkload

VARIANTS = ("ogbg", "ogbg_gelu", "ogbg_silu", "ogbg_model_size")

ATOMS_A = [[5, 0, 3, 5, 1, 0, 1, 1, 1], [6, 0, 2, 5, 0, 0, 1, 1, 1], [7, 0, 1, 5, 1, 0, 2, 0, 0]]
ATOMS_B = [[5, 0, 4, 5, 3, 0, 2, 0, 0], [16, 0, 1, 5, 0, 0, 2, 0, 0]]


def params_of(variant: str, scale: str = "full", **changes: object) -> Params:
    return Params.from_mapping(compose_workload(variant, scale=scale).params | changes)


def meta_model(params: Params) -> GraphNetwork:
    with torch.device("meta"):
        return GraphNetwork(params)


@pytest.mark.parametrize(
    ("variant", "num_parameters", "num_tensors"),
    [
        ("ogbg", 3_554_176, 66),
        ("ogbg_gelu", 3_554_176, 66),
        ("ogbg_silu", 3_554_176, 66),
        ("ogbg_model_size", 2_571_648, 78),
    ],
)
def test_parameter_counts_at_full_size(variant: str, num_parameters: int, num_tensors: int) -> None:
    parameters = list(meta_model(params_of(variant)).parameters())

    assert sum(parameter.numel() for parameter in parameters) == num_parameters
    assert len(parameters) == num_tensors


@pytest.mark.parametrize(("num_rounds", "num_tasks", "count"), [(2, 32, 88_096), (3, 32, 133_728), (3, 128, 158_400)])
def test_parameter_counts_at_reduced_size(num_rounds: int, num_tasks: int, count: int) -> None:
    model = meta_model(params_of("ogbg", scale="mini", num_rounds=num_rounds, num_tasks=num_tasks))

    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("variant", "tensors", "numbers"),
    [
        (
            "ogbg",
            {"weight": 16, "embedding": 2, "bias": 18, "layer_norm_scale": 15, "layer_norm_bias": 15},
            {
                "weight": 3_538_944,
                "embedding": 3_072,
                "bias": 4_480,
                "layer_norm_scale": 3_840,
                "layer_norm_bias": 3_840,
            },
        ),
        (
            "ogbg_model_size",
            {"weight": 19, "embedding": 2, "bias": 21, "layer_norm_scale": 18, "layer_norm_bias": 18},
            {
                "weight": 2_555_904,
                "embedding": 1_536,
                "bias": 4_992,
                "layer_norm_scale": 4_608,
                "layer_norm_bias": 4_608,
            },
        ),
    ],
)
def test_roles(variant: str, tensors: dict[str, int], numbers: dict[str, int]) -> None:
    model = meta_model(params_of(variant))

    roles = OgbgWorkload.parameter_roles(None, model)  # type: ignore[arg-type]  # needs no data

    assert Counter(role.value for role in roles.values()) == tensors
    counted: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counted[roles[name].value] += parameter.numel()
    assert counted == numbers


def fill_by_formula(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            o = torch.arange(module.out_features, dtype=torch.float64)
            i = torch.arange(module.in_features, dtype=torch.float64)
            weight = math.sqrt(2 / module.in_features) * torch.sin((o[:, None] + 1) * (i + 1))
            module.weight.data.copy_(weight)
            module.bias.data.copy_(0.01 * torch.sin(o))
        if isinstance(module, nn.LayerNorm):
            c = torch.arange(module.normalized_shape[0], dtype=torch.float64)
            module.weight.data.copy_(1 + 0.1 * torch.sin(c))
            module.bias.data.copy_(0.01 * torch.cos(c))


def two_molecules(*, spare_atoms: int = 1, spare_bonds: int = 0, spare_graphs: int = 1) -> dict[str, Any]:
    """Return molecules A and B of the specification in one pack, with spare room."""
    atoms = ATOMS_A + ATOMS_B + [[0] * 9] * spare_atoms
    bonds = [[0, 1], [1, 2], [3, 4]] + [[5, 5]] * spare_bonds
    features = [[3, 0, 1], [0, 0, 0], [0, 0, 0]] + [[0, 0, 0]] * spare_bonds
    return {
        "atoms": torch.tensor([atoms], dtype=torch.uint8),
        "bonds": torch.tensor([bonds], dtype=torch.int32),
        "bond_features": torch.tensor([features], dtype=torch.uint8),
        "graph_of_atom": torch.tensor([[0, 0, 0, 1, 1] + [2] * spare_atoms], dtype=torch.int32),
        "num_graphs": 2 + spare_graphs,
    }


FORMULA_LOGITS: list[tuple[Any, ...]] = [
    (
        "ogbg",
        [0.491986, -0.184133, -0.666068, 1.466655],
        [0.616366, -0.251992, -0.785956, 1.748193],
        -0.073233,
        33.05029,
        164.0418,
    ),
    (
        "ogbg_gelu",
        [0.362806, -0.278184, -0.544717, 1.495274],
        [0.610920, -0.331074, -0.779490, 1.838912],
        -0.094682,
        22.02443,
        163.5121,
    ),
    (
        "ogbg_silu",
        [0.244720, -0.301683, -0.627047, 1.647109],
        [0.577605, -0.333513, -0.786816, 2.083859],
        -0.087221,
        15.54784,
        147.4641,
    ),
    (
        "ogbg_model_size",
        [0.885379, -0.063445, -0.267470, 3.565835],
        [1.073143, -0.029346, -0.639049, 5.084108],
        0.023845,
        57.62913,
        177.1303,
    ),
]


@pytest.mark.parametrize("figures", FORMULA_LOGITS, ids=lambda figures: figures[0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 2e-6), (torch.float32, 1e-5)])
def test_logits_with_formula_weights(figures: tuple[Any, ...], dtype: torch.dtype, tolerance: float) -> None:
    variant, first, second, last, total, squares = figures
    model = GraphNetwork(params_of(variant)).to(dtype).eval()
    fill_by_formula(model)

    with torch.no_grad():
        logits = model(**two_molecules())

    assert logits[0, :4].tolist() == pytest.approx(first, abs=tolerance)
    assert logits[1, :4].tolist() == pytest.approx(second, abs=tolerance)
    assert float(logits[0, 127]) == pytest.approx(last, abs=tolerance)
    assert float(logits[:2].sum()) == pytest.approx(total, abs=20 * tolerance)
    assert float(logits[:2].square().sum()) == pytest.approx(squares, abs=100 * tolerance)


def obvious_logits(model: GraphNetwork, inputs: dict[str, Any]) -> Tensor:
    """Concatenate everything for every edge, as the paper writes it."""
    wiring = Wiring.of(inputs["bonds"], inputs["graph_of_atom"], inputs["num_graphs"])
    senders, receivers = wiring.senders.long(), wiring.receivers.long()
    graph_of_atom, graph_of_edge = wiring.graph_of_atom.long(), wiring.graph_of_edge.long()

    def mlp(update: Update, values: Tensor) -> Tensor:
        for linear, norm in zip(update.linears, update.norms, strict=True):
            values = update.activation(norm(linear(values)))
        return values

    def summed(values: Tensor, index: Tensor, rows: int) -> Tensor:
        return torch.stack([values[index == row].sum(dim=0) for row in range(rows)])

    x = model.atom_encoder(inputs["atoms"].flatten(0, 1).double())
    e = model.bond_encoder(inputs["bond_features"].flatten(0, 1).double()).repeat(2, 1)
    g = torch.zeros(wiring.num_graphs, model.decoder.out_features, dtype=torch.float64)
    for layer in model.rounds:
        e = mlp(layer.edge, torch.cat([e, x[senders], x[receivers], g[graph_of_edge]], dim=1))  # type: ignore[arg-type]
        sent, received = summed(e, senders, len(x)), summed(e, receivers, len(x))
        x = mlp(layer.atom, torch.cat([x, sent, received, g[graph_of_atom]], dim=1))  # type: ignore[arg-type]
        pooled = [summed(x, graph_of_atom, len(g)), summed(e, graph_of_edge, len(g)), g]
        g = mlp(layer.graph, torch.cat(pooled, dim=1))  # type: ignore[arg-type]
    logits: Tensor = model.decoder(g)
    return logits


@pytest.mark.parametrize("variant", VARIANTS)
def test_multiplying_before_looking_up_changes_nothing(variant: str) -> None:
    torch.manual_seed(0)
    model = GraphNetwork(params_of(variant, scale="mini")).double().eval()
    num_atoms, num_bonds = 7, 6
    inputs = {
        "atoms": torch.randint(0, 9, (2, num_atoms, 9), dtype=torch.uint8),
        "bonds": torch.randint(0, num_atoms, (2, num_bonds, 2), dtype=torch.int32),
        "bond_features": torch.randint(0, 3, (2, num_bonds, 3), dtype=torch.uint8),
        "graph_of_atom": torch.tensor([[0, 0, 0, 1, 1, 2, 2]] * 2, dtype=torch.int32),
        "num_graphs": 3,
    }

    torch.testing.assert_close(model(**inputs), obvious_logits(model, inputs), rtol=1e-10, atol=1e-10)


def test_padding_does_not_change_the_logits() -> None:
    torch.manual_seed(0)
    model = GraphNetwork(params_of("ogbg")).eval()

    with torch.no_grad():
        few = model(**two_molecules())
        many = model(**two_molecules(spare_atoms=20, spare_bonds=9, spare_graphs=5))

    torch.testing.assert_close(few[:2], many[:2], rtol=0, atol=1e-5)


def test_the_order_of_atoms_does_not_matter() -> None:
    torch.manual_seed(0)
    model = GraphNetwork(params_of("ogbg")).double().eval()
    inputs = two_molecules()
    order = torch.tensor([2, 0, 1, 4, 3, 5])
    place_of = torch.argsort(order)
    moved = inputs | {
        "atoms": inputs["atoms"][:, order],
        "bonds": place_of[inputs["bonds"].long()].to(torch.int32).flip(1),
        "bond_features": inputs["bond_features"].flip(1),
    }

    with torch.no_grad():
        torch.testing.assert_close(model(**inputs)[:2], model(**moved)[:2], rtol=0, atol=1e-10)


def test_a_dummy_graph_has_zero_logits_at_initialisation() -> None:
    torch.manual_seed(0)
    model = GraphNetwork(params_of("ogbg")).eval()

    with torch.no_grad():
        assert model(**two_molecules(spare_bonds=4))[2].abs().max() == 0


def test_initialisation_is_a_normal_truncated_at_two_deviations() -> None:
    torch.manual_seed(0)
    model = GraphNetwork(params_of("ogbg"))
    later_edge = next(m for m in model.rounds[1].edge.linears)  # type: ignore[union-attr]

    for linear, std, largest in (
        (model.atom_encoder, 1 / 3, 0.758),
        (later_edge, 1 / 32, 0.0711),
        (model.decoder, 0.0625, 0.142),
    ):
        assert isinstance(linear, nn.Linear)
        assert float(linear.weight.detach().std()) == pytest.approx(std, rel=0.03)
        assert float(linear.weight.detach().abs().max()) <= largest * 1.001
        assert float(linear.bias.detach().abs().max()) == 0


def test_widths_follow_one_another() -> None:
    update = meta_model(params_of("ogbg_model_size")).rounds[1].edge
    assert isinstance(update, Update)

    widths = [(m.in_features, m.out_features) for m in update.linears if isinstance(m, nn.Linear)]

    assert widths == [(1024, 256), (256, 256)]
    assert all(first[1] == second[0] for first, second in pairwise(widths))
