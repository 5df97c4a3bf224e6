"""What a submission costs and what it looks at: memory, waits for the device, and independence of names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from perfbench.api.contracts.finding import EVERYTHING, Attention, Finding, raised
from perfbench.api.contracts.rehearsal import BuildSubmission, Rehearsal, differences, read_back
from perfbench.api.contracts.tiny_problems import TINY_PROBLEMS, TinyProblem

NUM_STEPS = 110
"""As in the other checks: longer than the longest known period."""
NUM_RENAMED_STEPS = 12
_SEED = 11

_WAITING_OPERATORS = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"})
"""Operators that return, or whose output's shape depends on, values that are on the device."""
_WAITING_METHODS = ("tolist", "numpy", "cpu")
"""Copies to the host that no operator shows where the tensor is on the host already."""
_OWN_WAYS = "torch/optim/"
"""torch's optimizers keep their step counters on the host: reading them waits for nothing."""


def check_conduct(
    build: BuildSubmission,
    *,
    state_bytes_per_parameter: float | None,
    waits_per_step: float,
    attention: Attention = EVERYTHING,
) -> list[Finding]:
    """Return what was found for one submission with its hyperparameters already bound.

    Args:
        build: Makes the submission from its context.
        state_bytes_per_parameter: What it declares to keep at most, on any of the tiny problems.
        waits_per_step: How often per step, on average, it declares to wait for the device.
        attention: Which checks, and who hears of them.
    """
    findings = []
    for problem in TINY_PROBLEMS:
        mine = attention.under(problem.name)
        if not mine.takes("it fits its memory, waits as declared, and looks at no names"):
            continue
        try:
            findings += _conduct_on(build, problem, state_bytes_per_parameter, waits_per_step)
        except Exception as error:  # noqa: BLE001 - the submission is a stranger's code: any error is a finding
            findings.append(Finding(name=f"{problem.name}: it trains", passed=False, detail=raised(error)))
    return findings


def _conduct_on(
    build: BuildSubmission, problem: TinyProblem, state_bytes_per_parameter: float | None, waits_per_step: float
) -> list[Finding]:
    rehearsal = Rehearsal(build, problem, seed=_SEED, step_hint=NUM_STEPS)
    with torch.random.fork_rng(devices=()), counted_waits() as waits:
        rehearsal.train(until=NUM_STEPS)
    bytes_per_parameter = state_bytes(rehearsal) / sum(p.numel() for p in rehearsal.model.parameters())
    per_step = waits.total / max(rehearsal.num_steps, 1)
    return [
        _fits(problem, bytes_per_parameter, state_bytes_per_parameter),
        _waits(problem, per_step, waits_per_step, waits.seen),
        _ignores_names(build, problem),
    ]


def state_bytes(rehearsal: Rehearsal) -> int:
    """Return the bytes of all tensors in a submission's state, each storage once; single numbers do not count."""
    sizes = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors(rehearsal.submission.state_dict())
        if tensor.dim()
    }
    return sum(sizes.values())


class counted_waits(TorchDispatchMode):  # noqa: N801 - used as a context manager
    """Counts what would wait for a device: seen on a CPU too, so that no GPU is needed to be told."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Return how often the code inside would have waited."""
        return sum(self.seen.values())

    def __enter__(self) -> counted_waits:
        """Count from here."""
        super().__enter__()  # type: ignore[no-untyped-call]
        self._methods = _counted_methods(self._count)
        self._methods.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop counting."""
        self._methods.__exit__(kind, value, traceback)
        super().__exit__(kind, value, traceback)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator, which has no public type
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operator returns
        """Run an operator, counted if it waits."""
        name = func.overloadpacket.__name__
        if name in _WAITING_OPERATORS and not _is_called_by_torch_optimizers():
            self._count(name)
        return func(*args, **(kwargs or {}))

    def _count(self, name: str) -> None:
        self.seen[name] = self.seen.get(name, 0) + 1


@contextmanager
def _counted_methods(count: Callable[[str], None]) -> Iterator[None]:
    def counted(name: str) -> Callable[..., Any]:
        original = getattr(torch.Tensor, name)

        def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - stands in for any method
            count(name)
            return original(self, *args, **kwargs)

        return call

    for name in _WAITING_METHODS:
        setattr(torch.Tensor, name, counted(name))
    try:
        yield
    finally:
        for name in _WAITING_METHODS:
            delattr(torch.Tensor, name)  # the original is a base class's


def _is_called_by_torch_optimizers() -> bool:
    """Tell whether the nearest caller outside of torch's dispatch is one of torch's own optimizers."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to look at callers
    while frame is not None and frame.f_back is not None:
        file = frame.f_code.co_filename
        if file != __file__ and ("/torch/" not in file or _OWN_WAYS in file):
            return _OWN_WAYS in file
        frame = frame.f_back
    return False


def _tensors(tree: Any) -> Iterator[Tensor]:  # noqa: ANN401 - a tree of plain data
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)


def _fits(problem: TinyProblem, seen: float, declared: float | None) -> Finding:
    if declared is None:
        detail = f"the YAML declares no state_bytes_per_parameter; {seen:.1f} were seen"
        return Finding(name=f"{problem.name}: it declares its memory", passed=False, detail=detail)
    detail = f"{seen:.1f} bytes of state per parameter, {declared:g} declared"
    return Finding(name=f"{problem.name}: it fits its declared memory", passed=seen <= declared, detail=detail)


def _waits(problem: TinyProblem, seen: float, declared: float, by_name: Mapping[str, int]) -> Finding:
    shown = ", ".join(f"{name} {count}" for name, count in sorted(by_name.items()))
    detail = f"{seen:.2f} waits for the device per step, {declared:g} declared" + (f" ({shown})" if shown else "")
    return Finding(
        name=f"{problem.name}: it waits for the device no more than declared", passed=seen <= declared, detail=detail
    )


def _ignores_names(build: BuildSubmission, problem: TinyProblem) -> Finding:
    """Train the same model under another class name: nothing may change, bit for bit."""
    ends = []
    for class_name in (None, "SomethingElse"):
        with torch.random.fork_rng(devices=()):
            rehearsal = Rehearsal(build, problem, seed=_SEED, step_hint=NUM_STEPS, model_class_name=class_name)
            rehearsal.train(until=NUM_RENAMED_STEPS)
            ends.append(read_back(rehearsal.saved()))
    paths = differences(*ends)
    return Finding(
        name=f"{problem.name}: another name of the model changes nothing", passed=not paths, detail=", ".join(paths[:3])
    )
