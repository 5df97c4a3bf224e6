"""What every workload must do, checked on its small data; usable without pytest (``perfbench check workload NAME``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from perfbench.api.contracts.finding import Finding
from perfbench.api.picture import problems_of
from perfbench.api.workload import Batch, LossSums, Shard, Workload
from perfbench.spec.workload import Split

_SEED = 1
_NUM_BATCHES = 3
_SUM_TOLERANCE = 1e-6
_NUM_SHARDS = 2
_DROPOUT_RATE = 0.5
_MOVED_STD = 0.02
"""How far parameters are moved from where they start."""

Check = Callable[[Workload], str]
"""Returns what was seen; raises where the contract is broken."""


def check_workload(workload: Workload) -> list[Finding]:
    """Run every check on a workload whose data is prepared; takes seconds at mini scale."""
    data_checks: list[tuple[str, Check]] = [
        ("the same seed gives the same batches, another seed others", _batches_follow_seed),
        ("two shards make one batch, in order", _shards_make_one_batch),
        ("a stream continues from its position", _stream_continues),
        ("a stream crosses the end of an epoch", _stream_crosses_epoch),
        ("evaluation covers each split exactly, for one and two shards and any batch size", _evaluation_is_exact),
        ("padded examples change neither loss nor count", _padding_is_weightless),
        ("batches of training and evaluation can be drawn", _batches_can_be_drawn),
        ("invented batches have the form of real ones, on one and two ranks", _invented_batches_fit),
    ]
    return check_model(workload) + [_finding(name, check, workload) for name, check in data_checks]


def check_model(workload: Workload, *, backend: str = "inductor") -> list[Finding]:
    """Run the checks whose answer depends on the model: all that a variant needs beside its family's base.

    Args:
        workload: With its data prepared.
        backend: Of ``torch.compile``. Graph breaks and recompilations are the same with ``aot_eager``, which builds no
            machine code and takes a fraction of the time.
    """
    checks: list[tuple[str, Check]] = [
        ("the same seed builds the same model, another seed another one", _model_follows_seed),
        ("building a model leaves the global generator alone", _build_leaves_generator),
        ("every parameter has a role", _every_parameter_has_a_role),
        ("the target's metric is among the results", _target_metric_exists),
        ("compiled whole on an invented batch, real ones recompile nothing", partial(_compiles_whole, backend=backend)),
        ("a dropout rate takes effect, and zero switches it off", _dropout_takes_effect),
    ]
    return [_finding(name, check, workload) for name, check in checks]


def _finding(name: str, check: Check, workload: Workload) -> Finding:
    try:
        return Finding(name=name, passed=True, detail=check(workload))
    except Exception as problem:  # noqa: BLE001 - a check that cannot run has found something
        text = str(problem).strip() or type(problem).__name__
        return Finding(name=name, passed=False, detail=text.splitlines()[0])


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not condition:
        raise AssertionError(message)


def _equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _model_follows_seed(workload: Workload) -> str:
    first, again, other = (workload.build_model(seed=seed).state_dict() for seed in (_SEED, _SEED, _SEED + 1))
    _require(_equal(first, again), "two builds with one seed differ")
    _require(not _equal(first, other), "two seeds give the same model")
    return f"{sum(tensor.numel() for tensor in first.values()):,} parameters"


def _build_leaves_generator(workload: Workload) -> str:
    before = _generators()
    workload.build_model(seed=_SEED)
    moved = [name for name, state in _generators().items() if not torch.equal(state, before[name])]
    _require(not moved, f"the global generator was moved: {', '.join(moved)}")
    return ", ".join(before)


def _generators() -> dict[str, Tensor]:
    """Return the state of the global generator of every device that this process uses."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _every_parameter_has_a_role(workload: Workload) -> str:
    model = workload.build_model(seed=_SEED)
    names = {name for name, _ in model.named_parameters()}
    roles = workload.parameter_roles(model)
    _require(names == set(roles), f"without a role, or unknown: {sorted(names ^ set(roles))[:3]}")
    return ", ".join(sorted({role.value for role in roles.values()}))


def _moved_model(workload: Workload) -> nn.Module:
    """Build a model for evaluation and move its parameters: at its start it may answer zero, whatever it is given."""
    model = workload.build_model(seed=_SEED).eval()
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(_MOVED_STD * torch.randn(parameter.shape, generator=generator))
    return model


def _first_batches(workload: Workload, *, seed: int, shard: Shard, skip: int = 0) -> list[Batch]:
    stream = workload.train_batches(global_batch_size=workload.spec.reference_batch_size, seed=seed, shard=shard)
    try:
        return list(itertools.islice(stream, skip, skip + _NUM_BATCHES))
    finally:
        stream.close()


def _batches_follow_seed(workload: Workload) -> str:
    first, again, other = (_first_batches(workload, seed=seed, shard=Shard()) for seed in (_SEED, _SEED, _SEED + 1))
    _require(all(map(_equal, first, again)), "two streams with one seed differ")
    _require(not all(map(_equal, first, other)), "two seeds give the same batches")
    return f"batch of {workload.spec.reference_batch_size:,}"


