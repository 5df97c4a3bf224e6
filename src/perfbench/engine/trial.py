"""One trial in one process group: the loop."""

from __future__ import annotations

import datetime
import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import overload

import torch
from torch import nn

from perfbench.api.submission import StepReport, TrainingComplete, TrainingDiverged
from perfbench.api.workload import Workload
from perfbench.data.prefetch import only_batches
from perfbench.engine.assembly import Assembly, BuildSubmission, assemble
from perfbench.engine.checkpoint import Checkpoints, SavedState
from perfbench.engine.clock import PhaseClock
from perfbench.engine.compiling import num_compiled_graphs
from perfbench.engine.heartbeat import Heartbeat
from perfbench.engine.pace import KeptReports, RunAheadLimit
from perfbench.engine.recorder import Recorder
from perfbench.engine.resources import Resources
from perfbench.engine.resume import put_saved, saved_parts
from perfbench.engine.schedule import Timetable
from perfbench.engine.team import Flags, Team
from perfbench.engine.trace import trace_step
from perfbench.engine.warmup import warm_up
from perfbench.spec.judge import judge, time_is_spent
from perfbench.spec.result import (
    BudgetSpent,
    Completed,
    Diverged,
    Measurement,
    Phase,
    PhaseTimes,
    Resumed,
    TargetReached,
    TrialResult,
)
from perfbench.spec.ruleset import CompileRule
from perfbench.spec.run import TrialSpec
from perfbench.spec.workload import Direction

