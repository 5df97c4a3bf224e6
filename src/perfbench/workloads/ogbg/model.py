"""The graph network: rounds in which bonds, atoms and whole graphs update one another.

Shape suffixes: p packs, n atoms, m bonds, e edges (each bond in both directions), g graphs, d and h widths, t tasks.

Source: AlgoPerf ``ogbg`` (after Battaglia et al., 2018, arXiv:1806.01261), specification section 4.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from perfbench.workloads.ogbg.params import ATOM_CATEGORIES, BOND_CATEGORIES, Params

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # of torch, about scripts that nothing here calls
    from torch_geometric.utils import scatter

_LAYER_NORM_EPS = 1e-6
_TRUNCATION = 2.0
_STD_OF_TRUNCATED_NORMAL = 0.87962566103423978
"""Standard deviation of a unit normal that is truncated at +-2."""


class Encoder(nn.Linear):
    """Category numbers, taken as numbers, to a latent vector."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """Who is joined to whom, numbered over all packs of a batch."""

    senders: Tensor
    """Shape ``[e]``: bonds forwards, then the same bonds backwards."""
    receivers: Tensor
    """Shape ``[e]``."""
    graph_of_atom: Tensor
    """Shape ``[n]``."""
    graph_of_edge: Tensor
    """Shape ``[e]``."""
    num_graphs: int

    @classmethod
    def of(cls, bonds_pm2: Tensor, graph_of_atom_pn: Tensor, num_graphs: int) -> Wiring:
        """Number atoms and graphs through; ``num_graphs`` are in each pack."""
        num_packs, num_atoms = graph_of_atom_pn.shape
        pack = torch.arange(num_packs, device=bonds_pm2.device, dtype=bonds_pm2.dtype).unsqueeze(1)
        forwards, backwards = (bonds_pm2 + pack.unsqueeze(2) * num_atoms).flatten(0, 1).unbind(1)
        graph_of_atom = (graph_of_atom_pn + pack * num_graphs).flatten()
        senders = torch.cat([forwards, backwards])
        return cls(
            senders=senders,
            receivers=torch.cat([backwards, forwards]),
            graph_of_atom=graph_of_atom,
            graph_of_edge=graph_of_atom[senders],
            num_graphs=num_packs * num_graphs,
        )


class Update(nn.Module):
    """An MLP on concatenated inputs, each layer: linear, layer norm, activation, dropout.

    ``W [a, b[i]]`` is ``W_a a + (W_b b)[i]``: an input that is looked up for every edge is multiplied before it is
    looked up, on as many rows as there are atoms or graphs. Less than half of the multiplications remain, the function
    and its parameters are the same.

    Args:
        input_widths: Of the blocks that are concatenated, in order.
        params: Widths of the layers, activation, dropout.
    """

    def __init__(self, input_widths: Sequence[int], params: Params) -> None:
        super().__init__()
        self.input_widths = tuple(input_widths)
        widths = (sum(input_widths), *params.hidden_widths)
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=_LAYER_NORM_EPS) for width in params.hidden_widths)
        self.dropouts = nn.ModuleList(nn.Dropout(params.dropout_rate) for _ in params.hidden_widths)
        self.activation = _activation(params)

    def projected(self, number: int, values: Tensor) -> Tensor:
        """Return block ``number``'s share of the first layer, before the bias: ``[rows, h]``."""
        first = sum(self.input_widths[:number])
        return functional.linear(values, self._first_linear.weight[:, first : first + self.input_widths[number]])

    def forward(self, projected: Tensor) -> Tensor:
        """Return ``[rows, h]`` from the sum of all blocks' shares."""
        values = projected + self._first_linear.bias
        for number, (linear, norm, dropout) in enumerate(zip(self.linears, self.norms, self.dropouts, strict=True)):
            values = values if number == 0 else linear(values)
            values = dropout(self.activation(norm(values)))
        return values

    @property
    def _first_linear(self) -> nn.Linear:
        linear = self.linears[0]
        assert isinstance(linear, nn.Linear)
        return linear


