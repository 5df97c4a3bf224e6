"""Exact evaluation on the referee's own model and data: every rank sums over its part, the sums are added once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from perfbench.api.workload import Batch, Workload
from perfbench.data.prefetch import moved_to
from perfbench.engine.wire.precision import autocast_of
from perfbench.engine.wire.team import Team
from perfbench.engine.wire.weights import WeightsMemory
from perfbench.errors import SubmissionError
from perfbench.spec.ruleset import Precision
from perfbench.spec.seeds import Stream, stream_seed
from perfbench.spec.workload import Split


class Evaluator:
    """Evaluates weights that a trainer handed over, on every split that the rules ask for.

    Args:
        workload: Gives model, batches, sums and metrics.
        weights_descriptor: Of the memory file that the trainer writes weights into.
        splits: Which splits, in order.
        trial_seed: Fixes which training examples ``eval_train`` holds.
        team: All ranks' referees.
        device: Of this rank.
        precision: Of the rules, as in training.
    """

    def __init__(
        self,
        workload: Workload,
        weights_descriptor: int,
        *,
        splits: Iterable[Split],
        trial_seed: int,
        team: Team,
        device: torch.device,
        precision: Precision = Precision.TF32,
    ) -> None:
        self._workload = workload
        self._splits = tuple(splits)
        self._seed = stream_seed(trial_seed, Stream.DATA_ORDER)
        self._team = team
        self.device = device
        self._precision = precision
        self.model = workload.build_model(seed=stream_seed(trial_seed, Stream.INIT)).to(device).eval()
        self.weights = WeightsMemory(weights_descriptor, self.model)
        self.weights.allocate()
        self._compiled = cast("nn.Module", torch.compile(self.model, fullgraph=True, dynamic=False))

    def evaluate(self) -> dict[str, float]:
        """Return the metrics of the weights in shared memory as ``<split>/<name>``.

        Raises:
            SubmissionError: If ranks handed over different weights.
            WorkloadError: If the sums do not cover a split exactly.
        """
        self.weights.read_into(self.model)
        self._refuse_differing_weights()
        self._average_buffers()
        with torch.no_grad(), autocast_of(self._precision, self.device):
            sums = {split: self._sums(split, self._batches(split)) for split in self._splits}
        added = self._team.add_all(
            {f"{split.value}/{name}": value.cpu() for split in self._splits for name, value in sums[split].items()}
        )
        return self._finished(added)

    def warm_up(self) -> None:
        """Compile what an evaluation runs, on the first batch of every split, and take the memory that it needs."""
        with torch.no_grad(), autocast_of(self._precision, self.device):
            for split in self._splits:
                self._sums(split, itertools.islice(self._batches(split), 1))

    def _batches(self, split: Split) -> Iterator[Batch]:
        return self._workload.eval_batches(
            split,
            global_batch_size=self._workload.spec.eval_batch_size,
            seed=self._seed,
            shard=self._team.shard,
        )

    def _sums(self, split: Split, batches: Iterator[Batch]) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for batch in moved_to(self.device, batches):
            for name, value in self._workload.eval_sums(self._compiled, batch, split=split).items():
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

    def _refuse_differing_weights(self) -> None:
        """A parameter is the same number on every rank; otherwise each rank would be judged by another model."""
        if self._team.shard.num_ranks == 1:
            return
        sums = [float(_sum_of_bits(parameter)) for parameter in self.model.parameters()]
        largest = self._team.largest([*sums, *(-value for value in sums)])
        highest, lowest = largest[: len(sums)], [-value for value in largest[len(sums) :]]
        if highest != lowest:
            names = [name for name, _ in self.model.named_parameters()]
            differing = [name for name, high, low in zip(names, highest, lowest, strict=True) if high != low]
            raise SubmissionError(
                f"ranks handed over different weights: {', '.join(differing[:3])}",
                where="prepare_for_eval",
                hint="every rank must prepare the same weights",
            )

    def _average_buffers(self) -> None:
        """Average running statistics over ranks: each rank has seen only its own part of the data."""
        buffers = {name: b for name, b in self.model.named_buffers() if b.is_floating_point()}
        if self._team.shard.num_ranks == 1 or not buffers:
            return
        for name, total in self._team.add_all({name: buffer.cpu() for name, buffer in buffers.items()}).items():
            buffers[name].copy_(total / self._team.shard.num_ranks)


def _sum_of_bits(parameter: Tensor) -> Tensor:
    """Return a number that tells different bits apart with near certainty; exact in float64."""
    bits = parameter.detach().contiguous().view(-1).view(torch.uint8)
    padded = torch.nn.functional.pad(bits, (0, -bits.numel() % 4)).view(torch.int32)
    return padded.to(torch.int64).sum() % 2**48
