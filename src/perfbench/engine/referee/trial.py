"""The referee's loop: one trial from start or checkpoint to its end or interruption.

Whatever a submission does happens between a message to the trainer and its answer, inside of ``_scored``. Everything
else is here, in this process, which no submission ever enters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from perfbench.engine.referee import findings
from perfbench.engine.referee.account import Account
from perfbench.engine.referee.checkpoints import CheckpointIndex, Checkpoints, Progress
from perfbench.engine.referee.clock import PhaseClock
from perfbench.engine.referee.evaluation import Evaluator
from perfbench.engine.referee.heartbeat import Heartbeat
from perfbench.engine.referee.link import Link
from perfbench.engine.referee.recorder import Recorder, now_utc
from perfbench.engine.referee.resources import Resources
from perfbench.engine.referee.timetable import Timetable
from perfbench.engine.wire.messages import Begin, Begun, Bye, End, Go, Ready, Rested, Save, Saved, Stopped, Taken
from perfbench.engine.wire.page import CHECKPOINT, EVALUATE, STOP
from perfbench.engine.wire.team import Team
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
from perfbench.spec.run import AtStepsSchedule, TrialSpec

Ending = TargetReached | BudgetSpent | Diverged | Completed


class Referee:
    """Measures a trial whose submission runs in another process.

    Args:
        trial: What to run.
        link: To this rank's trainer.
        evaluator: Of this rank, with the memory where the trainer puts the weights to evaluate.
        team: All ranks' referees.
        recorder: Receives records; only rank 0's writes them.
        checkpoints: Of this trial.
        resources: What is read of memory and device for the record.
    """

    def __init__(
        self,
        trial: TrialSpec,
        link: Link,
        evaluator: Evaluator,
        *,
        team: Team,
        recorder: Recorder,
        checkpoints: Checkpoints,
        resources: Resources,
    ) -> None:
        self._trial = trial
        self._link = link
        self._evaluator = evaluator
        self._team = team
        self._recorder = recorder
        self._checkpoints = checkpoints
        self._resources = resources
        self._clock = PhaseClock()
        self._progress = Progress()
        self._measurements: list[Measurement] = []
        self._step = self._flags = 0
        self._is_charged = False
        self._account = Account(self._clock, team)
        is_replay = isinstance(trial.evaluation, AtStepsSchedule)
        self._budget_s = math.inf if is_replay else trial.max_submission_time_s
        self._lost_s = self._data_wait_s = 0.0
        self._ready = Ready()
        self._pulse = "preparing"
        self._timetable: Timetable | None = None

    def run(self, *, attempt: int, stop_requested: Callable[[], bool]) -> TrialResult | None:
        """Run to the end; return ``None`` if stopped on request, with everything saved.

        Args:
            attempt: How often the trial was started, this time included.
            stop_requested: Asked many times a second; any rank's yes stops all ranks.

        Raises:
            TrainerFailed: If the trainer tells of an error.
            TrainerEnded: If the trainer is gone.
        """
        self._attempt = attempt
        self._stop_requested = stop_requested
        pulse = Heartbeat(self._read_pulse, lambda reading: self._recorder.telemetry("pulse", reading))
        resources = Heartbeat(
            self._read_resources, lambda reading: self._recorder.telemetry("resources", reading), period_s=10.0
        )
        with pulse, resources:
            self._compile()
            self._begin()
            ending = self._train_to_end()
            bye = self._dismiss()
            self._pulse = "ended"
        return self._result(ending, bye) if ending is not None else None

    def count_start_up(self, seconds: float) -> None:
        """Count what the process did before there was a loop as idle: every second is on an account."""
        self._clock.carry(PhaseTimes(idle=seconds))

    def progress(self) -> tuple[int, str]:
        """Return the trainer's step and the phase: what changes on every rank as long as it does not hang."""
        return self._link.page.step(), self._pulse

    def has_begun(self) -> bool:
        """Tell whether code of the submission may have run."""
        return self._pulse not in ("preparing", "compiling")

    def warm_up(self) -> None:
        """Compile the evaluation; a second time it is compiled already."""
        self._evaluator.warm_up()

    # --- before the first step -----------------------------------------------------------------------------------

    def _compile(self) -> None:
        """Compile the evaluation here while the trainer compiles the step there; nobody's code is measured yet."""
        self._pulse = "compiling"
        with self._clock.phase(Phase.COMPILE):
            self.warm_up()
            self._ready = self._link.hear(Ready)
            findings.require_same_device(self._evaluator.device.type, self._ready.device)
            self._team.barrier()
        self._recorder.telemetry("compiled", {"seconds": self._clock.spent_s(Phase.COMPILE)})

    def _begin(self) -> None:
        """Let the submission be imported and built; a resume pays only for what takes longer than the first time."""
        with self._clock.phase(Phase.CHECKPOINT):
            saved = self._checkpoints.latest(lambda text: self._recorder.telemetry("warning", {"text": text}))
            self._checkpoints.keep_only(saved)
            folder = self._restore(saved)
        start_s = self._progress.start_s
        self._link.tree.begin_rest()  # what was before is not the submission's
        with self._scored(free_s=0.0 if self._is_charged else start_s or 0.0) as spent:
            begin = Begin(step=self._step, resume_from=folder, measurements=tuple(self._measurements))
            self._link.say(begin)
            self._link.hear(Begun)
        self._progress = self._progress.model_copy(update={"start_s": spent[0] if start_s is None else start_s})
        self._recorder.telemetry("begun", {"seconds": spent[0]})
        self._timetable = Timetable(
            self._clock,
            self._trial.evaluation,
            eval_period_s=self._trial.workload.eval_period_s,
            checkpoint_period_s=self._trial.scale.checkpoint_period_s,
            max_steps=self._trial.max_steps,
            since_evaluation_s=self._progress.since_evaluation_s,
        )

    def _restore(self, saved: CheckpointIndex | None) -> str | None:
        """Take over what the newest checkpoint says; return the folder of the trainers' states."""
        folder = None
        if saved is not None:
            self._progress = saved.progress
            self._step = saved.progress.step
            self._account.restore(
                submission_time_s=saved.progress.submission_time_s, charged_s=saved.progress.charged_s
            )
            self._measurements[:] = saved.progress.measurements
            self._clock.carry(saved.phases[self._team.shard.rank])
            folder = str(self._checkpoints.state_folder(self._step))
        if self._attempt > 1:
            self._account_for_loss()
        return folder

    def _account_for_loss(self) -> None:
        """Record what is done again; where an attempt failed by itself it stays on the clock: nobody chooses again."""
        before = self._recorder.history
        own_s = max(0.0, before.reached_s - self._account.submission_time_s)
        own_s, failed = self._team.largest([own_s, float(before.failed)])
        self._is_charged = bool(failed)
        self._charge(own_s if failed else 0.0, why="an attempt failed by itself")
        lost_s = 0.0 if failed else own_s
        self._lost_s = before.lost_s + lost_s
        self._recorder.resumed(
            Resumed(
                attempt=self._attempt,
                from_step=self._step,
                submission_time_s=self._account.submission_time_s,
                lost_s=round(lost_s, 3),
                wall_time_utc=now_utc(),
            )
        )

    # --- segments ------------------------------------------------------------------------------------------------

    def _train_to_end(self) -> Ending | None:
        assert self._timetable is not None
        measured: Measurement | None = None
        while True:
            stopped = self._segment(measured)
            measured = None
            rested = self._rest()
            if (ending := self._end_without_evaluation(stopped, rested)) is not None:
                return ending
            if stopped.is_prepared:
                measured = self._evaluate()
                ending = self._judge(measured.metrics)
                if ending is None and (stopped.is_complete or self._timetable.is_over(self._step)):
                    ending = Completed(step=self._step, submission_time_s=self._account.submission_time_s)
                if ending is not None:
                    return ending
            self._link.page.lower_flags()
            if measured is not None or self._flags & (CHECKPOINT | STOP):
                self._save()
            if self._flags & STOP:
                return None

    def _agreed(self) -> int:
        """Return the flags that any rank's referee has raised."""
        raised = self._link.page.raised | (STOP if self._stop_requested() else 0)
        bits = (EVALUATE, CHECKPOINT, STOP)
        joined = self._team.largest([float(bool(raised & bit)) for bit in bits])
        return sum(bit for bit, is_raised in zip(bits, joined, strict=True) if is_raised)

    def _segment(self, measured: Measurement | None) -> Stopped:
        """Let the trainer train until something is due."""
        assert self._timetable is not None
        self._link.tree.resume()
        go = Go(stop_at_step=self._timetable.next_evaluation_step(self._step), measurement=measured)
        with self._scored():
            self._link.say(go)
            stopped = self._link.hear(Stopped, self._raise_flags)
        self._flags = self._agreed()
        findings.require_reason(stopped, go, after_step=self._step, flags=self._flags, traced=self._trial.trace_steps)
        self._step = stopped.step
        self._clock.note_data_wait(stopped.data_wait_s - self._data_wait_s)
        self._data_wait_s = stopped.data_wait_s
        return stopped

    def _raise_flags(self) -> None:
        """Raise what is due by the clock; rank 0's clock counts for all, and any rank may be told to stop."""
        timetable, flags = self._timetable, 0
        assert timetable is not None
        if self._team.shard.rank == 0:
            is_spent = time_is_spent(self._account.running_s(), self._budget_s)
            flags |= EVALUATE if is_spent or timetable.evaluation_is_due_by_time() else 0
            flags |= CHECKPOINT if timetable.checkpoint_is_due() else 0
        flags |= STOP if self._stop_requested() else 0
        if flags:
            self._link.page.raise_flags(flags)

    def _rest(self) -> Rested:
        """Let the trainer read its losses and hand over weights, then stop all its processes."""
        self._pulse = "logging"
        with self._clock.phase(Phase.LOGGING):
            rested = self._link.hear(Rested)
            self._charge(self._link.tree.charge(self._evaluator.weights.num_bytes), why="work at rest")
            self._link.tree.suspend()
            place = {
                "at_step": self._step,
                "submission_time_s": round(self._account.submission_time_s, 6),
                "data_wait_s": round(self._data_wait_s, 6),
            }
            if rested.values:
                self._recorder.telemetry("steps", {**rested.values, **place})
            if rested.digests is not None:
                self._recorder.telemetry("trace", {"at_step": self._step, **rested.digests})
        return rested

    def _end_without_evaluation(self, stopped: Stopped, rested: Rested) -> Ending | None:
        """Return how a trial ends that needs no evaluation any more, in the order of the rules."""
        if time_is_spent(self._account.submission_time_s, self._budget_s):
            return BudgetSpent(resource="time", step=self._step, submission_time_s=self._account.submission_time_s)
        message = stopped.divergence or findings.not_finite(rested.values)
        if message is not None:
            ending = self._judge({})
            assert ending is not None, "without a metric a trial has diverged"
            return ending.model_copy(update={"message": message}) if isinstance(ending, Diverged) else ending
        if stopped.is_complete and self._measurements and self._measurements[-1].step == self._step:
            return Completed(step=self._step, submission_time_s=self._account.submission_time_s)
        return None

    def _evaluate(self) -> Measurement:
        self._pulse = "evaluating"
        with self._clock.phase(Phase.EVAL):
            metrics = self._evaluator.evaluate()
        with self._clock.phase(Phase.LOGGING):
            measurement = Measurement(
                attempt=self._attempt,
                step=self._step,
                submission_time_s=self._account.submission_time_s,
                charged_s=round(self._account.charged_s, 6),
                metrics=metrics,
                phases=self._clock.times(),
                wall_time_utc=now_utc(),
            )
            self._measurements.append(measurement)
            self._recorder.measured(measurement)
        assert self._timetable is not None
        self._timetable.evaluated()
        return measurement

    def _judge(self, metrics: Mapping[str, float]) -> TargetReached | BudgetSpent | Diverged | None:
        return judge(
            step=self._step,
            submission_time_s=self._account.submission_time_s,
            metrics=metrics,
            target=self._trial.target,
            max_submission_time_s=self._budget_s,
            max_steps=self._trial.max_steps,
        )

    def _save(self) -> None:
        """Let the trainers take their states (scored) and write them; then index them."""
        assert self._timetable is not None
        with self._clock.phase(Phase.CHECKPOINT):
            folder = self._checkpoints.prepare(self._step)
        self._link.tree.resume()
        with self._scored():
            self._link.say(Save(folder=str(folder)))
            self._link.hear(Taken)
        self._pulse = "saving"
        with self._clock.phase(Phase.CHECKPOINT):
            self._link.hear(Saved)
            self._link.tree.suspend()
            num_bytes = self._checkpoints.num_bytes(self._step)
            self._charge(self._link.tree.charge(num_bytes), why="work at rest")
            self._progress = Progress(
                step=self._step,
                submission_time_s=self._account.submission_time_s,
                charged_s=self._account.charged_s,
                start_s=self._progress.start_s,
                since_evaluation_s=self._timetable.since_evaluation_s(),
                measurements=tuple(self._measurements),
            )
            self._checkpoints.complete(self._progress, self._clock.times())
        self._timetable.checkpointed()

    # --- the clock -----------------------------------------------------------------------------------------------

    @contextmanager
    def _scored(self, *, free_s: float = 0.0) -> Iterator[list[float]]:
        """Score the block: all that a submission does between a message and its answer; before, charge for the rest."""
        self._charge(self._link.tree.charge(0), why="work at rest")
        self._pulse = "training"
        with self._account.scored(self._link.tree.begin_rest, free_s=free_s) as spent:
            yield spent
        self._pulse = "logging"

    def _charge(self, seconds: float, *, why: str) -> None:
        """Put what was done off the clock on the clock, and on record."""
        charged_s = self._account.charge(seconds)
        if charged_s > 0:
            self._recorder.telemetry("charged", {"at_step": self._step, "seconds": round(charged_s, 6), "why": why})

    def _dismiss(self) -> Bye:
        self._link.tree.resume()
        self._link.say(End())
        return self._link.hear(Bye)

    def _result(self, ending: Ending, bye: Bye) -> TrialResult:
        num_graphs = self._ready.num_graphs + bye.num_recompiles
        result = TrialResult(
            trial_identity=self._trial.identity(),
            outcome=ending,
            scorable=self._trial.is_scorable() and num_graphs > 0,
            num_attempts=self._attempt,
            num_steps=self._step,
            num_batches=bye.num_batches,
            num_measurements=len(self._measurements),
            phases=self._clock.times(),
            lost_s=round(self._lost_s, 3),
            charged_s=round(self._account.charged_s, 3),
            num_recompiles_after_warmup=bye.num_recompiles,
            num_compiled_graphs=num_graphs,
            num_processors=round(self._link.tree.num_processors(), 2),
            changed_switches=findings.changed_switches(self._ready.switches, bye.switches),
            best_metric=findings.best_metric(self._measurements, self._trial.target),
        )
        self._recorder.telemetry("ended", bye.model_dump(exclude={"kind"}))
        return self._recorder.finished(result)

    def _read_pulse(self) -> Mapping[str, object]:
        timetable = self._timetable
        return {
            "phase": self._pulse,
            "at_step": self._link.page.step(),
            "submission_time_s": round(self._account.running_s(), 3),
            "next_evaluation_s": timetable.seconds_to_next_evaluation() if timetable else None,
        }

    def _read_resources(self) -> Mapping[str, object]:
        pulse = self._read_pulse()
        place = {name: pulse[name] for name in ("at_step", "submission_time_s")}
        return place | self._resources.read()
