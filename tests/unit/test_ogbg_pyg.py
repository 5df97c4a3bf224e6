"""What a user of PyTorch Geometric finds: the prepared molecules as a data set of it, and our batches as its."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GIN, global_add_pool
from torch_geometric.utils import from_smiles
from torch_geometric.utils.smiles import e_map, x_map

from perfbench.api.workload import Shard
from perfbench.spec.workload import Split
from perfbench.workloads.ogbg.model import _summed
from perfbench.workloads.ogbg.params import ATOM_CATEGORIES, BOND_CATEGORIES
from perfbench.workloads.ogbg.pyg import MoleculeDataset, as_batch
from perfbench.workloads.ogbg.store import MoleculeStore
from perfbench.workloads.ogbg.workload import OgbgWorkload
from tests.unit.test_ogbg_packing import NUM_TASKS, SIZES, folder, small_spec

__all__ = ["folder"]


def test_a_molecule_is_what_is_stored(folder: Path) -> None:
    dataset, store = MoleculeDataset(folder), MoleculeStore.read(folder, "validation")

    molecule = dataset[int(store.numbers[7])]

    atoms = store.atoms[store.atom_starts[7] : store.atom_starts[8]]
    bonds = store.bonds[store.bond_starts[7] : store.bond_starts[8]]
    features = store.bond_features[store.bond_starts[7] : store.bond_starts[8]]
    assert len(dataset) == sum(SIZES.values())
    assert molecule.validate()
    assert not molecule.is_directed()
    assert molecule.x.tolist() == atoms.tolist()
    assert molecule.edge_index.T.tolist() == [*bonds.tolist(), *bonds[:, ::-1].tolist()]
    assert molecule.edge_attr.tolist() == [*features.tolist(), *features.tolist()]
    assert molecule.y.nan_to_num(-1).tolist() == store.labels[[7]].tolist()


def test_splits_have_the_public_names_and_select_molecules(folder: Path) -> None:
    dataset = MoleculeDataset(folder)

    numbers = dataset.get_idx_split()

    assert {name: len(of_split) for name, of_split in numbers.items()} == {"train": 300, "valid": 101, "test": 97}
    assert sorted(torch.cat(list(numbers.values())).tolist()) == list(range(len(dataset)))
    assert len(dataset[numbers["valid"]]) == 101
    assert dataset.num_tasks == NUM_TASKS


def test_a_transform_is_applied(folder: Path) -> None:
    def marked(molecule: Data) -> Data:
        molecule.is_marked = True
        return molecule

    assert MoleculeDataset(folder, transform=marked)[0].is_marked


def pooled(model: GIN, batch: Batch, num_graphs: int) -> Tensor:
    vectors: Tensor = global_add_pool(model(batch.x.float(), batch.edge_index), batch.batch, size=num_graphs)
    return vectors


def test_a_model_of_theirs_sees_the_same_molecules_in_our_batches_and_in_theirs(folder: Path) -> None:
    """In packs of constant shape, whose dummy graphs change nothing."""
    workload = OgbgWorkload(small_spec(), folder)
    dataset = MoleculeDataset(folder)
    loader = DataLoader(dataset[dataset.get_idx_split()["valid"]], batch_size=101)
    torch.manual_seed(0)
    model = GIN(9, 16, num_layers=2)
    shapes, vectors, labels = set(), [], []

    for packed in workload.eval_batches(Split.VALIDATION, global_batch_size=64, seed=0, shard=Shard()):
        batch = as_batch(packed)
        assert batch.validate()
        shapes.add((tuple(batch.x.shape), tuple(batch.edge_index.shape), tuple(batch.y.shape)))
        is_graph = batch.weights > 0
        vectors.append(pooled(model, batch, len(batch.weights))[is_graph])
        labels.append(batch.y[is_graph])

    (whole,) = loader
    assert len(shapes) == 1
    torch.testing.assert_close(torch.cat(vectors), pooled(model, whole, whole.num_graphs), rtol=1e-5, atol=1e-4)
    assert torch.equal(torch.cat(labels).nan_to_num(-1), whole.y.nan_to_num(-1))


def test_sums_are_the_bits_of_torch_s() -> None:
    values, index = torch.randn(400, 5), torch.randint(0, 7, (400,), dtype=torch.int32)

    assert torch.equal(_summed(values, index, 9), torch.zeros(9, 5).index_add(0, index, values))


@pytest.mark.parametrize(
    "text", ["CC(=O)Oc1ccccc1C(=O)O", "Cl[C@H](/C=C/C)Br", "C[N+](C)(C)CC(=O)[O-]", "C1CC1C#N", "O=S(=O)(N)c1ccccc1"]
)
def test_their_columns_are_ours_once_renumbered(text: str) -> None:
    """They number atoms from 1 and hybridisations and bond types by rdkit's list, and have no category "another"."""
    from rdkit import Chem

    from perfbench.workloads.ogbg.molecules import described

    theirs, ours = from_smiles(text), described(Chem.MolFromSmiles(text))
    hybridisations = [x_map["hybridization"].index(name) for name in ("SP", "SP2", "SP3", "SP3D", "SP3D2")]
    types = [e_map["bond_type"].index(name) for name in ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")]
    stereos = [e_map["stereo"].index(f"STEREO{name}") for name in ("NONE", "Z", "E", "CIS", "TRANS", "ANY")]

    atoms = theirs.x.clone()
    atoms[:, 0] -= 1
    atoms[:, 6] = torch.tensor([hybridisations.index(number) for number in atoms[:, 6].tolist()])
    bonds = [
        (types.index(kind), stereos.index(stereo), conjugated) for kind, stereo, conjugated in theirs.edge_attr.tolist()
    ]

    assert atoms.tolist() == [list(row) for row in ours.atoms]
    assert sorted(bonds) == sorted([*ours.bond_features, *ours.bond_features])
    assert [len(x_map[name]) for name in x_map] != list(ATOM_CATEGORIES)
    assert [len(e_map[name]) for name in e_map] != list(BOND_CATEGORIES)
