"""The Kronecker factors of each layer's curvature: how they are gathered, averaged, damped and inverted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from perfbench.api import StateDict
from submissions.kfac.layers import Layer


@dataclass(frozen=True, slots=True)
class Factors:
    """Of one layer; its tensors are only ever changed in place.

    ``inputs`` is the mean of ``a a^T`` over rows, shape ``[i, i]``; ``outputs`` the sum of ``b b^T`` over rows, divided
    by the number of valid examples, shape ``[o, o]``. Inverses are damped.
    """

    inputs: Tensor
    outputs: Tensor
    inverse_inputs: Tensor
    inverse_outputs: Tensor

    @staticmethod
    def start(layer: Layer) -> Factors:
        """Return factors before anything was seen: zero; the inverses change nothing."""
        inputs, outputs = (layer.module.weight.new_zeros(size, size) for size in (layer.num_inputs, layer.num_outputs))
        return Factors(inputs, outputs, _identity(inputs), _identity(outputs))

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, the very ones that are trained with."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def invert(self, damping: float) -> Tensor:
        """Renew the inverses; return how many could not be computed and stay as they are, a scalar.

        The damping is split between the factors so that each is lifted in proportion to its own size: with
        ``p^2 = (tr A / dim A) / (tr B / dim B)``, ``A + p sqrt(damping)`` and ``B + sqrt(damping) / p``.
        """
        tiny = torch.finfo(self.inputs.dtype).tiny
        sizes = [factor.diagonal().mean() for factor in (self.inputs, self.outputs)]
        both = (sizes[0] > 0) & (sizes[1] > 0)  # nothing may have come back to the layer yet
        share = torch.where(both, (sizes[0] / sizes[1].clamp(min=tiny)).sqrt(), torch.ones_like(sizes[0]))
        failed = torch.zeros((), dtype=torch.int64, device=self.inputs.device)
        for factor, inverse, lift in (
            (self.inputs, self.inverse_inputs, share * damping**0.5),
            (self.outputs, self.inverse_outputs, damping**0.5 / share),
        ):
            root, status = torch.linalg.cholesky_ex(factor + lift * _identity(factor))
            computed = torch.cholesky_inverse(root)
            is_good = (status == 0) & computed.isfinite().all()
            inverse.copy_(torch.where(is_good, computed, inverse))
            failed += ~is_good
        return failed

    def preconditioned(self, gradient: Tensor) -> Tensor:
        """Return ``B^-1 gradient A^-1``, shape ``[o, i]``."""
        return self.inverse_outputs @ gradient @ self.inverse_inputs


@dataclass(slots=True)
class _Sums:
    """Over this rank's rows."""

    inputs: Tensor
    outputs: Tensor
    num_rows: Tensor


