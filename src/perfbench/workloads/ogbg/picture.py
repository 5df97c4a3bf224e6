"""What a batch looks like: molecules as drawn formulas, and how full its packs are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from perfbench.api.picture import GraphPanel, Picture, padding_share
from perfbench.api.workload import Batch

_NUM_SHOWN = 12
_NUM_COLUMNS = 6
_LINE_WIDTHS = (1.0, 2.2, 3.6, 1.6)
"""Of single, double, triple and aromatic bonds: the first categories of a bond's type."""


def molecules(logits: Tensor, batch: Batch) -> Picture:
    """Return the graphs of the first packs with their sizes and how many of their labels are predicted.

    Args:
        logits: ``[p * g, t]``.
        batch: Of the workload.
    """
    num_packs, num_atoms = batch["graph_of_atom"].shape
    slots = len(batch["weights"]) // num_packs
    chosen = (batch["weights"] > 0).nonzero().flatten()[:_NUM_SHOWN].tolist()
    panels = [_panel(batch, logits, *divmod(number, slots), slots=slots) for number in chosen]
    is_graph = batch["weights"].view(num_packs, slots) > 0
    is_atom = is_graph.gather(1, batch["graph_of_atom"].long())
    is_bond = is_atom.gather(1, batch["bonds"][:, :, 0].long())
    shares = ", ".join(
        f"{name} {padding_share(int(used.sum()), used.numel())}"
        for name, used in (("graphs", is_graph), ("atoms", is_atom), ("bonds", is_bond))
    )
    return Picture(
        caption=f"{len(panels)} of {int(is_graph.sum())} graphs in {num_packs} packs of {num_atoms} atoms: {shares}",
        panels=tuple(panels),
        num_columns=_NUM_COLUMNS,
    )


def _panel(batch: Batch, logits: Tensor, pack: int, graph: int, *, slots: int) -> GraphPanel:
    """Return one graph of a pack."""
    own = (batch["graph_of_atom"][pack] == graph).nonzero().flatten().cpu().numpy()
    bonds = batch["bonds"][pack].cpu().numpy().astype(np.int64)
    is_own = np.isin(bonds[:, 0], own)
    edges = np.searchsorted(own, bonds[is_own])
    elements = batch["atoms"][pack, own, 0].cpu().numpy().astype(int) + 1
    kinds = batch["bond_features"][pack].cpu().numpy()[is_own, 0].astype(int)
    row = pack * slots + graph
    labels = batch["targets"][row]
    is_right = (logits[row] > 0) == (labels > 0)
    known = labels >= 0
    return GraphPanel(
        title=f"{len(own)} atoms, {len(edges)} bonds\nright: {int(is_right[known].sum())} of {int(known.sum())} labels",
        places=_places(elements, edges),
        edges=edges,
        labels=tuple(_symbol(element) for element in elements.tolist()),
        widths=np.asarray([_LINE_WIDTHS[min(kind, len(_LINE_WIDTHS) - 1)] for kind in kinds], dtype=np.float32),
    )


def _places(elements: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return where a chemist would put the atoms, ``[n, 2]``; any graph will do, valences are not looked at."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    molecule = Chem.RWMol()
    for _ in elements:
        molecule.AddAtom(Chem.Atom(6))
    for first, second in {(min(edge), max(edge)) for edge in edges.tolist() if edge[0] != edge[1]}:
        molecule.AddBond(int(first), int(second), Chem.BondType.SINGLE)
    Chem.FastFindRings(molecule)
    rdDepictor.Compute2DCoords(molecule)
    places: NDArray[np.float32] = molecule.GetConformer().GetPositions()[:, :2].astype(np.float32)
    return places


def _symbol(atomic_number: int) -> str:
    """Return the element's symbol; carbon, the commonest, is a plain dot."""
    from rdkit import Chem

    return "" if atomic_number == 6 else str(Chem.GetPeriodicTable().GetElementSymbol(min(atomic_number, 118)))  # noqa: PLR2004
