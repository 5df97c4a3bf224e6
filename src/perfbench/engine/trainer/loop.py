"""The trainer: does what the referee says, one message after the other. The only place where steps are made."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from perfbench.api.generators import seed_generators
from perfbench.api.submission import StateDict, Submission, TrainingComplete, TrainingContext, TrainingDiverged
from perfbench.data.prefetch import only_batches
from perfbench.engine.trainer import saving
from perfbench.engine.trainer.compiling import num_compiled_graphs
from perfbench.engine.trainer.data_wait import DataWait
from perfbench.engine.trainer.pace import KeptReports, RunAheadLimit
from perfbench.engine.trainer.state import evaluated_tensors, plain
from perfbench.engine.trainer.switches import switches
from perfbench.engine.trainer.trace import trace_step
from perfbench.engine.trainer.workplace import Workplace
from perfbench.engine.wire.channel import Channel
from perfbench.engine.wire.messages import (
    Begin,
    Begun,
    Bye,
    End,
    Go,
    Ready,
    Rested,
    Save,
    Saved,
    Stopped,
    Taken,
    ToTrainer,
)
from perfbench.engine.wire.page import EVALUATE, Page
from perfbench.engine.wire.weights import WeightsMemory
from perfbench.places import package_folder
from perfbench.spec.result import Measurement
from perfbench.spec.ruleset import CompileRule

BuildSubmission = Callable[[TrainingContext], Submission]


class MeasurementsView(Sequence[Measurement]):
    """The evaluations so far, for reading only."""

    def __init__(self, measurements: list[Measurement]) -> None:
        self._copy_of = measurements.copy
        self._length_of = measurements.__len__

    @overload
    def __getitem__(self, index: int) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Measurement]: ...
    def __getitem__(self, index: int | slice) -> Measurement | Sequence[Measurement]:
        """Return one or several evaluations, oldest first."""
        return self._copy_of()[index]

    def __len__(self) -> int:
        """Return how many evaluations there were."""
        return self._length_of()


class Trainer:
    """Trains when told to and rests in between.

    Args:
        workplace: Model, loss and data of this rank.
        import_submission: Imports the submission's code and returns what builds it; called on the clock.
        channel: To this rank's referee.
        page: Its flags.
        weights: Where evaluated weights go.
    """

    def __init__(
        self,
        workplace: Workplace,
        import_submission: Callable[[], BuildSubmission],
        *,
        channel: Channel[ToTrainer],
        page: Page,
        weights: WeightsMemory,
    ) -> None:
        self._place = workplace
        self._team = workplace.team
        self._import_submission = import_submission
        self._channel = channel
        self._page = page
        self._weights = weights
        self._data_wait = DataWait()
        self._batches = only_batches(self._data_wait.timed(workplace.batches))
        self._reports = KeptReports()
        self._run_ahead = RunAheadLimit(workplace.device)
        self._trace_steps = frozenset(workplace.trial.trace_steps)
        self._measurements: list[Measurement] = []
        self._step = 0
        self._is_prepared = False
        self._evaluated: dict[str, Tensor] = {}
        self._traced: tuple[StateDict, Tensor] | None = None
        self.has_begun = False

    def run(self) -> None:
        """Get ready, then answer every message until the last one."""
        trial = self._place.trial
        if trial.ruleset.compile is CompileRule.UNSCORED:
            self._place.warm_up(trial.submission.loss_settings_at(trial.hyperparameters))
        self._graphs_at_start = num_compiled_graphs()
        seed_generators(trial.trial_seed, rank=self._team.shard.rank)
        gc.collect()
        gc.freeze()
        gc.disable()  # collected between segments instead: a pause inside a step would be scored
        ready = Ready(device=self._place.device.type, num_graphs=self._graphs_at_start, switches=switches())
        self._channel.send(ready)
        try:
            while not isinstance(message := self._channel.receive(), End):
                self._answer(message)
            self._leave()
        finally:
            gc.enable()
            gc.unfreeze()
            self._place.batches.close()

    def place_of(self, method: str) -> str:
        """Return, with a colon, where an author wrote a method of the submission; nothing where it is one of ours."""
        code = getattr(getattr(type(self._submission), method, None), "__code__", None)
        if code is None or Path(code.co_filename).is_relative_to(package_folder()):
            return ""
        return f"{Path(code.co_filename).name}:{code.co_firstlineno}: "

    def _answer(self, message: ToTrainer | None) -> None:
        match message:
            case Begin():
                self._begin(message)
                self._channel.send(Begun())
            case Go():
                self._channel.send(self._train(message))
                self._channel.send(self._rest())
            case Save():
                state = self._take()
                self._channel.send(Taken())
                saving.write(state, Path(message.folder), self._team.shard)
                self._channel.send(Saved())
            case _:
                raise AssertionError(f"{message} out of turn")

    def _begin(self, begin: Begin) -> None:
        """Import and build the submission, and continue from where it was (scored)."""
        self._measurements[:] = begin.measurements
        build = self._import_submission()
        self._submission = build(self._place.context(MeasurementsView(self._measurements)))
        if begin.resume_from is not None:
            state = saving.read(Path(begin.resume_from), self._team.shard)
            saving.put_back(state, self._place, self._submission)
        self._step = begin.step
        self._page.set_step(self._step)
        self.has_begun = True
        self._fence()

    def _train(self, go: Go) -> Stopped:
        """Train until something is due (scored); nothing here waits for the device but the end."""
        if go.measurement is not None:
            self._measurements.append(go.measurement)
        submission, batches, page, team = self._submission, self._batches, self._page, self._team
        self._resume()
        is_complete, is_prepared, is_traced, divergence = False, False, False, None
        while True:
            batch = submission.data_selection(batches)
            try:
                report = submission.update_params(batch)
            except TrainingComplete:
                is_complete = True
                break
            except TrainingDiverged as finding:
                divergence = str(finding)
                break
            self._step += 1
            page.set_step(self._step)
            self._reports.keep(self._step, report)
            self._run_ahead.step_launched()
            flags = team.exchange(page.flags())
            is_traced = self._step in self._trace_steps
            if flags or is_traced or self._step == go.stop_at_step:
                is_prepared = bool(flags & EVALUATE) or self._step == go.stop_at_step
                break
        if is_complete or divergence is not None:
            is_prepared = is_complete
        if is_traced:
            self._traced = plain(submission.state_dict(), "state"), report.loss
        if is_prepared:
            self._evaluated = evaluated_tensors(submission.prepare_for_eval(), self._weights)
            self._is_prepared = True
        self._fence()
        team.settle()
        return Stopped(
            step=self._step,
            is_prepared=is_prepared,
            is_complete=is_complete,
            divergence=divergence,
            data_wait_s=self._data_wait.spent_s(),
        )

    def _rest(self) -> Rested:
        """Tidy up between two segments: read the losses, hand over the weights (not scored)."""
        values = self._reports.read(self._team)
        digests = None
        if self._traced is not None:
            state, loss = self._traced
            digests = trace_step(self._place.model, state, self._place.batches, loss)
            self._traced = None
        if self._evaluated:
            self._weights.write(self._evaluated)
            self._evaluated = {}
        gc.collect(1)
        return Rested(values=values, digests=digests)

    def _take(self) -> StateDict:
        """Return all that a resume needs (scored)."""
        self._resume()
        state = saving.taken(self._place, self._submission)
        self._fence()
        return state

    def _resume(self) -> None:
        if self._is_prepared:
            self._submission.resume_training()
            self._is_prepared = False

    def _leave(self) -> None:
        device = self._place.device
        memory_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        bye = Bye(
            num_recompiles=num_compiled_graphs() - self._graphs_at_start,
            num_batches=self._place.batches.num_returned,
            device_memory_most_bytes=memory_bytes,
            switches=switches(),
        )
        self._channel.send(bye)

    def _fence(self) -> None:
        """Wait until the device has done everything it was given."""
        if self._place.device.type == "cuda":
            torch.cuda.synchronize(self._place.device)
        self._run_ahead.forget()