class FactorSet:
    """The factors of all layers.

    Args:
        layers: By name.
        decay: Of the moving average; the first observations have equal weights.
        damping: Of the curvature.
        add_over_ranks: Adds a tensor over ranks.
    """

    def __init__(
        self,
        layers: Mapping[str, Layer],
        *,
        decay: float,
        damping: float,
        add_over_ranks: Callable[[Tensor], Tensor],
    ) -> None:
        self._layers = dict(layers)
        self._decay = decay
        self._damping = damping
        self._add_over_ranks = add_over_ranks
        self._factors = {name: Factors.start(layer) for name, layer in layers.items()}
        self._sums: dict[str, _Sums] = {}
        self._is_gathering = False
        self._num_observed = 0
        device = next(iter(self._factors.values())).inputs.device if layers else None
        self.num_kept_inverses = torch.zeros((), dtype=torch.int64, device=device)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what goes into the layers in a forward pass."""
        self._sums = {}
        handles = [layer.module.register_forward_hook(self._watcher(name)) for name, layer in self._layers.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Gather what comes back to the layers in backward passes of the forward pass that was watched."""
        self._is_gathering = True
        try:
            yield
        finally:
            self._is_gathering = False

    def silent_layers(self) -> list[str]:
        """Return the layers of which nothing was seen when last watched: their weight is used in another way."""
        return [name for name in self._layers if name not in self._sums]

    @torch.no_grad()
    def renew(self, num_valid: Tensor) -> None:
        """Take what was seen into the averages and renew the inverses; all ranks call this together.

        Args:
            num_valid: Valid examples of this rank, a scalar.
        """
        names = list(self._factors)
        seen = [self._sums[name] for name in names]
        parts = [t for sums in seen for t in (sums.inputs, sums.outputs, sums.num_rows)] + [num_valid]
        total = self._add_over_ranks(torch.cat([part.reshape(-1) for part in parts]))
        added = total.split([part.numel() for part in parts])
        self._num_observed += 1
        share = max(1 - self._decay, 1 / self._num_observed)
        for number, name in enumerate(names):
            inputs, outputs, num_rows = added[3 * number : 3 * number + 3]
            factors = self._factors[name]
            factors.inputs.lerp_(inputs.view_as(factors.inputs) / num_rows.clamp(min=1), share)
            factors.outputs.lerp_(outputs.view_as(factors.outputs) / added[-1], share)
            self.num_kept_inverses += factors.invert(self._damping)
        self._sums = {}

    def precondition(self, *, lr: float, max_change: float | None) -> None:
        """Replace the gradients of all layers.

        Args:
            lr: Of the step that follows.
            max_change: All are scaled down together so that the step ``d`` has a product ``d^T curvature d`` (about
                twice the divergence of the model's predictions) of at most this; ``None`` for no limit.
        """
        gradients = {name: layer.gradient() for name, layer in self._layers.items()}
        pairs = {name: (g, self._factors[name].preconditioned(g)) for name, g in gradients.items() if g is not None}
        scale: Tensor | float = 1.0
        if max_change is not None and lr and pairs:
            # The step is -lr P g for gradient g and inverse curvature P, so the product is lr^2 times g^T P g.
            change = lr**2 * torch.stack([(gradient * step).sum() for gradient, step in pairs.values()]).sum()
            scale = (max_change / change.clamp(min=torch.finfo(change.dtype).tiny)).sqrt().clamp(max=1.0)
        for name, (_, step) in pairs.items():
            self._layers[name].set_gradient(step * scale)

    def state_dict(self) -> StateDict:
        """Return factors, inverses and how often they were renewed."""
        return {
            "num_observed": self._num_observed,
            "num_kept_inverses": self.num_kept_inverses,
            "factors": {name: factors.tensors() for name, factors in self._factors.items()},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore a state in place."""
        self._num_observed = state["num_observed"]
        self.num_kept_inverses.copy_(state["num_kept_inverses"])
        for name, factors in self._factors.items():
            for key, tensor in factors.tensors().items():
                tensor.copy_(state["factors"][name][key])

    def _watcher(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        layer = self._layers[name]

        def remember_inputs(_: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
            entered = inputs[0].detach()
            factors = self._factors[name]
            sums = self._sums.setdefault(
                name,
                _Sums(
                    torch.zeros_like(factors.inputs), torch.zeros_like(factors.outputs), factors.inputs.new_zeros(())
                ),
            )

            def add_rows(gradient: Tensor) -> None:
                if self._is_gathering:
                    _add_rows(sums, layer, entered, gradient)

            # Registered before anything can change the output in place, so it sees the gradient of the output itself.
            outputs.register_hook(add_rows)

        return remember_inputs


@torch.no_grad()
def _add_rows(sums: _Sums, layer: Layer, entered: Tensor, gradient: Tensor) -> None:
    """Add the outer products of rows; rows to which nothing comes back (padding) do not count."""
    outputs = layer.output_rows(gradient)
    counts = (outputs != 0).any(dim=1, keepdim=True).to(outputs.dtype)
    inputs = layer.input_rows(entered) * counts
    sums.inputs.addmm_(inputs.T, inputs)
    sums.outputs.addmm_(outputs.T, outputs)
    sums.num_rows += counts.sum()


def _identity(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=like.dtype, device=like.device)
