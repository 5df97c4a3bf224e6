"""What one update of each submission costs beside forward and backward: kernels, bytes, waits and time.

Kernels are the operators that would be launched on a device (one for a whole list, where tensors are alike), bytes what
they read and write, as passes over the parameters of 4 bytes each; both are counted on the code that runs. Times are
medians of updates in turns, of one thread. Updates that are one graph on a device are counted as they run on a
processor: operator by operator.

    python -m benchmarks.updates [--workload wmt] [--scale mini] [--submissions normuon,kron] [--warm 20] [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.interleaved import timed
from perfbench.api import Batch, GradientSubmission, LossSums, LossType
from perfbench.api.contracts.conduct import counted_waits, state_bytes
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyProblem
from perfbench.compose import compose_submission, compose_workload
from perfbench.config_files import choices
from perfbench.registry import submission_builder
from perfbench.spec.submission import PointSpace, SubmissionSpec
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point
from perfbench.workloads.criteo.model import ClickModel
from perfbench.workloads.criteo.params import Params as CriteoParams
from perfbench.workloads.mnist.model import DigitModel
from perfbench.workloads.mnist.params import Params as MnistParams
from perfbench.workloads.wmt.model import Transformer
from perfbench.workloads.wmt.params import Params as WmtParams

FAMILIES: dict[str, tuple[Any, Any]] = {
    "criteo": (ClickModel, CriteoParams),
    "mnist": (DigitModel, MnistParams),
    "wmt": (Transformer, WmtParams),
}
FLOAT_BYTES = 4


class Given(TinyProblem):
    """A model whose gradients are given: its loss is a fixed linear function of the parameters."""

    name = "given"
    loss_type = LossType.MEAN_SQUARED_ERROR

    def __init__(self, family: str, scale: str) -> None:
        self._model_type, params_type = FAMILIES[family]
        self._params = params_type.from_mapping(compose_workload(family, scale=scale).params)

    def build_model(self, *, seed: int) -> nn.Module:
        """Return the workload's model."""
        torch.manual_seed(seed)
        return cast("nn.Module", self._model_type(self._params))

    def examples(self, generator: torch.Generator) -> Batch:
        """Return the seed of a gradient."""
        return {"inputs": torch.randint(2**31, (1,), generator=generator)}

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        """Return nothing: ``loss`` needs none."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:  # noqa: ARG002
        """Return the sum of all parameters times normal numbers of the batch's seed."""
        generator = torch.Generator().manual_seed(int(batch["inputs"]))
        products = [(p * torch.randn(p.shape, generator=generator)).sum() for p in model.parameters()]
        total = 1e-3 * torch.stack(products).sum() + 1
        return LossSums(total, torch.ones(()), total[None])


class counted_kernels(TorchDispatchMode):  # noqa: N801 - used as a context manager
    """Counts operators that do more than look at memory in another way, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_kernels = 0
        self.num_bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator, which has no public type
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Run an operator and count it."""
        result = func(*args, **(kwargs or {}))
        schema = func._schema  # noqa: SLF001 - there is no public way to ask
        is_view = bool(schema.returns) and all(r.alias_info and not r.alias_info.is_write for r in schema.returns)
        if not is_view:
            self.num_kernels += 1
            changed = [
                value
                for value, argument in zip(args, schema.arguments, strict=False)
                if argument.alias_info and argument.alias_info.is_write
            ]
            made = [] if changed else result
            self.num_bytes += sum(bytes_of(tree_leaves(values)) for values in ((args, kwargs), changed, made))
        return result


def bytes_of(values: Sequence[Any]) -> int:
    """Return the bytes of the tensors among values."""
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))


def main() -> None:
    """Count, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=list(FAMILIES), default="wmt")
    parser.add_argument("--scale", default="mini")
    parser.add_argument("--submissions", default="all", help="separated by commas")
    parser.add_argument("--warm", type=int, default=20, help="updates before the one that is looked at")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    problem = Given(arguments.workload, arguments.scale)
    names = choices("submission") if arguments.submissions == "all" else arguments.submissions.split(",")
    runs = {name: run for name in names if (run := started(name, problem, arguments.warm)) is not None}
    seconds = timed({name: update_of(run) for name, run in runs.items()}, rounds=arguments.rounds)
    table = Table("submission", "kernels", "passes over the parameters", "waits", "state, bytes a parameter", "ms")
    for name, run in runs.items():
        size = sum(parameter.numel() for parameter in run.model.parameters())
        with counted_kernels() as kernels, counted_waits() as waits:
            update_of(run)()
        table.add_row(
            name,
            f"{kernels.num_kernels}",
            f"{kernels.num_bytes / size / FLOAT_BYTES:.1f}",
            f"{waits.total}",
            f"{state_bytes(run) / size:.1f}",
            f"{1e3 * statistics.median(seconds[name]):.2f}",
        )
    console = Console(width=120)
    console.print(table)
    tensors = list(problem.build_model(seed=0).parameters())
    count = sum(parameter.numel() for parameter in tensors)
    console.print(
        f"{arguments.workload}, {arguments.scale}: {count:,} parameters in {len(tensors)} tensors, one thread"
    )


def started(name: str, problem: TinyProblem, num_updates: int) -> Rehearsal | None:
    """Return a run of a submission's first point after some updates; ``None`` if it needs a file or hooks on layers."""
    spec = compose_submission(name)
    if spec.files:
        return None
    run = Rehearsal(submission_builder(spec, first_point(spec)), problem, seed=0, step_hint=1000)
    if not isinstance(run.submission, GradientSubmission) or len(run.submission.optimizers) == 0:
        return None
    try:
        run.train(until=num_updates)
    except (LookupError, RuntimeError):  # layers that are never called give no statistics
        return None
    return run


def update_of(run: Rehearsal) -> Callable[[], None]:
    """Return what makes one update with the newest gradients, and moves to where they are taken, if it does."""
    optimizers = cast("GradientSubmission", run.submission).optimizers

    def update() -> None:
        for optimizer in optimizers:
            for moves_first in ("extrapolate", "ascend"):
                getattr(optimizer, moves_first, lambda: None)()
            optimizer.step()

    return update


def first_point(spec: SubmissionSpec) -> dict[str, Any] | None:
    """Return the self-tuning point, else the first one of the search space."""
    if spec.search_space is None or "self_tuning" in spec.rulesets:
        return None
    if isinstance(spec.search_space, PointSpace):
        return dict(spec.search_space.points[0])
    return map_point(spec.search_space, halton.points(len(spec.search_space.dimensions), num_points=1)[0])


if __name__ == "__main__":
    main()