Ending = TargetReached | BudgetSpent | Diverged | Completed


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Why training stopped for a moment."""

    flags: Flags
    is_complete: bool
    model: nn.Module | None
    """The prepared model, if an evaluation is due."""
    divergence: str | None
    """What the submission found not finite."""


class TrialLoop:
    """Runs a trial from start or checkpoint to its end or interruption.

    Args:
        trial: What to run.
        workload: Data, model, loss and metric.
        build_submission: Makes the training algorithm from its context.
        team: All ranks.
        device: Of this rank.
        recorder: Receives records; only rank 0's writes them.
        checkpoints: Of this trial.
    """

    def __init__(
        self,
        trial: TrialSpec,
        workload: Workload,
        build_submission: BuildSubmission,
        *,
        team: Team,
        device: torch.device,
        recorder: Recorder,
        checkpoints: Checkpoints,
    ) -> None:
        self._trial = trial
        self._team = team
        self._device = device
        self._recorder = recorder
        self._checkpoints = checkpoints
        self._clock = PhaseClock(fence=self._fence)
        self._measurements: list[Measurement] = []
        self._parts: Assembly = assemble(
            trial,
            workload,
            build_submission,
            team=team,
            device=device,
            measurements=MeasurementsView(self._measurements),
        )
        self._only_batches = only_batches(self._clock.data_wait.timed(self._parts.batches))
        self._reports = KeptReports()
        self._run_ahead = RunAheadLimit(device)
        self._resources = Resources(device)
        self._trace_steps = frozenset(trial.trace_steps)
        self._step = 0
        self._submission_time_s = 0.0
        self._lost_s = self._since_evaluation_s = 0.0
        self._pulse = "preparing"
        self._last_report: StepReport | None = None

    def run(self, *, attempt: int, stop_requested: Callable[[], bool]) -> TrialResult | None:
        """Run to the end; return ``None`` if stopped on request, with everything saved.

        Args:
            attempt: How often the trial was started, this time included.
            stop_requested: Asked between steps; any rank's yes stops all ranks.
        """
        self._attempt = attempt
        self._stop_requested = stop_requested
        pulse = Heartbeat(self._read_pulse, lambda reading: self._recorder.telemetry("pulse", reading))
        resources = Heartbeat(
            self._read_resources, lambda reading: self._recorder.telemetry("resources", reading), period_s=10.0
        )
        with pulse, resources:
            self._restore()
            self._compile()
            gc.collect()
            gc.freeze()
            gc.disable()  # collected between segments instead: a pause inside a step would be scored
            self._timetable = Timetable(
                self._clock,
                self._trial.evaluation,
                eval_period_s=self._trial.workload.eval_period_s,
                checkpoint_period_s=self._trial.scale.checkpoint_period_s,
                max_steps=self._trial.max_steps,
                since_evaluation_s=self._since_evaluation_s,
            )
            try:
                ending = self._train_to_end()
            finally:
                gc.enable()
                gc.unfreeze()
                self._parts.batches.close()
                self._pulse = "ended"
        return self._result(ending) if ending is not None else None

    def count_start_up(self, seconds: float) -> None:
        """Count what the process did before there was a loop as idle: every second is on an account."""
        self._clock.carry(PhaseTimes(idle=seconds))

    def _train_to_end(self) -> Ending | None:
        while True:
            segment = self._train_until_due()
            self._log_segment()
            if segment.divergence is not None:
                return self._diverged(segment.divergence)
            if segment.model is not None:
                ending = self._evaluate(segment.model, is_complete=segment.is_complete)
                if ending is not None:
                    return ending
                with self._scored():
                    self._parts.submission.resume_training()
            if segment.model is not None or segment.flags.checkpoint or segment.flags.stop:
                self._save()
            if segment.flags.stop:
                return None

    def _train_until_due(self) -> Segment:
        """Train until something is due. The only place where steps are made; nothing here waits for the device."""
        submission, batches = self._parts.submission, self._only_batches
        is_complete, divergence = False, None
        with self._scored():
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
                self._reports.keep(self._step, report)
                self._last_report = report
                self._run_ahead.step_launched()
                flags = self._team.exchange(self._due())
                evaluate = flags.evaluate or self._timetable.evaluation_is_due_by_step(self._step)
                if evaluate or flags.checkpoint or flags.stop or self._step in self._trace_steps:
                    break
            if is_complete or divergence is not None:
                evaluate, flags = is_complete, Flags()
            model = submission.prepare_for_eval() if evaluate else None
        late = self._team.settle()
        flags = flags._replace(stop=flags.stop or late.stop)  # what else was due is asked anew
        return Segment(flags=flags, is_complete=is_complete, model=model, divergence=divergence)

    def _due(self) -> Flags:
        """Return what this rank finds due; the clock is rank 0's."""
        is_first = self._team.shard.rank == 0
        running_s = self._submission_time_s + self._clock.spent_s(Phase.SCORED) - self._scored_before_s
        is_spent = time_is_spent(running_s, self._trial.max_submission_time_s)
        return Flags(
            evaluate=is_first and (is_spent or self._timetable.evaluation_is_due_by_time()),
            checkpoint=is_first and self._timetable.checkpoint_is_due(),
            stop=self._stop_requested(),
        )

    @contextmanager
    def _scored(self) -> Iterator[None]:
        """Score the block, device work included; the slowest rank's time counts for all."""
        self._scored_before_s = self._clock.spent_s(Phase.SCORED)
        self._pulse = "training"
        with self._clock.phase(Phase.SCORED):
            yield
        self._run_ahead.forget()
        own_s = self._clock.spent_s(Phase.SCORED) - self._scored_before_s
        slowest_s = self._team.slowest(own_s)
        self._pulse = "logging"  # before the sum: a pulse in between must not count the block twice
        self._submission_time_s += slowest_s

    def _evaluate(self, model: nn.Module, *, is_complete: bool) -> Ending | None:
        spent = BudgetSpent(resource="time", step=self._step, submission_time_s=self._submission_time_s)
        if time_is_spent(self._submission_time_s, self._trial.max_submission_time_s):
            return spent  # no free evaluation after the budget
        self._pulse = "evaluating"
        with self._clock.phase(Phase.EVAL):
            metrics = self._parts.evaluator.evaluate(model)
        with self._clock.phase(Phase.LOGGING):
            measurement = Measurement(
                attempt=self._attempt,
                step=self._step,
                submission_time_s=self._submission_time_s,
                metrics=metrics,
                phases=self._clock.times(),
                wall_time_utc=_now_utc(),
            )
            self._measurements.append(measurement)
            self._recorder.measured(measurement)
            gc.collect(1)
        self._timetable.evaluated()
        ending = self._judge(metrics)
        if ending is None and is_complete:
            return Completed(step=self._step, submission_time_s=self._submission_time_s)
        return ending

    def _diverged(self, message: str) -> Ending:
        """Return how a trial ends whose submission gave up: judged as an evaluation without a metric."""
        ending = self._judge({})
        assert ending is not None, "without a metric a trial has diverged"
        return ending.model_copy(update={"message": message}) if isinstance(ending, Diverged) else ending

    def _judge(self, metrics: Mapping[str, float]) -> TargetReached | BudgetSpent | Diverged | None:
        return judge(
            step=self._step,
            submission_time_s=self._submission_time_s,
            metrics=metrics,
            target=self._trial.target,
            max_submission_time_s=self._trial.max_submission_time_s,
            max_steps=self._trial.max_steps,
        )

    def _log_segment(self) -> None:
        with self._clock.phase(Phase.LOGGING):
            values = self._reports.read(self._team)
            if values:
                end = {
                    "at_step": self._step,
                    "submission_time_s": round(self._submission_time_s, 6),
                    "data_wait_s": round(self._clock.data_wait.spent_s(), 6),
                }
                self._recorder.telemetry("steps", {**values, **end})
            if self._step in self._trace_steps and self._last_report is not None:
                digests = trace_step(
                    self._parts.model, self._parts.submission, self._parts.batches, self._last_report.loss
                )
                self._recorder.telemetry("trace", {"at_step": self._step, **digests})

    def _compile(self) -> None:
        """Compile outside the score if the rules say so; the state is put back bit for bit."""
        if self._trial.ruleset.compile is CompileRule.UNSCORED:
            self._pulse = "compiling"
            with self._clock.phase(Phase.COMPILE):
                warm_up(self._parts.model, self._parts.submission, self._parts.batches, self._parts.evaluator)
        self._graphs_at_start = num_compiled_graphs()
        self._recorder.telemetry("compiled", {"seconds": self._clock.spent_s(Phase.COMPILE)})

    def _save(self) -> None:
        self._pulse = "saving"
        with self._clock.phase(Phase.CHECKPOINT):
            own, shared = saved_parts(self._parts)
            own |= {"phases": self._clock.times().model_dump()}
            shared |= {
                "step": self._step,
                "submission_time_s": self._submission_time_s,
                "since_evaluation_s": self._timetable.since_evaluation_s(),
                "measurements": [measurement.to_json(indent=None) for measurement in self._measurements],
            }
            self._checkpoints.save(self._step, own=own, shared=shared)
        self._timetable.checkpointed()

    def _restore(self) -> None:
        """Continue from the newest checkpoint, or from the start if an earlier attempt left none."""
        with self._clock.phase(Phase.CHECKPOINT):
            saved = self._checkpoints.load_latest(lambda text: self._recorder.telemetry("warning", {"text": text}))
            if saved is not None:
                self._put(saved)
        if self._attempt > 1:
            before = self._recorder.history
            lost_s = max(0.0, before.reached_s - self._submission_time_s)
            self._lost_s = before.lost_s + lost_s
            self._recorder.resumed(
                Resumed(
                    attempt=self._attempt,
                    from_step=self._step,
                    submission_time_s=self._submission_time_s,
                    lost_s=round(lost_s, 3),
                    wall_time_utc=_now_utc(),
                )
            )

    def _put(self, saved: SavedState) -> None:
        phases = put_saved(self._parts, saved)
        self._clock.carry(phases)
        self._step = saved.shared["step"]
        self._submission_time_s = saved.shared["submission_time_s"]
        self._since_evaluation_s = saved.shared.get("since_evaluation_s", 0.0)  # older checkpoints have none
        self._measurements[:] = [Measurement.from_json(text) for text in saved.shared["measurements"]]

    def _result(self, ending: Ending) -> TrialResult:
        values = [m.metrics.get(self._trial.target.metric, math.nan) for m in self._measurements]
        is_minimized = self._trial.target.direction is Direction.MINIMIZE
        finite = [value for value in values if math.isfinite(value)]
        result = TrialResult(
            trial_identity=self._trial.identity(),
            outcome=ending,
            scorable=self._trial.is_scorable(),
            num_attempts=self._attempt,
            num_steps=self._step,
            num_measurements=len(self._measurements),
            phases=self._clock.times(),
            lost_s=round(self._lost_s, 3),
            num_recompiles_after_warmup=num_compiled_graphs() - self._graphs_at_start,
            best_metric=(min(finite) if is_minimized else max(finite)) if finite else None,
        )
        self._recorder.finished(result)
        return result

    def progress(self) -> tuple[int, str]:
        """Return the step and the phase: what changes on every rank as long as it does not hang."""
        return self._step, self._pulse

    def _read_pulse(self) -> Mapping[str, object]:
        timetable = getattr(self, "_timetable", None)
        before_s, running_s = self._submission_time_s, 0.0  # the sum first: it is changed last
        if self._pulse == "training" and timetable is not None:
            running_s = max(0.0, self._clock.spent_s(Phase.SCORED) - self._scored_before_s)
        return {
            "phase": self._pulse,
            "at_step": self._step,
            "submission_time_s": round(before_s + running_s, 3),
            "next_evaluation_s": timetable.seconds_to_next_evaluation() if timetable else None,
        }

    def _read_resources(self) -> Mapping[str, object]:
        pulse = self._read_pulse()
        place = {name: pulse[name] for name in ("at_step", "submission_time_s")}
        return place | self._resources.read()

    def _fence(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _now_utc() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
