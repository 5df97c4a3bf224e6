"""A rehearsal whose model, batches and context are on a device; the conformance suite's own is on the CPU."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from perfbench.api.contracts.rehearsal import BuildSubmission, Rehearsal
from perfbench.api.contracts.tiny_problems import TinyProblem
from perfbench.api.submission import TrainingContext
from perfbench.api.workload import Batch


class OnDevice(TinyProblem):
    """A tiny problem elsewhere."""

    def __init__(self, problem: TinyProblem, device: torch.device) -> None:
        self._problem, self._device = problem, device

    name = property(lambda self: self._problem.name)
    loss_type = property(lambda self: self._problem.loss_type)

    def build_model(self, *, seed: int) -> nn.Module:
        return self._problem.build_model(seed=seed).to(self._device)

    def examples(self, generator: torch.Generator) -> Batch:
        return self._problem.examples(generator)

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        return self._problem.per_example_loss(outputs, targets, label_smoothing=label_smoothing)

    def batch(self, number: int) -> Batch:
        return {name: tensor.to(self._device) for name, tensor in self._problem.batch(number).items()}


class RehearsalOnDevice(Rehearsal):
    """Trains on a device, and keeps all generators with its state."""

    def __init__(self, build: BuildSubmission, problem: TinyProblem, *, seed: int, device: torch.device) -> None:
        self._device = device
        super().__init__(build, OnDevice(problem, device), seed=seed, step_hint=24)

    def generators(self) -> list[Tensor]:
        """Return the state of the host's generator and of the device's."""
        return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    def put_generators(self, states: list[Tensor]) -> None:
        """Put them back."""
        torch.set_rng_state(states[0])
        torch.cuda.set_rng_state_all(states[1:])

    def _context(self, *, seed: int, step_hint: int) -> TrainingContext:
        return dataclasses.replace(super()._context(seed=seed, step_hint=step_hint), device=self._device)


def on_host(tree: Any) -> Any:
    """Return a tree with its tensors copied to the host."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, dict):
        return {key: on_host(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(on_host(value) for value in tree)
    return tree
