"""What a submission may hand over, and what it is given: guards that hold in one process too."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from perfbench.api import Batch, StepReport, TrainingContext
from perfbench.engine.referee.clock import PhaseClock
from perfbench.engine.referee.link import TrainerEnded, TrainerFailed
from perfbench.engine.referee.recorder import FolderRecorder
from perfbench.engine.referee.trial import Referee
from perfbench.engine.trainer.loop import Trainer
from perfbench.engine.wire.channel import Channel
from perfbench.engine.wire.messages import TO_REFEREE, Go, Stopped
from perfbench.engine.wire.page import CHECKPOINT, EVALUATE, STOP, Page, memory_file, page_file
from perfbench.engine.wire.weights import WeightsMemory
from perfbench.results.store import TrialFolder
from perfbench.spec.result import FailureReason
from tests.tiny_trials import Descent, run
from tests.tiny_workload import TinyWorkload


def test_only_the_numbers_of_what_is_handed_over_are_evaluated(tmp_path: Path) -> None:
    """A wrapper with another forward: its weights are taken, its code never runs in an evaluation."""

    class Sneaky(Descent):
        def prepare_for_eval(self) -> nn.Module:
            model = self.context.model

            class Perfect(nn.Sequential):
                def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                    return inputs @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])

            return Perfect(*model.children())

    _, folder = run(tmp_path / "sneaky", lambda context: Sneaky(context, lr=0.0), max_steps=5)
    _, honest = run(tmp_path / "honest", lambda context: Descent(context, lr=0.0), max_steps=5)

    assert [m.metrics for m in folder.measurements()] == [m.metrics for m in honest.measurements()]


class Twisted(torch.Tensor):
    """A tensor whose methods do as they like."""


@pytest.mark.parametrize("spoil", ["subclass", "dtype", "number"])
def test_only_plain_tensors_can_be_handed_over(tmp_path: Path, spoil: str) -> None:
    class Odd(Descent):
        def prepare_for_eval(self) -> nn.Module:
            linear = nn.Linear(4, 1)
            if spoil == "subclass":
                linear.weight.__class__ = Twisted
            if spoil == "dtype":
                linear = linear.double()
            return nn.Sequential(nn.Identity(), linear) if spoil != "number" else 5  # type: ignore[return-value]

    with pytest.raises(TrainerFailed, match=r"1\.weight|not a module") as raised:
        run(tmp_path, Odd)

    assert raised.value.failed.reason is FailureReason.SUBMISSION


def test_a_report_holds_plain_numbers_only(tmp_path: Path) -> None:
    """It is read off the clock."""

    class Late(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            report = super().update_params(batch)
            return dataclasses.replace(report, loss=report.loss.as_subclass(Twisted))

    with pytest.raises(TrainerFailed, match="values of other types than a report has"):
        run(tmp_path, Late)


@pytest.mark.parametrize("method", ["data_selection", "update_params", "prepare_for_eval", "state_dict"])
def test_what_a_method_returns_wrongly_is_its_author_s_with_the_line(tmp_path: Path, method: str) -> None:
    def wrong(self: Descent, *_: object) -> set[float]:
        return {1.0}

    line = wrong.__code__.co_firstlineno
    odd = type("Odd", (Descent,), {method: wrong})

    with pytest.raises(TrainerFailed, match=rf"^test_known_cheats\.py:{line}: {method}: .* set\b") as raised:
        run(tmp_path, odd)

    assert raised.value.failed.reason is FailureReason.SUBMISSION


def test_a_method_that_is_ours_is_not_named_as_the_author_s(tmp_path: Path) -> None:
    def spoiled(context: TrainingContext) -> Descent:
        descent = Descent(context)
        descent.optimizers[0].param_groups[0]["odd"] = {1}
        return descent

    with pytest.raises(TrainerFailed, match=r"^state_dict: state.* is of type set"):
        run(tmp_path, spoiled)


def test_another_model_cannot_be_evaluated(tmp_path: Path) -> None:
    class Larger(Descent):
        def prepare_for_eval(self) -> nn.Module:
            return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1))

    with pytest.raises(TrainerFailed, match="the evaluated model is not the workload's: 0.bias, 0.weight, 1.bias"):
        run(tmp_path, Larger)


def test_nothing_in_the_context_leads_to_clock_records_or_evaluation(tmp_path: Path) -> None:
    seen: list[str] = []

    class Spy(Descent):
        def __init__(self, context: TrainingContext) -> None:
            super().__init__(context)
            forbidden = (PhaseClock, FolderRecorder, TrialFolder, Referee, Channel, TinyWorkload)
            seen.extend(type(item).__name__ for item in reachable_attributes(context) if isinstance(item, forbidden))

        def data_selection(self, batches: Iterator[Batch]) -> Batch:
            assert not hasattr(batches, "load_state_dict"), "the position is out of reach"
            return super().data_selection(batches)

    run(tmp_path, Spy, max_steps=5)

    assert seen == []


def reachable_attributes(start: object) -> list[object]:
    """Follow attributes, items and containers, as a program would without looking at frames or modules."""
    found: dict[int, object] = {}
    waiting: list[object] = [start]
    while waiting:
        item = waiting.pop()
        if id(item) in found or isinstance(item, type | str | int | float | torch.Tensor) or callable(item):
            continue
        found[id(item)] = item
        waiting += [child for child in gc.get_referents(item) if not isinstance(child, Mapping) or len(child) < 1000]
    return list(found.values())


def test_measurements_can_be_read_and_not_changed(tmp_path: Path) -> None:
    class Reader(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            measurements = self.context.measurements
            if len(measurements):
                assert measurements[0].step == 5
                assert measurements[-1:] == [measurements[-1]]
                assert not hasattr(measurements, "append")
            return super().update_params(batch)

    result, _ = run(tmp_path, Reader)

    assert result is not None


@pytest.mark.parametrize(("is_prepared", "what"), [(True, "asks for an evaluation that is not"), (False, "unasked")])
def test_a_trainer_that_stops_as_it_likes_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_prepared: bool, what: str
) -> None:
    """Evaluated after every step, or resting after every step, which is a little work for nothing each time."""

    def train(trainer: Trainer, _go: Go) -> Stopped:
        trainer._step += 1
        return Stopped(step=trainer._step, is_prepared=is_prepared, is_complete=False, data_wait_s=0.0)

    monkeypatch.setattr(Trainer, "_train", train)

    with pytest.raises(TrainerEnded, match=what):
        run(tmp_path)


@pytest.mark.parametrize(
    "change", [{"step": -1}, {"step": 10**30}, {"data_wait_s": "nan"}, {"divergence": "x" * 20_000}]
)
def test_a_message_with_numbers_that_are_none_is_no_message(change: dict[str, object]) -> None:
    said = {"kind": "stopped", "step": 1, "is_prepared": False, "is_complete": False, "data_wait_s": 0.0}

    assert TO_REFEREE.validate_json(json.dumps(said))
    with pytest.raises(ValidationError):
        TO_REFEREE.validate_json(json.dumps(said | change))


def test_the_referee_goes_by_the_flags_that_it_has_raised_itself() -> None:
    descriptor = page_file()
    referee, trainer = Page(descriptor), Page(descriptor)

    trainer.raise_flags(STOP | CHECKPOINT)
    assert referee.raised == 0

    referee.raise_flags(EVALUATE)
    assert referee.raised == trainer.flags() == EVALUATE


def test_shared_memory_cannot_be_taken_from_under_the_referee() -> None:
    """It would be ended by the system when it reads what is not there any more."""
    page, weights = page_file(), memory_file("weights")
    WeightsMemory(weights, nn.Linear(4, 1)).allocate()

    for descriptor in (page, weights):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