class Round(nn.Module):
    """Updates edges, then atoms, then graphs; all that meets is summed.

    Args:
        widths: Of edges, atoms and graphs before the round.
        params: Of the updates.
    """

    def __init__(self, widths: tuple[int, int, int], params: Params) -> None:
        super().__init__()
        (edge, atom, graph), hidden = widths, params.hidden_widths[-1]
        self.edge = Update((edge, atom, atom, graph), params)
        self.atom = Update((atom, hidden, hidden, graph), params)
        self.graph = Update((hidden, hidden, graph), params)

    def forward(
        self, edges_ed: Tensor, atoms_nd: Tensor, graphs_gd: Tensor | None, wiring: Wiring
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new edges ``[e, h]``, atoms ``[n, h]`` and graphs ``[g, h]``; graphs that are ``None`` are zero."""
        edges_eh: Tensor = self.edge(self._seen_by_edges(edges_ed, atoms_nd, graphs_gd, wiring))
        atoms_nh: Tensor = self.atom(self._seen_by_atoms(edges_eh, atoms_nd, graphs_gd, wiring))
        graphs_gh: Tensor = self.graph(self._seen_by_graphs(edges_eh, atoms_nh, graphs_gd, wiring))
        return edges_eh, atoms_nh, graphs_gh

    def _seen_by_edges(self, edges_ed: Tensor, atoms_nd: Tensor, graphs_gd: Tensor | None, wiring: Wiring) -> Tensor:
        projected = (
            self.edge.projected(0, edges_ed)
            + self.edge.projected(1, atoms_nd)[wiring.senders]
            + self.edge.projected(2, atoms_nd)[wiring.receivers]
        )
        if graphs_gd is not None:
            projected = projected + self.edge.projected(3, graphs_gd)[wiring.graph_of_edge]
        return projected

    def _seen_by_atoms(self, edges_eh: Tensor, atoms_nd: Tensor, graphs_gd: Tensor | None, wiring: Wiring) -> Tensor:
        sent, received = (_summed(edges_eh, index, len(atoms_nd)) for index in (wiring.senders, wiring.receivers))
        projected = self.atom.projected(0, atoms_nd) + self.atom.projected(1, sent) + self.atom.projected(2, received)
        if graphs_gd is not None:
            projected = projected + self.atom.projected(3, graphs_gd)[wiring.graph_of_atom]
        return projected

    def _seen_by_graphs(self, edges_eh: Tensor, atoms_nh: Tensor, graphs_gd: Tensor | None, wiring: Wiring) -> Tensor:
        atoms_gh = _summed(atoms_nh, wiring.graph_of_atom, wiring.num_graphs)
        edges_gh = _summed(edges_eh, wiring.graph_of_edge, wiring.num_graphs)
        projected = self.graph.projected(0, atoms_gh) + self.graph.projected(1, edges_gh)
        return projected if graphs_gd is None else projected + self.graph.projected(2, graphs_gd)


class GraphNetwork(nn.Module):
    """Predicts the logits of all tasks for every molecule of a batch of packs.

    Args:
        params: Widths, number of rounds, activation, dropout.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        latent, hidden = params.latent_width, params.hidden_widths[-1]
        self.atom_encoder = Encoder(len(ATOM_CATEGORIES), latent)
        self.bond_encoder = Encoder(len(BOND_CATEGORIES), latent)
        # Graphs start as zeros of the width of the output.
        widths = [(latent, latent, params.num_tasks)] + [(hidden, hidden, hidden)] * (params.num_rounds - 1)
        self.rounds = nn.ModuleList(Round(width, params) for width in widths)
        self.decoder = nn.Linear(hidden, params.num_tasks)
        self._initialise()

    def forward(
        self, atoms: Tensor, bonds: Tensor, bond_features: Tensor, graph_of_atom: Tensor, *, num_graphs: int
    ) -> Tensor:
        """Return logits ``[p * g, t]``.

        Args:
            atoms: Category numbers ``[p, n, 9]``.
            bonds: Both ends of each bond as atom numbers within the pack, ``[p, m, 2]``.
            bond_features: Category numbers ``[p, m, 3]``.
            graph_of_atom: Graph numbers within the pack, ``[p, n]``.
            num_graphs: g, the graphs of each pack.
        """
        wiring = Wiring.of(bonds, graph_of_atom, num_graphs)
        dtype = self.decoder.weight.dtype
        atoms_nd = self.atom_encoder(atoms.flatten(0, 1).to(dtype))
        bonds_md = self.bond_encoder(bond_features.flatten(0, 1).to(dtype))
        edges_ed = torch.cat([bonds_md, bonds_md])
        graphs_gd: Tensor | None = None
        for update in self.rounds:
            edges_ed, atoms_nd, graphs_gd = update(edges_ed, atoms_nd, graphs_gd, wiring)
        logits: Tensor = self.decoder(graphs_gd)
        return logits

    def _initialise(self) -> None:
        """Initialise from the global generator: weights with variance 1 / inputs, truncated ("LeCun normal")."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = math.sqrt(1 / module.in_features) / _STD_OF_TRUNCATED_NORMAL
                limit = _TRUNCATION * std
                nn.init.trunc_normal_(module.weight, std=std, a=-limit, b=limit)
                nn.init.zeros_(module.bias)


def _summed(values: Tensor, index: Tensor, num_rows: int) -> Tensor:
    """Return ``[num_rows, h]``: the sum of all rows of ``values`` that ``index`` sends to each row."""
    sums: Tensor = scatter(values, index.long(), dim_size=num_rows, reduce="sum")
    return sums


def _activation(params: Params) -> nn.Module:
    match params.activation:
        case "relu":
            return nn.ReLU()
        case "gelu":
            return nn.GELU(approximate="tanh")
        case "silu":
            return nn.SiLU()
