"""Layers whose curvature has Kronecker factors: dense layers and convolutions, read as matrices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

_Module = nn.Linear | nn.Conv2d


@dataclass(frozen=True, slots=True)
class Layer:
    """A dense layer or convolution with ``i`` inputs (of a patch; one more with a bias) and ``o`` outputs.

    A row is one application of the weight: an example, a position of a sequence, or a position of an image. All are
    treated alike (the setting "expand" of Eschenhagen et al., 2023, arXiv 2311.00636).
    """

    module: _Module

    @property
    def num_inputs(self) -> int:
        """Columns of the weight as a matrix, and one for the bias."""
        weight = self.module.weight
        return weight.numel() // weight.shape[0] + (self.module.bias is not None)

    @property
    def num_outputs(self) -> int:
        """Rows of the weight as a matrix."""
        return self.module.weight.shape[0]

    def parameters(self) -> list[nn.Parameter]:
        """Return the weight and, if there is one, the bias."""
        return list(self.module.parameters(recurse=False))

    def input_rows(self, inputs: Tensor) -> Tensor:
        """Return what the weight is applied to, shape ``[rows, i]``: patches of images, ones for the bias."""
        if isinstance(self.module, nn.Conv2d):
            m = self.module
            assert not isinstance(m.padding, str), "only convolutions with numbers are chosen"
            inputs = F.unfold(inputs, m.kernel_size, m.dilation, m.padding, m.stride).transpose(1, 2)
        rows = inputs.reshape(-1, inputs.shape[-1])
        return rows if self.module.bias is None else F.pad(rows, (0, 1), value=1.0)

    def output_rows(self, outputs: Tensor) -> Tensor:
        """Return outputs or their gradients, shape ``[rows, o]``."""
        if isinstance(self.module, nn.Conv2d):
            outputs = outputs.flatten(2).transpose(1, 2)
        return outputs.reshape(-1, outputs.shape[-1])

    def gradient(self) -> Tensor | None:
        """Return the gradients of weight and bias as one matrix, shape ``[o, i]``; ``None`` if there are none."""
        weight, bias = self.module.weight, self.module.bias
        if weight.grad is None:
            return None
        matrix = weight.grad.reshape(self.num_outputs, -1)
        return matrix if bias is None or bias.grad is None else torch.cat([matrix, bias.grad[:, None]], dim=1)

    def set_gradient(self, matrix: Tensor) -> None:
        """Replace the gradients of weight and bias by a matrix of shape ``[o, i]``."""
        weight, bias = self.module.weight, self.module.bias
        num_weights = weight.numel() // weight.shape[0]
        weight.grad = matrix[:, :num_weights].reshape(weight.shape)
        if bias is not None:
            bias.grad = matrix[:, num_weights]


def layers_of(model: nn.Module, *, max_dimension: int) -> dict[str, Layer]:
    """Return the layers that can be treated, by name.

    Left out are parameters that several modules share, grouped convolutions and those padded in other ways than with
    zeros, subclasses (which may use their weight in other ways), and layers with a longer side than ``max_dimension``.
    """
    uses = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    layers = {name: Layer(module) for name, module in model.named_modules() if _is_plain(module)}
    return {
        name: layer
        for name, layer in layers.items()
        if max(layer.num_inputs, layer.num_outputs) <= max_dimension
        and all(uses[id(p)] == 1 and p.requires_grad for p in layer.parameters())
    }


def parameters_of(layers: Iterable[Layer]) -> list[nn.Parameter]:
    """Return all weights and biases, layer by layer."""
    return [parameter for layer in layers for parameter in layer.parameters()]


def _is_plain(module: nn.Module) -> bool:
    if type(module) is nn.Conv2d:
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear
