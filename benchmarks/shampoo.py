"""What Shampoo costs on the parameter shapes of criteo, imagenet_vit and wmt at full scale, against NAdamW.

Four tables: blocks and bytes of state, counted on the code that runs (on the meta device, which holds no numbers) and
set against the published formula; what ranks exchange, and how evenly the greedy assignment loads them; single shapes
whose blocks and bytes are published; seconds per step, the step in 100 that computes roots apart.

Times are of a sample, one group of equal shapes after another, scaled up by their number: all of it would take minutes
and gigabytes. They are processor time of one thread (a busy machine lengthens the rest), and depend on this machine;
what the other tables say does not.

    make bench-shampoo [ARGS="--point 4 --workloads wmt --no-times"]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.optim.optimizer import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from perfbench.api.optim import NAdamW
from perfbench.api.optim.blocking import Blocking
from perfbench.api.workload import Shard
from perfbench.compose import compose_submission, compose_workload
from perfbench.spec.submission import PointSpace
from perfbench.workloads.criteo.model import ClickModel
from perfbench.workloads.criteo.params import Params as CriteoParams
from perfbench.workloads.wmt.model import Transformer
from perfbench.workloads.wmt.params import Params as WmtParams
from submissions.shampoo.optimizer import DistributedShampoo
from submissions.shampoo.settings import Grafting, ShampooSettings
from submissions.shampoo.submission import LARGE_DIMENSION, Hyperparameters, Options, instances

Shape = tuple[int, ...]

RANKS = (1, 2, 8)
NUM_BYTES = 4
"""Of a float32."""
PUBLISHED_FLOATS = {
    (1024, 1024): 4.0,
    (1000, 2048): 4.0,
    (1536, 384): 5.4,
    (512, 512, 3, 3): 0.44,
    (64, 3, 7, 7): 8.4,
    (384,): 768.0,
    (2048, 1024, 1, 1): 4.0,
}
"""Floats of factors and roots per parameter at block size 1024: the competition's entry."""
SAMPLE_WORK = 2**31
"""Cubes of block sides, summed, that a group's sample may have: bounds the time of its roots."""
SAMPLE_ENTRIES = 2**24
"""Of parameters in a group's sample: bounds its memory (64 MB for each of about ten tensors)."""
ADAM_SAMPLE_ENTRIES = 2**25
"""Of parameters on which NAdamW is timed."""
LONGEST_SAMPLING_S = 0.25
"""For each kind of ordinary step of a group, but for the least number of steps."""
LEAST_STEPS = 3


def main() -> None:
    """Count, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--point", type=int, default=1, help="of the competition's points, counted from 1")
    parser.add_argument("--workloads", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--times", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spec = compose_submission("shampoo")
    point = Hyperparameters.from_mapping(cast("PointSpace", spec.search_space).points[arguments.point - 1])
    models = {
        name: Model(on_meta(SHAPES[name]()), point, Options.from_mapping(spec.options)) for name in arguments.workloads
    }
    console = Console(width=130)
    console.print(f"point {arguments.point} of the competition, float32, blocks of at most 1024 x 1024")
    console.print(blocks_table(models))
    console.print(ranks_table(models))
    console.print(published_table())
    if arguments.times:
        table = Table("workload", "NAdamW", "before step 100", "after", "root step", "mean", "of NAdamW", "sample")
        for name, model in models.items():
            table.add_row(name, *times_row(model))
        console.print(table)
        console.print(
            "ms of one thread, scaled up from a sample (its part of all parameters); mean: of a hundred steps"
        )


# What is counted: parameters without numbers.


def criteo_shapes() -> dict[str, Shape]:
    """Return the shapes of the click model."""
    with torch.device("meta"):
        return shapes_of(ClickModel(CriteoParams.from_mapping(compose_workload("criteo", scale="full").params)))


def wmt_shapes() -> dict[str, Shape]:
    """Return the shapes of the translation model."""
    with torch.device("meta"):
        return shapes_of(Transformer(WmtParams.from_mapping(compose_workload("wmt", scale="full").params)))


def vit_shapes() -> dict[str, Shape]:
    """Return the shapes of ViT-S/16 without class token, by the layers of the competition's model."""
    width, hidden, depth, num_classes = 384, 1536, 12, 1000
    layers: dict[str, nn.Module] = {}
    with torch.device("meta"):
        layers["patches"] = nn.Conv2d(3, width, 16, 16)
        for block in range(depth):
            layers |= {f"{block}.{name}": nn.Linear(width, width) for name in ("query", "key", "value", "out")}
            layers |= {f"{block}.norm_{name}": nn.LayerNorm(width) for name in ("attention", "mlp")}
            layers[f"{block}.mlp_in"], layers[f"{block}.mlp_out"] = nn.Linear(width, hidden), nn.Linear(hidden, width)
        layers |= {"norm": nn.LayerNorm(width), "pre_logits": nn.Linear(width, width)}
        layers["head"] = nn.Linear(width, num_classes)
    shapes = {f"{name}.{kind}": shape for name, layer in layers.items() for kind, shape in shapes_of(layer).items()}
    counted = (len(shapes), sum(math.prod(shape) for shape in shapes.values()))
    assert counted == (200, 22_122_472), "the published numbers of tensors and parameters"
    return shapes


