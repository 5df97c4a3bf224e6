"""How far the host may run ahead of the device, and which per-step numbers are kept until they may be read."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from perfbench.api.submission import StepReport
from perfbench.engine.wire.team import Team
from perfbench.errors import SubmissionError


class RunAheadLimit:
    """Keeps the host at most ``max_steps_ahead`` steps before the device.

    It waits for the end of an *older* step, never for the newest: the device always has work queued. Without a
    bound, an evaluation that is due now would start only after everything the host has launched.
    """

    def __init__(self, device: torch.device, *, max_steps_ahead: int = 2) -> None:
        self._is_asynchronous = device.type == "cuda"
        self._max_steps_ahead = max_steps_ahead
        self._ends: deque[torch.cuda.Event] = deque()

    def step_launched(self) -> None:
        """Note that a step was launched; wait if the host is too far ahead."""
        if not self._is_asynchronous:
            return
        end = torch.cuda.Event()
        end.record()
        self._ends.append(end)
        if len(self._ends) > self._max_steps_ahead:
            self._ends.popleft().synchronize()

    def forget(self) -> None:
        """Note that the device was waited for."""
        self._ends.clear()


class KeptReports:
    """Reports of the steps since they were last read: device tensors, at most a fixed number of them.

    When there are too many, every other one is dropped and from then on half as many are kept.
    """

    def __init__(self, *, max_kept: int = 1024) -> None:
        self._max_kept = max_kept
        self._reports: list[tuple[int, StepReport]] = []
        self._stride = 1

    def keep(self, step: int, report: StepReport) -> None:
        """Keep a report without looking at its tensors.

        Raises:
            SubmissionError: If it is no plain report of plain tensors: it is read later, off the clock.
        """
        if type(report) is not StepReport or type(report.loss) is not Tensor:
            _refuse(report)
        if step % self._stride:
            return
        self._reports.append((step, report))
        if len(self._reports) > self._max_kept:
            self._reports = self._reports[::2]
            self._stride *= 2

    def read(self, team: Team) -> dict[str, list[float]]:
        """Return the kept numbers and drop them; waits for the device, so only in the logging phase.

        Losses are the mean over ranks: the loss of the global batch.
        """
        reports, self._reports, self._stride = self._reports, [], 1
        if not reports:
            return {}
        for _, report in reports:
            _check_numbers(report)
        losses = team.add(torch.stack([report.loss.double() for _, report in reports])) / team.shard.num_ranks
        values = {"step": [float(step) for step, _ in reports], "loss": losses.tolist()}
        if all(report.learning_rate is not None for _, report in reports):
            values["learning_rate"] = [float(report.learning_rate or 0.0) for _, report in reports]
        if all(report.grad_norm is not None for _, report in reports):
            values["grad_norm"] = [_number(report.grad_norm) for _, report in reports]
        for name in reports[-1][1].extra:
            values[name] = [_number(report.extra[name]) for _, report in reports if name in report.extra]
        return values


def _number(value: Tensor | float | None) -> float:
    return float(value) if value is not None else 0.0


def _check_numbers(report: StepReport) -> None:
    numbers = (
        (report.grad_norm, report.learning_rate, *report.extra.values()) if type(report.extra) is dict else (report,)
    )
    if any(type(number) not in (Tensor, float, int, type(None)) for number in numbers):
        _refuse(report)


def _refuse(report: object) -> None:
    raise SubmissionError(
        f"update_params returned {type(report).__name__} with values of other types than a report has",
        where="update_params",
        hint="return StepReport(loss=<detached tensor>, ...) with plain tensors and floats",
    )
