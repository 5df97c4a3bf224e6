"""Full-size models and every submission on tensors without content, as if on an accelerator; a process of its own.

    python -m tests.fake_device workload NAME ...      loss, backward, evaluation
    python -m tests.fake_device forward NAME ...       loss and evaluation, on fake CUDA
    python -m tests.fake_device submission NAME ...    three steps and an evaluation on every tiny problem

Prints ``{"name", "problem", "seconds"}`` for each, a line of JSON; the problem is null, or what went wrong and where.
Tensors of two devices in one operation are found, and whatever reads a tensor's content on the host.

Fake CUDA tensors cannot be differentiated where there is no driver (autograd asks it for streams), so that all but
``forward`` runs on a stand-in device, which is registered for the whole process.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from perfbench.api.contracts.rehearsal import BuildSubmission, Rehearsal
from perfbench.api.contracts.tiny_problems import TINY_PROBLEMS, TinyProblem
from perfbench.api.submission import Submission, TrainingContext
from perfbench.api.workload import Batch, LossSums, Workload
from perfbench.compose import compose_submission, compose_workload
from perfbench.data.speech.task import SpeechWorkload
from perfbench.registry import build_workload, submission_builder, with_stand_ins
from perfbench.spec.submission import HyperparameterPoint, PointSpace, RangeSpace
from perfbench.spec.workload import ScaleName, Split
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point
from perfbench.workloads.wmt import beam

STAND_IN = "standin"
CUDA = "cuda"
NUM_RANKS = 8
"""A batch is one rank's part, as in the competition."""
DECODED_LENGTH = 6
"""Positions of a beam search: each takes as long as a forward here."""


def main(kind: str, names: list[str]) -> None:
    """Look at each name and print what was found."""
    torch.compiler.set_stance("force_eager")  # no compiler knows the stand-in
    if kind != "forward":
        _setup_privateuseone_for_python_backend(STAND_IN, backend_module=StandInModule())
    looks: dict[str, Callable[[str], None]] = {
        "workload": lambda name: look_at_workload(name, STAND_IN),
        "forward": lambda name: look_at_workload(name, CUDA),
        "submission": look_at_submission,
        "fault": look_at_fault,
    }
    look = looks[kind]
    for name in names:
        started_s = time.perf_counter()
        found = {"name": name, "problem": _problem_of(look, name), "seconds": time.perf_counter() - started_s}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _problem_of(look: Callable[[str], None], name: str) -> str | None:
    try:
        look(name)
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is the finding
        frames = traceback.extract_tb(problem.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename and frame.filename != __file__]
        where = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        return f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0][:300]}{where}"
    return None


class StandInModule(_DummyBackendModule):
    """What torch asks of a device's module."""

    def is_available(self) -> bool:
        """Say no: else tensors are made there in earnest."""
        return False

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """Return what autocast may be set to."""
        return [torch.bfloat16]


def look_at_workload(name: str, device: str) -> None:
    """Run loss, backward and evaluation of a full-size workload."""
    spec = compose_workload(name, scale=ScaleName.FULL.value)
    params = spec.params | ({"row_length": DECODED_LENGTH} if "row_length" in spec.params else {})
    with without_reading_texts():
        trains(build_workload(spec, Path("/nonexistent")), device)
        evaluates(build_workload(spec.model_copy(update={"params": params}), Path("/nonexistent")), device)


