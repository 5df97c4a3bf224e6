"""The submission contract: what a training algorithm implements and all that it is given to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard
from perfbench.spec.result import Measurement
from perfbench.spec.workload import Target

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

StateDict = dict[str, Any]
"""Tensors, numbers, strings, ``None`` and lists or dictionaries of these: what a checkpoint can hold."""


class TrainingComplete(Exception):  # noqa: N818 - a message to the engine, not an error
    """Raised by ``update_params`` to end training early: one last evaluation follows."""


class TrainingDiverged(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by ``update_params`` where gradients or statistics are no longer finite: the trial ends as diverged.

    The message says what is not finite. Every rank raises it in the same step, as with ``TrainingComplete``: a rank
    that alone knows has to tell the others first.
    """


class BoundLoss(Protocol):
    """The workload's loss bound to the model: compiled whole; gradients are averaged over ranks in ``backward``."""

    def __call__(self, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return this rank's loss sums."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What a step tells. Tensors stay on the device: nobody reads them while the clock is scoring."""

    loss: Tensor
    """Scalar, detached; its mean over ranks is the mean loss of the global batch."""
    grad_norm: Tensor | None = None
    """Scalar: global norm before clipping, where it was computed anyway."""
    learning_rate: float | None = None
    extra: Mapping[str, Tensor | float] = field(default_factory=dict)


def _has_none(_rate: float | None) -> None:
    """Do nothing: the model has no auxiliary dropout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingContext:
    """Everything a submission may know. Nothing in it leads to the clock, the evaluation data or the records."""

    model: nn.Module
    """The plain model (clean parameter names), on the device; also reachable through ``loss``."""
    loss: BoundLoss
    local_loss: BoundLoss
    """The same loss on this rank alone and not compiled: gradients are not averaged, and hooks on modules work."""
    roles: Mapping[str, ParameterRole]
    loss_type: LossType
    global_batch_size: int
    step_hint: int
    max_steps: int | None
    max_submission_time_s: float
    eval_period_s: float
    target: Target
    measurements: Sequence[Measurement]
    """The trial's evaluations so far, a live read-only view."""
    seed: int
    """For the submission's own random numbers."""
    shard: Shard
    device: torch.device
    add_over_ranks: Callable[[Tensor], Tensor]
    """Return the sum of a tensor over ranks (a new tensor, not differentiable); the identity on one rank."""
    set_dropout: Callable[[float], None]
    set_batch_norm: Callable[[BatchNormMode], None]
    num_train_examples: int | None = None
    """Of the data set; ``None`` where the workload's facts do not count them."""
    set_auxiliary_dropout: Callable[[float | None], None] = _has_none
    """Set the rate of attention's dropout or the input's, where a model has it apart (translation, speech).

    ``None`` is the workload's own rate. ``set_dropout`` sets it together with all other.
    """
    no_sync: Callable[[], AbstractContextManager[None]] = nullcontext
    """A context for calls of ``loss``, still compiled, whose backward passes average no gradients over ranks.

    Each rank's gradients add up in its parameters, and the next pass that was begun outside of it averages them all:
    the way to accumulate over parts of a batch with one exchange. Nothing on one rank.
    """

    def global_mean(self, sums: LossSums) -> Tensor:
        """Return the scalar whose ``backward`` gives every rank the gradient of the global mean loss.

        The ranks' gradients are averaged, so each rank back-propagates ``num_ranks * summed / total valid``:
        exact for unequal numbers of valid examples. Its mean over ranks is the global mean loss.
        """
        if self.shard.num_ranks == 1:
            return sums.summed / sums.num_valid
        total_valid = self.add_over_ranks(sums.num_valid.detach())
        return sums.summed * (self.shard.num_ranks / total_valid)


class Submission(Protocol):
    """A training algorithm. Construction is the initialisation of its state (``build`` of its module)."""

    @property
    def state_is_sharded(self) -> bool:
        """Whether ranks hold different state: then every rank's state is saved, otherwise only rank 0's.

        A class variable of nearly all submissions; one that may or may not split its state says so for each run.
        """
        ...

    def data_selection(self, batches: Iterator[Batch]) -> Batch:
        """Choose the next batch (scored). Whatever it takes from ``batches`` is spent."""
        ...

    def update_params(self, batch: Batch) -> StepReport:
        """Do one optimizer step (scored).

        Raises:
            TrainingComplete: To end training after one last evaluation.
            TrainingDiverged: To end the trial as diverged: numbers are not finite any more.
        """
        ...

    def prepare_for_eval(self) -> nn.Module:
        """Return a model with the weights to evaluate (scored): same parameter names and shapes."""
        ...

    def resume_training(self) -> None:
        """Undo what ``prepare_for_eval`` did to the training weights (scored)."""
        ...

    def state_dict(self) -> StateDict:
        """Return everything besides the model's own weights that a bit-for-bit resume needs."""
        ...

    def load_state_dict(self, state: StateDict) -> None:
        """Restore a state; the model's own weights are restored by the engine before."""
        ...
