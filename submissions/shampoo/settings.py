"""What one instance of Distributed Shampoo does."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from perfbench.api.optim.blocking import Blocking


class Grafting(StrEnum):
    """Whose length the preconditioned direction takes."""

    ADAM = "adam"
    SGD = "sgd"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShampooSettings:
    """The numbers of the method. Defaults are what every point of the competition's entry used."""

    beta1: float
    """Decay of the filtered gradient; 0 for none."""
    beta2: float
    """Decay of the factors and of the Adam graft's second moment."""
    weight_decay: float
    """Decoupled from the gradient, but inside the momentum."""
    grafting: Grafting
    use_nadam: bool
    """Whether the filtered gradient looks one step ahead."""
    momentum: float = 0.0
    """Decay of the moving average of updates, applied with Nesterov; 0 for none."""
    inv_root_override: int = 0
    """Root for blocks of every order; 0 for twice the order."""
    epsilon: float = 1e-8
    graft_epsilon: float = 1e-8
    precondition_frequency: int = 100
    """Roots are computed, and for the first time used, at multiples of this step."""
    blocking: Blocking = field(default_factory=lambda: Blocking(max_dimension=1024))
    is_preconditioned: bool = True
    """False for the graft alone: no factors are kept."""

    def exponent_for(self, order: int) -> int:
        """Return the inverse root to take for a block of this order (number of dimensions)."""
        return self.inv_root_override or 2 * order
