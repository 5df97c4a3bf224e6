"""What a person asks for (``RunSpec``) and what one process group executes (``TrialSpec``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from perfbench.spec.base import Spec
from perfbench.spec.environment import Isolation
from perfbench.spec.ruleset import Ruleset
from perfbench.spec.submission import HyperparameterPoint, SubmissionSpec
from perfbench.spec.workload import ScaleName, Target, TargetKind, WorkloadSpec


class WallClockSchedule(Spec):
    """The rule: evaluations are due by wall-clock time, every ``eval_period_s`` of the workload."""

    kind: Literal["wall_clock"] = "wall_clock"


class EveryStepsSchedule(Spec):
    """For tests and debugging: evaluations after fixed steps. Such a trial is marked and never scored."""

    kind: Literal["every_steps"] = "every_steps"
    every_steps: int = Field(ge=1)


class AtStepsSchedule(Spec):
    """Of a replay: evaluations after the steps at which a finished trial had them, and no budget of time."""

    kind: Literal["at_steps"] = "at_steps"
    steps: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    """Rising; with the last one the replay is over."""


EvaluationSchedule = Annotated[WallClockSchedule | EveryStepsSchedule | AtStepsSchedule, Field(discriminator="kind")]


class ScaleSpec(Spec):
    """What running at a scale means besides the workload's own numbers."""

    name: ScaleName
    target: TargetKind
    """Which of the workload's targets ends a trial."""
    threads_per_rank: int | None = Field(ge=1)
    """Intra-op threads of each rank; ``null`` divides the machine's cores among its ranks."""
    checkpoint_period_s: float = Field(gt=0)
    """A checkpoint is due when this much wall-clock time has passed since the last one."""
    prepare_data: bool
    """Whether ``run`` prepares missing data by itself (only where no source has to be given)."""


VariablePattern = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\*?$")]
"""The name of a variable of the environment, or how names begin: ``KMP_*``."""


class LocalCluster(Spec):
    """This machine, one process per rank."""

    kind: Literal["local"] = "local"
    nproc_per_node: int | None = Field(default=None, ge=1)
    """Ranks; ``null`` for one per GPU, or one where there is none."""
    hang_timeout_s: float = Field(default=1800.0, gt=0)
    """Without a step or a change of phase for so long, ranks dump their stacks and the trial has failed."""
    max_attempts: int = Field(default=50, ge=1)
    """A trial that was started so often and has no result is not started again."""
    inherit: tuple[VariablePattern, ...] = ()
    """Variables of the environment that ranks inherit besides those that ``perfbench.inherited`` names."""


class DebugCluster(Spec):
    """This very process, one rank: breakpoints work."""

    kind: Literal["debug"] = "debug"


class SlurmCluster(Spec):
    """A Slurm cluster: an array per submission and workload, an element per trial, a task per GPU."""

    kind: Literal["slurm"] = "slurm"
    nodes: int = Field(default=1, ge=1)
    """Of each trial."""
    gpus_per_node: int = Field(default=8, ge=1)
    """Of each trial; one rank runs on each."""
    request_gpus: bool = True
    """``false`` where nodes have no GPUs: as many ranks, on processors."""
    cpus_per_rank: int | None = Field(default=None, ge=1)
    memory_gb_per_node: int | None = Field(default=None, ge=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    array_parallelism: int = Field(default=256, ge=1)
    """How many elements of one array may run at once (``%`` of ``--array``)."""
    max_array_size: int | None = Field(default=None, ge=1)
    """``null`` asks the cluster; larger arrays are split."""
    time_limit_min: int | None = Field(default=None, ge=1)
    """Of one attempt; ``null`` for the trial's budget with the two allowances. A trial that needs more is requeued."""
    evaluation_allowance: float = Field(default=0.5, ge=0)
    """Wall-clock time for evaluations, checkpoints and records, as a fraction of the time budget."""
    start_allowance_min: int = Field(default=30, ge=0)
    """Wall-clock time to load, compile and warm up."""
    signal_lead_s: int = Field(default=180, ge=1)
    """How long before the time limit the ranks are told to save and end."""
    hang_timeout_s: float = Field(default=1800.0, gt=0)
    """Without a step or a change of phase for so long, ranks dump their stacks and the trial has failed."""
    max_attempts: int = Field(default=50, ge=1)
    """A trial that was started so often and has no result is given up."""
    inherit: tuple[VariablePattern, ...] = ()
    """Variables of the environment that jobs and ranks inherit besides those that ``perfbench.inherited`` names."""
    keep_checkpoints: bool = False
    """Whether checkpoints stay after a trial has its result."""
    site: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]*$")
    """``slurm/sites/<site>.sh`` is sourced at the start of every job."""
    setup: tuple[str, ...] = ()
    """Lines of shell after it, e.g. ``module load cuda``."""
    python: str | None = None
    """Command that starts Python in a job, e.g. inside a container; ``null`` for the one that submits."""
    srun_arguments: tuple[str, ...] = ()
    """Further arguments of the ``srun`` that starts the ranks."""
    sbatch_options: dict[str, str] = Field(default_factory=dict)
    """Further long options of ``sbatch``, e.g. ``{reservation: bench}``."""
    aggregation_partition: str | None = None
    """Where scores are computed, on one processor; ``null`` for ``partition``."""