def _shards_make_one_batch(workload: Workload) -> str:
    whole = _first_batches(workload, seed=_SEED, shard=Shard())
    shards = [Shard(rank=rank, num_ranks=_NUM_SHARDS) for rank in range(_NUM_SHARDS)]
    parts = [_first_batches(workload, seed=_SEED, shard=shard) for shard in shards]
    for index, batch in enumerate(whole):
        joined = {name: torch.cat([part[index][name] for part in parts]) for name in batch}
        _require(_equal(batch, joined), f"global batch {index} is another one on {_NUM_SHARDS} shards")
    return ""


def _stream_continues(workload: Workload) -> str:
    size = workload.spec.reference_batch_size
    stream = workload.train_batches(global_batch_size=size, seed=_SEED, shard=Shard())
    next(stream)
    position = stream.state_dict()
    expected = next(stream)
    stream.close()
    resumed = workload.train_batches(global_batch_size=size, seed=_SEED, shard=Shard())
    resumed.load_state_dict(position)
    actual = next(resumed)
    resumed.close()
    _require(_equal(expected, actual), "the batch after the position is another one")
    return f"position {position}"


def _stream_crosses_epoch(workload: Workload) -> str:
    size = workload.spec.reference_batch_size
    stream = workload.train_batches(global_batch_size=size, seed=_SEED, shard=Shard())
    try:
        seen: set[int] = set()
        for index in itertools.count():
            ids = stream.example_ids(index)
            if not seen.isdisjoint(ids.tolist()):
                break
            _require(len(np.unique(ids)) == len(ids), f"batch {index} holds an example twice")
            seen.update(ids.tolist())
        first = stream.example_ids(0)
        _require(not np.array_equal(first, stream.example_ids(index)), "the second epoch has the order of the first")
        return f"{index} batches in an epoch"
    finally:
        stream.close()


def _sums(workload: Workload, model: nn.Module, split: Split, *, batch_size: int, num_shards: int) -> dict[str, Tensor]:
    total: dict[str, Tensor] = {}
    counts = set()
    for rank in range(num_shards):
        batches = list(
            workload.eval_batches(
                split, global_batch_size=batch_size, seed=_SEED, shard=Shard(rank=rank, num_ranks=num_shards)
            )
        )
        counts.add(len(batches))
        for batch in batches:
            for name, value in workload.eval_sums(model, batch, split=split).items():
                total[name] = total[name] + value if name in total else value
    _require(len(counts) == 1, f"ranks have different numbers of batches: {sorted(counts)}")
    return total