def trains(workload: Workload, device: str) -> None:
    """Run the loss, and on the stand-in the backward; every parameter must get a gradient."""
    size = max(1, workload.spec.reference_batch_size // NUM_RANKS)
    batch = workload.synthetic_batch(batch_size=size, seed=0, num_ranks=NUM_RANKS)
    with FakeTensorMode() as mode, torch.set_grad_enabled(device == STAND_IN):
        model = on_device(workload, device).train()
        sums = workload.loss(model, moved(batch, mode, device), label_smoothing=0.1)
        if device == STAND_IN:
            (sums.summed / sums.num_valid).backward()
            without = [path for path, parameter in model.named_parameters() if parameter.grad is None]
            assert not without, f"parameters without a gradient: {without[:3]}"


def evaluates(workload: Workload, device: str) -> None:
    """Run one batch of every split; what comes of it must be on the device."""
    size = max(1, workload.spec.eval_batch_size // NUM_RANKS)
    for split in (Split.EVAL_TRAIN, Split.VALIDATION):
        batch = workload.synthetic_batch(batch_size=size, seed=0, split=split, num_ranks=NUM_RANKS)
        with FakeTensorMode() as mode, torch.no_grad():
            model = on_device(workload, device).eval()
            sums = workload.eval_sums(model, moved(batch, mode, device), split=split)
            elsewhere = [name for name, value in sums.items() if str(value.device) != str(torch.device(device, 0))]
            assert not elsewhere, f"sums on another device: {elsewhere}"


def on_device(workload: Workload, device: str) -> nn.Module:
    """Build the model without content; ``Module.to`` cannot move that."""
    with mock.patch.object(nn.init, "trunc_normal_", lambda tensor, **_: tensor):  # looks at the content
        model = workload.build_model(seed=0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            module.register_parameter(name, nn.Parameter(parameter.detach().to(device)))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return model


def moved(batch: Batch, mode: FakeTensorMode, device: str) -> Batch:
    """Return the batch without content, on the device."""
    return {name: mode.from_tensor(tensor).to(device) for name, tensor in batch.items()}


@contextmanager
def without_reading_texts() -> Iterator[None]:
    """Leave out of evaluation what is the host's by nature: comparing texts, and looking whether a search may end."""
    texts = lambda *_: (["a"], ["a"])  # noqa: E731
    with (
        mock.patch.object(SpeechWorkload, "_texts", texts),
        mock.patch.object(beam, "_CHECK_EVERY", 1 << 30),
        mock.patch("perfbench.workloads.wmt.workload.WmtWorkload._bleu_sums", _only_decoded),
    ):
        yield


def _only_decoded(workload: Workload, model: nn.Module, batch: Batch, _split: Split) -> dict[str, Tensor]:
    from perfbench.workloads.wmt.workload import _side

    return {"tokens": workload._decoded(model, _side(batch, "source"))}  # type: ignore[attr-defined]


def constructed_on_ones(build: BuildSubmission) -> BuildSubmission:
    """Let a construction, which happens once, look at tensors: it reads ones. A step may not look."""

    def ones(shape: tuple[int, ...]) -> object:
        return [ones(shape[1:]) for _ in range(shape[0])] if shape else 1.0

    def construct(context: TrainingContext) -> Submission:
        with mock.patch.object(FakeTensor, "tolist", lambda tensor: ones(tuple(tensor.shape))):
            return build(context)

    return construct


class HostGenerator(torch.Generator):
    """A generator that is always the host's: the stand-in has none."""

    def __new__(cls, _device: object = None, **_: object) -> HostGenerator:
        return super().__new__(cls)


class OnStandIn(TinyProblem):
    """A tiny problem whose tensors have no content and are on the stand-in."""

    def __init__(self, problem: TinyProblem, mode: FakeTensorMode) -> None:
        self._problem = problem
        self._mode = mode

    name = property(lambda self: self._problem.name)
    loss_type = property(lambda self: self._problem.loss_type)

    def build_model(self, *, seed: int) -> nn.Module:
        return on_device(self._problem, STAND_IN)  # type: ignore[arg-type]

    def examples(self, generator: torch.Generator) -> Batch:
        return self._problem.examples(generator)

    def per_example_loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
        return self._problem.per_example_loss(outputs, targets, label_smoothing=label_smoothing)

    def batch(self, number: int) -> Batch:
        with torch.utils._python_dispatch._disable_current_modes():
            real = self._problem.batch(number)
        return moved(real, self._mode, STAND_IN)


class RehearsalOnStandIn(Rehearsal):
    """A rehearsal that tells the submission its device."""

    def _context(self, *, seed: int, step_hint: int) -> TrainingContext:
        context = super()._context(seed=seed, step_hint=step_hint)
        return dataclasses.replace(context, device=torch.device(STAND_IN, 0))


def look_at_submission(name: str) -> None:
    """Take a few steps on every tiny problem and make ready for an evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        spec = with_stand_ins(compose_submission(name), Path(folder))
        point: HyperparameterPoint | None = None
        match spec.search_space:
            case PointSpace(points=points):
                point = points[0]
            case RangeSpace() as space:
                point = map_point(space, halton.points(len(space.dimensions), num_points=1)[0])
        build = constructed_on_ones(submission_builder(spec, point))
        for problem in TINY_PROBLEMS:
            with FakeTensorMode() as mode, mock.patch.object(torch, "Generator", HostGenerator):
                rehearsal = RehearsalOnStandIn(build, OnStandIn(problem, mode), seed=0, step_hint=100)
                rehearsal.train(until=3)
                rehearsal.submission.prepare_for_eval()
                rehearsal.submission.resume_training()


class Broken:
    """A workload with a fault that a CPU does not show: what the tests of this module look at."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.spec = compose_workload("mnist", scale=ScaleName.FULL.value)
        self._whole = build_workload(self.spec, Path("/nonexistent"))
        self.build_model, self.synthetic_batch = self._whole.build_model, self._whole.synthetic_batch

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the loss, after the fault."""
        sums = self._whole.loss(model, batch, label_smoothing=label_smoothing)
        if self.fault == "a tensor of the host":
            return sums._replace(per_example=sums.per_example * torch.ones(len(sums.per_example)))
        if self.fault == "a look at the content":
            assert float(sums.summed) >= 0
        return sums


def look_at_fault(fault: str) -> None:
    """Look at a broken workload."""
    trains(Broken(fault), STAND_IN)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
