"""Exact evaluation: every rank sums over its part, the sums are added once, the metrics are finished once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from perfbench.api.workload import Batch, Workload
from perfbench.data.prefetch import moved_to
from perfbench.engine.compiling import EvaluationModels
from perfbench.engine.team import Team
from perfbench.errors import SubmissionError
from perfbench.spec.seeds import Stream, stream_seed
from perfbench.spec.workload import Split


class Evaluator:
    """Evaluates the model that a submission prepared, on every split that the rules ask for.

    Args:
        workload: Gives batches, sums and metrics.
        reference: The model that was built; an evaluated model must have its parameters' names and shapes.
        splits: Which splits, in order.
        trial_seed: Fixes which training examples ``eval_train`` holds.
        team: All ranks.
    """

    def __init__(
        self,
        workload: Workload,
        reference: nn.Module,
        *,
        splits: Iterable[Split],
        trial_seed: int,
        team: Team,
    ) -> None:
        self._workload = workload
        self._shapes = {name: tuple(p.shape) for name, p in reference.named_parameters()}
        self._splits = tuple(splits)
        self._seed = stream_seed(trial_seed, Stream.DATA_ORDER)
        self._team = team
        self._models = EvaluationModels()
        self._device = next(reference.parameters()).device

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return the metrics as ``<split>/<name>``.

        Raises:
            SubmissionError: If ``model`` is another model than the workload's, or changed while it was evaluated.
            WorkloadError: If the sums do not cover a split exactly.
        """
        self._check_shape(model)
        self._average_buffers(model)
        versions = _versions(model)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            sums = {split: self._sums(model, split) for split in self._splits}
        model.train(was_training)
        if _versions(model) != versions:
            raise SubmissionError(
                "the model's parameters changed during evaluation",
                where="prepare_for_eval",
                hint="return a model that only computes; all training belongs into update_params",
            )
        added = self._team.add_all(
            {f"{split.value}/{name}": value for split in self._splits for name, value in sums[split].items()}
        )
        on_cpu = {name: value.cpu() for name, value in added.items()}
        return self._finished(on_cpu)

    def warm_up(self, model: nn.Module) -> None:
        """Compile what an evaluation runs, on the first batch of every split."""
        self._check_shape(model)
        was_training = model.training
        model.eval()
        compiled = self._models.compiled(model)
        with torch.no_grad():
            for split in self._splits:
                for batch in itertools.islice(moved_to(self._device, self._batches(split)), 1):
                    self._workload.eval_sums(compiled, batch, split=split)
        model.train(was_training)

    def _batches(self, split: Split) -> Iterator[Batch]:
        return self._workload.eval_batches(
            split,
            global_batch_size=self._workload.spec.eval_batch_size,
            seed=self._seed,
            shard=self._team.shard,
        )

    def _sums(self, model: nn.Module, split: Split) -> dict[str, Tensor]:
        compiled = self._models.compiled(model)
        total: dict[str, Tensor] = {}
        for batch in moved_to(self._device, self._batches(split)):
            for name, value in self._workload.eval_sums(compiled, batch, split=split).items():
                total[name] = total[name] + value if name in total else value
        return total

    def _finished(self, sums: dict[str, Tensor]) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for split in self._splits:
            prefix = f"{split.value}/"
            own = {name.removeprefix(prefix): value for name, value in sums.items() if name.startswith(prefix)}
            finished = self._workload.finish_metrics(split, own)
            metrics |= {f"{prefix}{name}": float(value) for name, value in finished.items()}
        return metrics

    def _check_shape(self, model: nn.Module) -> None:
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        if shapes != self._shapes:
            differing = sorted(
                name for name in shapes.keys() | self._shapes.keys() if shapes.get(name) != self._shapes.get(name)
            )
            raise SubmissionError(
                f"the evaluated model is not the workload's: {', '.join(differing[:3])} differ in name or shape",
                where="prepare_for_eval",
                hint="return context.model, or a module with the same parameter names and shapes",
            )

    def _average_buffers(self, model: nn.Module) -> None:
        """Average running statistics over ranks: each rank has seen only its own part of the data."""
        buffers = {name: b for name, b in model.named_buffers() if b.is_floating_point()}
        if self._team.shard.num_ranks == 1 or not buffers:
            return
        for name, total in self._team.add_all(buffers).items():
            buffers[name].copy_(total / self._team.shard.num_ranks)


def _versions(model: nn.Module) -> list[int]:
    """Return how often each parameter was written in place: reading it costs nothing on the device."""
    return [parameter._version for parameter in model.parameters()]  # noqa: SLF001 - the public API has no counter