Cluster = Annotated[LocalCluster | DebugCluster | SlurmCluster, Field(discriminator="kind")]


class NoTracking(Spec):
    """A run is mirrored nowhere: its own folder is the truth anyway."""

    kind: Literal["none"] = "none"


class WandbTracking(Spec):
    """A Weights & Biases run per trial. Who you are is no part of it: W&B's login or ``WANDB_API_KEY`` says that."""

    kind: Literal["wandb", "wandb_offline"]
    """``wandb_offline`` writes W&B's files into the trial folder and needs no network."""
    project: str = Field(default="perfbench", min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$")
    entity: str | None = Field(default=None, min_length=1)
    """A user or team; ``null`` for your default one."""
    tags: tuple[str, ...] = ()
    """Besides workload, submission, scale, ruleset and data set."""
    artifacts: bool = False
    """Whether the trial's records are uploaded as an artifact at its end."""


class TensorboardTracking(Spec):
    """TensorBoard's files in the trial folder."""

    kind: Literal["tensorboard"]


TrackingSpec = Annotated[NoTracking | WandbTracking | TensorboardTracking, Field(discriminator="kind")]


class RunSpec(Spec):
    """A typed, validated request: what ``perfbench show`` prints."""

    workload: WorkloadSpec
    submission: SubmissionSpec
    ruleset: Ruleset
    scale: ScaleSpec
    evaluation: EvaluationSchedule
    cluster: Cluster
    tracking: TrackingSpec
    isolation: Isolation
    """How far the submission is kept from what measures it; ``cluster=debug`` isolates nothing, whatever this says."""
    seed: int = Field(ge=0, lt=2**63)
    study: int = Field(ge=0)
    trial: int = Field(ge=1)
    """Which trial of the study ``run`` executes; ``sweep`` executes all of them."""
    hp: dict[str, JsonValue] = Field(default_factory=dict)
    """Hyperparameters set by hand, over those of the trial's point: such a trial is explored."""
    explore: bool = False
    """Whether the trial is explored even where no hyperparameter is set: in a folder of its own, and never scored."""
    deterministic: bool = False
    """Whether a GPU computes the same bits again, at a price; a CPU does anyway."""
    trace_steps: tuple[int, ...]
    """Steps after which a digest of parameters, state, loss and example numbers is recorded (debugging)."""
    data_root: str = Field(min_length=1)
    runs_root: str = Field(min_length=1)


class TrialSpec(Spec):
    """Everything needed to run a trial, or to run it again, by value. Stored as ``run.json``."""

    schema_version: Literal[1] = 1
    workload: WorkloadSpec
    submission: SubmissionSpec
    ruleset: Ruleset
    scale: ScaleSpec
    evaluation: EvaluationSchedule
    run_seed: int
    study: int = Field(ge=0)
    trial: int = Field(ge=1)
    trial_seed: int = Field(ge=0, lt=2**63)
    """Derived from run seed, study and trial; every random stream of the trial derives from it."""
    hyperparameters: HyperparameterPoint | None
    """The point of this trial; ``null`` under self-tuning."""
    global_batch_size: int = Field(ge=1)
    num_ranks: int = Field(ge=1)
    target: Target
    max_submission_time_s: float = Field(gt=0)
    max_steps: int | None = Field(ge=1)
    explored: str | None = Field(default=None, min_length=1)
    """Of a trial that somebody tried by hand: what differs from the first trial of study 0, as its folder is named."""
    deterministic: bool = False
    trace_steps: tuple[int, ...] = ()
    isolation: Isolation = Isolation.PROCESS
    data_root: str
    """Where the data is; not part of the trial's identity."""

    def identity(self) -> str:
        """Return the digest of what makes two trials the same: all but where the data is."""
        later_fields = {name for name in ("explored", "deterministic") if not getattr(self, name)}
        # so that identities on record stay
        return self.digest(exclude={"data_root", "trace_steps"} | later_fields)

    def is_scorable(self) -> bool:
        """Tell whether the rules allow scoring this trial: by wall clock, by another process, not explored."""
        is_measured_right = isinstance(self.evaluation, WallClockSchedule) and self.isolation is not Isolation.NONE
        return is_measured_right and self.explored is None

    def label(self) -> str:
        """Return the trial's name for people."""
        if self.explored is not None:
            return f"{self.submission.name} on {self.workload.name}, explored {self.explored}"
        return f"{self.submission.name} on {self.workload.name}, study {self.study}, trial {self.trial}"
