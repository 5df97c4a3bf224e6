"""A small DLRM: bottom MLP, one shared embedding table, pairwise products (or residual layers), top MLP.

Shape suffixes: b examples, c categorical columns (26), d embedding width, v vectors that interact (27).

Source: AlgoPerf criteo1tb (``DLRMsmall``, ``DLRMResNet``), measured figures of its specification, sections 4 and 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from perfbench.workloads.criteo.params import NUM_CATEGORICALS, NUM_INTEGERS, IdRounding, Params

if TYPE_CHECKING:
    from perfbench.workloads.criteo.bags import Bags

_LAYER_NORM_EPS = 1e-6


class ResidualLinear(nn.Module):
    """``h + dropout(relu(W h + b))``: the skip is added after activation and dropout."""

    def __init__(self, width: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, h: Tensor) -> Tensor:
        """Map ``[b, width]`` to the same shape."""
        out: Tensor = h + self.dropout(torch.relu(self.linear(h)))
        return out


class ClickModel(nn.Module):
    """Predicts the logit of a click from 13 counts and 26 hashed categories.

    Args:
        params: Widths, kind of layers, initialisation.
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params
        self.embedding = self._embedding()
        self.embedding_norm = _norm(params.embedding_dim) if params.layer_norm else nn.Identity()
        self.bottom = self._bottom()
        self.top = self._top(self._top_inputs())
        self.output = nn.Linear(params.top_widths[-1], 1)
        rows_v = NUM_CATEGORICALS + 1
        upper = torch.triu_indices(rows_v, rows_v)
        self.register_buffer("upper_triangle", upper[0] * rows_v + upper[1], persistent=False)
        self.upper_triangle: Tensor
        self._initialise()

    def forward(self, integers: Tensor, ids: Tensor) -> Tensor:
        """Return logits ``[b]`` for counts ``[b, 13]`` (int32, not negative) and buckets ``[b, 26]`` (int32)."""
        dtype = self.output.weight.dtype
        dense_bd = self.bottom(torch.log1p(integers.to(dtype)))
        embedded_bcd = self.embedding_norm(self.embedding(self.table_rows_of(ids)))
        joined = self._joined(dense_bd, embedded_bcd)
        logits: Tensor = self.output(self.top(joined)).squeeze(-1)
        return logits

    def table_rows_of(self, ids: Tensor) -> Tensor:
        """Return the table row of each bucket number, same shape; all columns share one table."""
        if self.params.id_rounding is IdRounding.ALGOPERF:
            ids = ids.to(torch.float32).to(ids.dtype)
        return ids.remainder(self.params.table_rows)

    def _joined(self, dense_bd: Tensor, embedded_bcd: Tensor) -> Tensor:
        if self.params.layers == "residual":
            return torch.cat([dense_bd, embedded_bcd.flatten(1)], dim=1)
        vectors_bvd = torch.cat([dense_bd.unsqueeze(1), embedded_bcd], dim=1)
        products_bvv = torch.bmm(vectors_bvd, vectors_bvd.transpose(1, 2))
        return torch.cat([dense_bd, products_bvv.flatten(1)[:, self.upper_triangle]], dim=1)

    def _top_inputs(self) -> int:
        rows_v = NUM_CATEGORICALS + 1
        last = self.params.bottom_widths[-1]
        if self.params.layers == "residual":
            return last + NUM_CATEGORICALS * self.params.embedding_dim
        return last + rows_v * (rows_v + 1) // 2

    def _embedding(self) -> nn.Embedding | Bags:
        sizes = self.params.table_rows, self.params.embedding_dim
        if self.params.embedding == "torchrec":
            from perfbench.workloads.criteo import bags

            return bags.Bags(*sizes)
        return nn.Embedding(*sizes)

    def _bottom(self) -> nn.Module:
        widths = self.params.bottom_widths
        if self.params.layers == "residual":
            return nn.Sequential(nn.Linear(NUM_INTEGERS, widths[0]), nn.ReLU(), *map(ResidualLinear, widths[1:]))
        if self.params.embedding == "torchrec" and not self.params.layer_norm:
            from perfbench.workloads.criteo import bags

            return bags.bottom(NUM_INTEGERS, widths)
        return _mlp(NUM_INTEGERS, widths, layer_norm=self.params.layer_norm)

    def _top(self, inputs: int) -> nn.Sequential:
        widths, rate = self.params.top_widths, self.params.dropout_rate
        if self.params.layers == "residual":
            middle = [ResidualLinear(width) for width in widths[1:-1]]
            return nn.Sequential(nn.Linear(inputs, widths[0]), nn.ReLU(), *middle, ResidualLinear(widths[-1], rate))
        mlp = _mlp(inputs, widths, layer_norm=self.params.layer_norm)
        mlp.append(nn.Dropout(rate))
        return mlp

    def _initialise(self) -> None:
        """Initialise from the global generator: table uniform and one-sided, bottom Glorot, top normal."""
        one_sided = self.params.embedding_init == "inverse_sqrt_rows"
        scale = 1 / math.sqrt(self.params.table_rows) if one_sided else 1.0
        nn.init.uniform_(self.embedding.weight, 0.0, scale)
        for layer in _linears(self.bottom):
            nn.init.xavier_uniform_(layer.weight)
        for layer in _linears(nn.Sequential(self.top, self.output)):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.in_features + layer.out_features)))
        for layer in _linears(self):
            nn.init.normal_(layer.bias, std=math.sqrt(1 / layer.out_features))


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=_LAYER_NORM_EPS)


def _mlp(inputs: int, widths: Sequence[int], *, layer_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        if layer_norm:
            layers.append(_norm(width))
        inputs = width
    return nn.Sequential(*layers)