def _evaluation_is_exact(workload: Workload) -> str:
    model = _moved_model(workload)
    seen = []
    with torch.no_grad():
        for split in Split:
            size = workload.spec.eval_batch_size
            ways = [(size, 1), (size, _NUM_SHARDS), (size // 2, 1)]
            finished = [
                workload.finish_metrics(split, _sums(workload, model, split, batch_size=batch, num_shards=shards))
                for batch, shards in ways
            ]
            for name, value in finished[0].items():
                others = [metrics[name] for metrics in finished[1:]]
                worst = max(abs(other - value) for other in others)
                _require(worst <= _SUM_TOLERANCE * max(1.0, abs(value)), f"{split.value}/{name} differs by {worst:.2e}")
            seen.append(f"{split.value} {finished[0].get('num_examples', 0):,.0f}")
    return ", ".join(seen)


def _target_metric_exists(workload: Workload) -> str:
    target = next(iter(workload.spec.targets.values()))
    split_name, _, metric = target.metric.partition("/")
    split = Split(split_name)
    model = workload.build_model(seed=_SEED).eval()
    with torch.no_grad():
        sums = _sums(workload, model, split, batch_size=workload.spec.eval_batch_size, num_shards=1)
    metrics = workload.finish_metrics(split, sums)
    _require(metric in metrics, f"{target.metric} is not among {sorted(metrics)}")
    return f"{target.metric} {metrics[metric]:.4f} before training"


def _padding_is_weightless(workload: Workload) -> str:
    model = _moved_model(workload)
    for split in Split:
        batches = list(
            workload.eval_batches(split, global_batch_size=workload.spec.eval_batch_size, seed=_SEED, shard=Shard())
        )
        padded = batches[-1]
        poisoned = {name: _poisoned(tensor, padded["weights"]) for name, tensor in padded.items()}
        with torch.no_grad():
            plain, changed = (workload.eval_sums(model, batch, split=split) for batch in (padded, poisoned))
        _require(_equal(plain, changed), f"{split.value}: what stands in padded examples changes the sums")
    return ""


def _batches_can_be_drawn(workload: Workload) -> str:
    model = workload.build_model(seed=_SEED).eval()
    size = workload.spec.eval_batch_size
    evaluation = next(workload.eval_batches(Split.VALIDATION, global_batch_size=size, seed=_SEED, shard=Shard()))
    captions = []
    for batch in (_first_batches(workload, seed=_SEED, shard=Shard())[0], evaluation):
        before = {name: tensor.clone() for name, tensor in batch.items()}
        with torch.no_grad():
            picture = workload.picture(model, batch)
        problems = problems_of(picture)
        _require(not problems, f"{len(problems)} problems of the picture, the first: {next(iter(problems), '')}")
        _require(_equal(batch, before), "drawing a batch changes it")
        captions.append(picture.caption)
    return captions[-1]


def _invented_batches_fit(workload: Workload) -> str:
    model = _moved_model(workload)
    for num_ranks in (1, _NUM_SHARDS):
        for split, real in _real_batches(workload, Shard(num_ranks=num_ranks)):
            size = workload.spec.reference_batch_size if split is None else workload.spec.eval_batch_size
            asked = partial(workload.synthetic_batch, batch_size=size // num_ranks, split=split, num_ranks=num_ranks)
            where = f"{'training' if split is None else split.value} on {num_ranks} ranks"
            before = torch.get_rng_state()
            invented, again, other = asked(seed=_SEED), asked(seed=_SEED), asked(seed=_SEED + 1)
            _require(torch.equal(before, torch.get_rng_state()), f"{where}: the global generator was moved")
            _require(_form(invented) == _form(real), f"{where}: {_form(invented)} instead of {_form(real)}")
            _require(_equal(invented, again), f"{where}: two batches with one seed differ")
            _require(not _equal(invented, other), f"{where}: two seeds give the same batch")
            _require_finite(workload, model, invented, split, where=where)
    return f"{len(Split) + 1} kinds of batches"


def _real_batches(workload: Workload, shard: Shard) -> Iterator[tuple[Split | None, Batch]]:
    yield None, _first_batches(workload, seed=_SEED, shard=shard)[0]
    size = workload.spec.eval_batch_size
    for split in Split:
        yield split, next(workload.eval_batches(split, global_batch_size=size, seed=_SEED, shard=shard))


def _form(batch: Batch) -> list[tuple[object, ...]]:
    """Return everything about a batch on which compiled code depends; the order of names is part of it."""
    return [
        (name, tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device.type) for name, tensor in batch.items()
    ]


def _require_finite(workload: Workload, model: nn.Module, batch: Batch, split: Split | None, *, where: str) -> None:
    with torch.no_grad():
        sums = workload.loss(model, batch)._asdict() if split is None else workload.eval_sums(model, batch, split=split)
    odd = [name for name, value in sums.items() if not bool(value.isfinite().all())]
    _require(not odd, f"{where}: not finite on invented values: {odd}")
    constant = [
        name
        for name, tensor in batch.items()
        if tensor.dim() > 1 and len(tensor) > 1 and bool((tensor == tensor[:1]).all())
    ]
    _require(not constant, f"{where}: all examples have the same {constant}")


def _poisoned(tensor: Tensor, weights: Tensor) -> Tensor:
    """Overwrite padded examples with the first example: valid values that must not count."""
    poisoned = tensor.clone()
    if tensor is not weights and len(tensor) == len(weights):
        poisoned[weights == 0] = tensor[0]
    return poisoned


def _compiles_whole(workload: Workload, *, backend: str) -> str:
    from torch._dynamo.utils import counters

    torch.compiler.reset()  # what other workloads compiled in this process counts towards dynamo's limit
    model = workload.build_model(seed=_SEED)
    batches = _first_batches(workload, seed=_SEED, shard=Shard())

    def loss(batch: Batch) -> LossSums:
        return workload.loss(model, batch)

    compiled = cast("Callable[[Batch], LossSums]", torch.compile(loss, fullgraph=True, dynamic=False, backend=backend))
    breaks_before = sum(counters["graph_break"].values())
    compiled(workload.synthetic_batch(batch_size=workload.spec.reference_batch_size, seed=_SEED)).summed.backward()
    with torch.compiler.set_stance("fail_on_recompile"):
        for batch in batches:
            compiled(batch).summed.backward()
    _require(sum(counters["graph_break"].values()) == breaks_before, "graph breaks")
    return f"{_NUM_BATCHES} steps"


def _dropout_takes_effect(workload: Workload) -> str:
    model = _moved_model(workload)  # only dropout trains: models may augment their input at random
    batch = _first_batches(workload, seed=_SEED, shard=Shard())[0]
    dropouts = [module.train() for module in model.modules() if isinstance(module, nn.Dropout | nn.Dropout2d)]
    if not dropouts:
        return "the model has no dropout"
    with torch.no_grad():
        workload.set_dropout(model, _DROPOUT_RATE)
        dropped = {float(workload.loss(model, batch).summed) for _ in range(_NUM_BATCHES)}
        workload.set_dropout(model, 0.0)
        kept = {float(workload.loss(model, batch).summed) for _ in range(_NUM_BATCHES)}
    _require(len(dropped) > 1, "a rate of 0.5 changes nothing")
    _require(len(kept) == 1, "a rate of 0 still drops")
    return ""
