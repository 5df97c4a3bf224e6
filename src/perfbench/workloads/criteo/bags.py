"""Table and first layers as torchrec has them: ``workload.params.embedding=torchrec``. Equal to the default in numbers.

Imported only where it is asked for: the import alone takes two seconds.

``torchrec.models.dlrm.InteractionArch`` is not here: it leaves out the products of vectors with themselves, which the
published model has. Nor is ``OverArch``: it has no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchrec.models.dlrm import DenseArch
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

_FEATURE = "category"


class Bags(nn.Module):
    """One table, looked up in bags of one row each.

    All columns share the table, so they are one feature with as many bags as there are ids. A feature for each column
    would give 26 lookups and 26 dense gradients of the whole table to add up: eight times slower (docs/adr/0005).

    Args:
        num_rows: Of the table.
        width: Of a row.
    """

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        table = EmbeddingBagConfig(
            name="table",
            num_embeddings=num_rows,
            embedding_dim=width,
            feature_names=[_FEATURE],
            init_fn=_as_it_is,
        )
        self.collection = EmbeddingBagCollection(tables=[table])

    @property
    def weight(self) -> nn.Parameter:
        """The table ``[rows, d]``."""
        (bag,) = self.collection.embedding_bags.values()
        assert isinstance(bag.weight, nn.Parameter)
        return bag.weight

    def forward(self, rows_bc: Tensor) -> Tensor:
        """Return vectors ``[b, c, d]`` for table rows ``[b, c]``."""
        count = rows_bc.numel()
        # Everything that torchrec would otherwise find out from the lengths, and wait for on a GPU.
        bags = KeyedJaggedTensor(
            keys=[_FEATURE],
            values=rows_bc.reshape(-1),
            lengths=torch.ones(count, dtype=rows_bc.dtype, device=rows_bc.device),
            offsets=torch.arange(count + 1, dtype=rows_bc.dtype, device=rows_bc.device),
            stride=count,
            length_per_key=[count],
            offset_per_key=[0, count],
        )
        pooled: Tensor = self.collection(bags).values()
        return pooled.view(*rows_bc.shape, -1)


def _as_it_is(weight: Tensor) -> Tensor:
    """Draw nothing: a seed gives the weights that it gives the default."""
    return weight


def bottom(num_inputs: int, widths: Sequence[int]) -> nn.Module:
    """Return the layers of the counts, ``[b, inputs]`` to ``[b, widths[-1]]``."""
    layers: nn.Module = DenseArch(num_inputs, list(widths))
    return layers