SHAPES = {"criteo": criteo_shapes, "imagenet_vit": vit_shapes, "wmt": wmt_shapes}


def shapes_of(module: nn.Module) -> dict[str, Shape]:
    """Return the shape of each parameter."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def on_meta(shapes: Mapping[str, Shape]) -> dict[str, nn.Parameter]:
    """Return parameters that have a shape and no numbers."""
    return {name: nn.Parameter(torch.empty(shape, device="meta")) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Model:
    """Parameters, and how Shampoo sees them."""

    parameters: dict[str, nn.Parameter]
    point: Hyperparameters
    options: Options

    def num_parameters(self) -> int:
        """Return the number of all entries."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def of_rank(self, rank: int, *, num_ranks: int) -> list[DistributedShampoo]:
        """Return the optimizers of a rank."""
        return instances(self.parameters, self.point, self.options, shard=Shard(rank=rank, num_ranks=num_ranks))


def state_tensors(optimizers: Sequence[DistributedShampoo]) -> Iterator[dict[str, Tensor]]:
    """Yield the state of each block that these optimizers own."""
    for optimizer in optimizers:
        yield from optimizer.state_dict()["blocks"].values()


def num_bytes(states: Sequence[dict[str, Tensor]]) -> int:
    """Return the bytes of all state tensors."""
    return sum(tensor.nbytes for state in states for tensor in state.values())


def published_bytes(shape: Shape, point: Hyperparameters) -> int:
    """Return the bytes of state that the formula published for the competition's entry gives for a parameter."""
    is_large = max(shape) >= LARGE_DIMENSION
    has_adam = is_large or point.grafting_type is Grafting.ADAM
    floats = math.prod(shape) * (has_adam + (point.one_minus_beta1 < 1) + (point.one_minus_momentum is not None))
    blocks = [] if is_large else blocks_of(shape)
    return NUM_BYTES * (floats + sum(2 * size**2 for block in blocks for size in block))


def blocks_of(shape: Shape) -> list[Shape]:
    """Return the shapes of the blocks of an ordinary parameter."""
    blocking = Blocking(max_dimension=1024)
    return [tuple(block.shape) for block in blocking.blocks(torch.empty(shape, device="meta"))]


def blocks_table(models: Mapping[str, Model]) -> Table:
    """Return blocks and bytes of state."""
    table = Table(
        "workload", "parameters", "tensors", "blocks", "order 1, 2, 3", "factors", "state, MB", "by formula",
        "B each", "launches",
    )  # fmt: skip
    for name, model in models.items():
        states = list(state_tensors(model.of_rank(0, num_ranks=1)))
        orders = Counter(sum(key.startswith("factor") for key in state) for state in states)
        formula = sum(published_bytes(tuple(p.shape), model.point) for p in model.parameters.values())
        counted = num_bytes(states)
        table.add_row(
            name,
            f"{model.num_parameters() / 1e6:.3f} M",
            str(len(model.parameters)),
            f"{len(states)}" + (f" ({orders[0]} large)" if orders[0] else ""),
            ", ".join(str(orders[order]) for order in (1, 2, 3)),
            str(sum(order * count for order, count in orders.items())),
            f"{counted / 1e6:,.3f}",
            f"{formula / 1e6:,.3f}",
            f"{counted / model.num_parameters():.2f}",
            f"{launches_per_step(model):,}",
        )
    return table


def ranks_table(models: Mapping[str, Model]) -> Table:
    """Return what ranks exchange per step, and how much more than the mean the busiest has."""
    table = Table(
        "workload", "ranks", "all-gathers", "received", "buffer / weights", "most state", "/ mean",
        "root work: most / mean",
    )  # fmt: skip
    for name, model in models.items():
        for num_ranks in RANKS:
            table.add_row(name, str(num_ranks), *rank_cells(model, num_ranks))
    return table


def rank_cells(model: Model, num_ranks: int) -> list[str]:
    """Return one row of the table of ranks; work is counted in cubes of block sides."""
    state, work, buffers = [], [], [0]
    for rank in range(num_ranks):
        optimizers = model.of_rank(rank, num_ranks=num_ranks)
        states = list(state_tensors(optimizers))
        state.append(num_bytes(states))
        work.append(sum(t.shape[0] ** 3 for block in states for key, t in block.items() if key.startswith("factor")))
        buffers = [optimizer.buffer_bytes for optimizer in optimizers]
    return [
        str(sum(size > 0 for size in buffers)),
        f"{sum(buffers) * (num_ranks - 1) / num_ranks / 1e6:,.1f} MB",
        f"{sum(buffers) / (NUM_BYTES * model.num_parameters()):.3f}",
        f"{max(state) / 1e6:,.1f} MB",
        *(f"{max(values) / statistics.fmean(values):.3f}" for values in (state, work)),
    ]


