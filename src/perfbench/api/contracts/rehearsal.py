"""A submission on a tiny problem, driven step by step as the engine drives it: one rank, nothing compiled, no clock."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from perfbench.api.contracts.tiny_problems import BATCH_SIZE, TinyProblem, parameter_roles
from perfbench.api.generators import capture_generators, restore_generators
from perfbench.api.submission import (
    StateDict,
    StepReport,
    Submission,
    TrainingComplete,
    TrainingContext,
    TrainingDiverged,
)
from perfbench.api.workload import Batch, BatchNormMode, LossSums, Shard
from perfbench.spec.workload import Direction, Target

BuildSubmission = Callable[[TrainingContext], Submission]

_NUM_EVAL_BATCHES = 8
_FIRST_EVAL_BATCH = 1_000_000
"""Evaluation batches are numbered from here, so that none is ever trained on."""
_NUM_TRAIN_EXAMPLES = 4096
"""What a submission is told: a trial has a number, too, and schedules count epochs by it. Here no batch comes twice."""
_BATCH_NORM_MOMENTUM = 0.1


class Rehearsal:
    """One run of a submission from its start.

    Args:
        build: Makes the submission from its context.
        problem: What to train.
        seed: Of the initial weights, the dropout and the submission.
        step_hint: Given to the submission as the horizon of its schedules.
        model_class_name: Of the model, where it is not to have the problem's own.
    """

    def __init__(
        self,
        build: BuildSubmission,
        problem: TinyProblem,
        *,
        seed: int,
        step_hint: int,
        model_class_name: str | None = None,
    ) -> None:
        self.problem = problem
        self.model = problem.build_model(seed=seed)
        if model_class_name is not None:
            self.model.__class__ = type(model_class_name, (type(self.model),), {"__module__": "elsewhere"})
        self.model.train()
        self.num_batches = 0
        self.num_steps = 0
        self.is_complete = False
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global generator is what libraries read
        torch.manual_seed(seed)
        self.submission = build(self._context(seed=seed, step_hint=step_hint))

    def train(self, *, until: int) -> StepReport | None:
        """Train until step ``until`` or the submission's own end; return the last step's report."""
        report = None
        while self.num_steps < until and not self.is_complete:
            batch = self.submission.data_selection(self._batches())
            try:
                report = self.submission.update_params(batch)
            except (TrainingComplete, TrainingDiverged):
                self.is_complete = True
                break
            self.num_steps += 1
        return report

    def evaluate(self) -> float:
        """Return the mean loss of the prepared model over batches that are not trained on; then resume."""
        model = self.submission.prepare_for_eval()
        was_training = model.training
        model.eval()
        with torch.no_grad():
            batches = [self.problem.batch(_FIRST_EVAL_BATCH + number) for number in range(_NUM_EVAL_BATCHES)]
            sums = [self.problem.loss(model, batch) for batch in batches]
        model.train(was_training)
        self.submission.resume_training()
        return float(sum(s.summed for s in sums) / sum(s.num_valid for s in sums))

    def weights(self) -> dict[str, Tensor]:
        """Return copies of all training weights and buffers, by name."""
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def saved(self) -> bytes:
        """Return everything that a checkpoint of the engine holds, in its form on disk."""
        file = io.BytesIO()
        state = {
            "weights": self.weights(),
            "submission": self.submission.state_dict(),
            "generators": capture_generators(),
            "position": [self.num_batches, self.num_steps],
        }
        torch.save(state, file)
        return file.getvalue()

    def restore(self, saved: bytes) -> None:
        """Put a saved state back in place, in the order of the engine: weights first."""
        state = torch.load(io.BytesIO(saved), weights_only=True)
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                tensor.copy_(state["weights"][name])
        self.model.zero_grad(set_to_none=True)
        self.submission.load_state_dict(state["submission"])
        restore_generators(state["generators"])
        self.num_batches, self.num_steps = state["position"]
        self.is_complete = False

    def _batches(self) -> Iterator[Batch]:
        while True:
            self.num_batches += 1
            yield self.problem.batch(self.num_batches - 1)

    def _loss(self, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        return self.problem.loss(self.model, batch, label_smoothing=label_smoothing)

    def _set_dropout(self, rate: float) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = rate

    def _set_batch_norm(self, mode: BatchNormMode) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _BATCH_NORM_MOMENTUM if mode is BatchNormMode.UPDATE else 0.0

    def _context(self, *, seed: int, step_hint: int) -> TrainingContext:
        return TrainingContext(
            model=self.model,
            loss=self._loss,
            local_loss=self._loss,
            roles=parameter_roles(self.model),
            loss_type=self.problem.loss_type,
            global_batch_size=BATCH_SIZE,
            step_hint=step_hint,
            max_steps=step_hint,
            max_submission_time_s=60.0,
            eval_period_s=1.0,
            target=Target(
                metric="validation/loss", direction=Direction.MINIMIZE, threshold=0.0, source="never reached"
            ),
            measurements=(),
            seed=seed,
            shard=Shard(),
            device=torch.device("cpu"),
            add_over_ranks=lambda tensor: tensor,
            set_dropout=self._set_dropout,
            set_batch_norm=self._set_batch_norm,
            num_train_examples=_NUM_TRAIN_EXAMPLES,
        )


def differences(expected: Any, actual: Any, *, where: str = "") -> list[str]:  # noqa: ANN401 - a tree of plain data
    """Return the paths at which two trees of tensors and plain data are not equal bit for bit.

    >>> differences({"a": 1, "b": [2, 3]}, {"a": 1, "b": [2, 4]})
    ['b.1']
    """
    if isinstance(expected, Tensor) and isinstance(actual, Tensor):
        return [] if _same_bits(expected, actual) else [where]
    if isinstance(expected, dict) and isinstance(actual, dict):
        pairs = [(key, expected.get(key), actual.get(key)) for key in expected.keys() | actual.keys()]
    elif isinstance(expected, list | tuple) and isinstance(actual, list | tuple) and len(expected) == len(actual):
        pairs = [(index, *pair) for index, pair in enumerate(zip(expected, actual, strict=True))]
    else:
        return [] if repr(expected) == repr(actual) else [where]  # unlike ==, so that NaN equals itself
    found = [differences(e, a, where=f"{where}.{key}".lstrip(".")) for key, e, a in pairs]
    return sorted(path for paths in found for path in paths)


def _same_bits(expected: Tensor, actual: Tensor) -> bool:
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    return torch.equal(_bytes_of(expected), _bytes_of(actual))


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def read_back(saved: bytes) -> StateDict:
    """Return a saved state as plain data."""
    state: StateDict = torch.load(io.BytesIO(saved), weights_only=True)
    return state
