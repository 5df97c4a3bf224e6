"""Every known way in which a submission could cheat the loop."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from perfbench.api import Batch, StepReport, TrainingContext
from perfbench.engine.clock import PhaseClock
from perfbench.engine.recorder import FolderRecorder
from perfbench.engine.trial import TrialLoop
from perfbench.errors import SubmissionError
from perfbench.results.store import TrialFolder
from tests.tiny_trials import Descent, run


def test_training_during_evaluation_is_caught(tmp_path: Path) -> None:
    class Sneaky(Descent):
        def prepare_for_eval(self) -> nn.Module:
            model = self.context.model

            class Trainer(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.inner = model

                def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
                    return model.named_parameters()

                def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
                    return model.parameters(recurse)

                def forward(self, inputs: torch.Tensor) -> torch.Tensor:
                    model[1].weight.add_(0.01)  # type: ignore[index]  # a Sequential
                    outputs: torch.Tensor = model(inputs)
                    return outputs

            return Trainer()

    with pytest.raises(SubmissionError, match="parameters changed during evaluation"):
        run(tmp_path, Sneaky)


def test_another_model_cannot_be_evaluated(tmp_path: Path) -> None:
    class Larger(Descent):
        def prepare_for_eval(self) -> nn.Module:
            return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1))

    with pytest.raises(SubmissionError, match="the evaluated model is not the workload's: 0.bias, 0.weight, 1.bias"):
        run(tmp_path, Larger)


def test_turning_the_clock_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rewinder(Descent):
        def update_params(self, batch: Batch) -> StepReport:
            before = time.monotonic()
            while time.monotonic() < before + 0.01:
                pass
            monkeypatch.setattr(time, "perf_counter_ns", lambda: 0)
            return super().update_params(batch)

    result, _ = run(tmp_path, lambda context: Rewinder(context, lr=0.0), max_steps=10)

    assert result is not None
    assert result.phases.scored > 0.1


def test_nothing_in_the_context_leads_to_clock_records_or_evaluation(tmp_path: Path) -> None:
    seen: list[str] = []

    class Spy(Descent):
        def __init__(self, context: TrainingContext) -> None:
            super().__init__(context)
            forbidden = (PhaseClock, FolderRecorder, TrialFolder, TrialLoop)
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