class CountedLaunches(TorchDispatchMode):
    """Counts operations that compute or copy: on a device each is at least one kernel. Views are free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: dict[str, object] | None = None
    ) -> object:
        """Count one operation and do it."""
        returned = func._schema.returns  # noqa: SLF001 - torch's own way to tell a view
        is_view = bool(returned) and returned[0].alias_info is not None and not returned[0].alias_info.is_write
        self.count += not is_view
        return func(*args, **(kwargs or {}))


def launches_per_step(model: Model) -> int:
    """Return how many operations an ordinary step after step 100 dispatches where one rank owns all."""
    optimizers = model.of_rank(0, num_ranks=1)
    for parameter in model.parameters.values():
        parameter.grad = torch.empty_like(parameter)
    launches = CountedLaunches()
    with launches:
        for optimizer in optimizers:
            optimizer.num_steps = optimizer.settings.precondition_frequency
            optimizer.step()
    return launches.count


def published_table() -> Table:
    """Return single shapes beside their published figures."""
    table = Table("shape", "blocks", "factor and root floats per parameter", "published")
    for shape, published in PUBLISHED_FLOATS.items():
        blocks = blocks_of(shape)
        floats = sum(2 * size**2 for block in blocks for size in block) / math.prod(shape)
        table.add_row(str(shape), ", ".join(map(str, blocks)), f"{floats:.2f}", f"{published:g}")
    return table


# What is timed: a sample with numbers.


@dataclass(frozen=True)
class Times:
    """Seconds of one step of all parameters of a group, and how many of them were timed."""

    before_roots_s: float
    after_roots_s: float
    root_step_s: float
    num_sampled: int


def times_row(model: Model) -> list[str]:
    """Return one row of the table of times."""
    optimizers = model.of_rank(0, num_ranks=1)
    groups = [
        timed_group(tuple(shape), count, optimizer.settings)
        for optimizer in optimizers
        for shape, count in Counter(p.shape for group in optimizer.param_groups for p in group["params"]).items()
    ]
    before_s = sum(group.before_roots_s for group in groups)
    after_s = sum(group.after_roots_s for group in groups)
    root_s = sum(group.root_step_s for group in groups)
    adam_s = timed_adam_s(model)
    mean_s = after_s + (root_s - after_s) / optimizers[0].settings.precondition_frequency
    share = sum(group.num_sampled for group in groups) / model.num_parameters()
    cells = [f"{1e3 * seconds:,.1f}" for seconds in (adam_s, before_s, after_s, root_s, mean_s)]
    return [*cells, f"{mean_s / adam_s:.1f} x", f"{100 * share:.1f} %"]


def timed_adam_s(model: Model) -> float:
    """Return the seconds of one step of NAdamW: of all parameters, or of the smallest and part of another, scaled up.

    Its work is element-wise, but a sample that fits into a cache would be too fast.
    """
    sample: list[nn.Parameter] = []
    left = ADAM_SAMPLE_ENTRIES
    for parameter in sorted(model.parameters.values(), key=lambda p: p.numel()):
        taken = min(parameter.numel(), left)
        if taken:
            shape = parameter.shape if taken == parameter.numel() else (taken,)
            sample.append(nn.Parameter(torch.randn(shape)))
        left -= taken
    seconds = median_s(NAdamW(sample, lr=0.0, weight_decay=0.1), max_steps=5)
    return seconds * model.num_parameters() / (ADAM_SAMPLE_ENTRIES - left)


def timed_group(shape: Shape, count: int, settings: ShampooSettings) -> Times:
    """Return the times of ``count`` parameters of a shape, from some of them or from some rows of one."""
    rows, copies = sample_of(shape, count, settings)
    sample = {str(index): nn.Parameter(torch.randn(rows, *shape[1:])) for index in range(copies)}
    optimizer = DistributedShampoo(sample, settings, lr=0.0)
    frequency = settings.precondition_frequency
    before_s = median_s(optimizer, max_steps=frequency - 1)
    optimizer.num_steps = frequency - 1
    root_s = median_s(optimizer, max_steps=1)
    after_s = median_s(optimizer, max_steps=frequency - 1)
    sampled = sum(parameter.numel() for parameter in sample.values())
    scale = count * math.prod(shape) / sampled
    return Times(scale * before_s, scale * after_s, scale * root_s, num_sampled=sampled)


def sample_of(shape: Shape, count: int, settings: ShampooSettings) -> tuple[int, int]:
    """Return how many rows of the shape, and how many copies of that, are timed.

    Rows are cut between blocks: a part of a parameter has that part of its blocks.
    """
    slab = settings.blocking.max_dimension if settings.is_preconditioned else 1
    rows = shape[0]
    if rows > slab and most_copies(shape, settings) < 1:
        rows = max(slab, int(rows * most_copies(shape, settings)) // slab * slab)
    return rows, max(1, min(count, int(most_copies((rows, *shape[1:]), settings))))


def most_copies(shape: Shape, settings: ShampooSettings) -> float:
    """Return how often a shape fits into a sample."""
    by_size = SAMPLE_ENTRIES / math.prod(shape)
    if not settings.is_preconditioned:
        return by_size
    return min(by_size, SAMPLE_WORK / sum(size**3 for block in blocks_of(shape) for size in block))


def median_s(optimizer: Optimizer, *, max_steps: int) -> float:
    """Return the median time of some steps, each with gradients of its own: equal ones leave factors of rank one."""
    times: list[float] = []
    while len(times) < max_steps and (sum(times) < LONGEST_SAMPLING_S or len(times) < min(max_steps, LEAST_STEPS)):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter)
        started_s = time.process_time()
        optimizer.step()
        times.append(time.process_time() - started_s)
    return statistics.median(times)


if __name__ == "__main__":
    main()
