"""One trial as one Weights & Biases run. Imported only where W&B was asked for; nothing here touches a trial."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfbench.inherited import foreign_to_mirror
from perfbench.results.store import TrialFolder
from perfbench.spec.result import Crashed, TrialResult
from perfbench.spec.run import TrialSpec, WandbTracking
from perfbench.spec.workload import Direction
from perfbench.tracking.rows import BY_STEP, STEP_KEY, TIME_KEY, Row, accounts

if TYPE_CHECKING:
    import wandb

_QUIET = {
    "WANDB_CONSOLE": "off",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "GOMAXPROCS": "1",  # its service process shares the machine with the trial
}
_ARTIFACT_FILES = ("run.json", "environment.json", "measurements.jsonl", "result.json")
_MOST_TAG_LETTERS = 64
"""What W&B takes."""


class WandbRun:
    """A W&B run that is new, or goes on where an earlier process of the same trial ended.

    Args:
        folder: Of the trial.
        tracking: Which project.
        scratch: Where W&B may put files of its own while the run is online.
        patience_s: How long to wait for the service when the run begins and when it ends.

    Raises:
        Exception: Of many classes, W&B's own, where the service cannot be reached or refuses.
    """

    def __init__(self, folder: TrialFolder, tracking: WandbTracking, *, scratch: Path, patience_s: float) -> None:
        forget_foreign_settings()
        os.environ.update(_QUIET)
        import wandb

        self._folder = folder
        self._tracking = tracking
        self._has_environment = False
        trial = folder.trial()
        is_offline = tracking.kind == "wandb_offline"
        root = folder.path if is_offline else scratch
        if is_offline:  # the files are made anew from all records, so that there is one run and nothing twice
            shutil.rmtree(folder.path / "wandb", ignore_errors=True)
        self._run = wandb.init(
            id=folder.tracking_id(),
            entity=tracking.entity,
            project=tracking.project,
            group=f"{trial.submission.name}/{trial.workload.name}/"
            + ("explored" if trial.explored else f"study_{trial.study}"),
            job_type=trial.ruleset.kind,
            name=f"{trial.submission.name} {trial.workload.name} "
            + (trial.explored or f"study {trial.study} trial {trial.trial}"),
            tags=_tags(trial, tracking),
            config=_names(trial) | {"facts": trial.model_dump(mode="json", exclude={"data_root"})},
            resume="allow",
            settings=quiet_settings(str(root), patience_s, is_offline=is_offline),
        )
        self.next_number = int(self._run.starting_step or 0)
        """Of the first row that the run does not hold."""
        self._define_metrics(trial)

    def log(self, row: Row) -> None:
        """Hand a row over."""
        self._take_environment()
        self._run.log(row.values, step=row.number)

    def finish(self, result: TrialResult | None) -> None:
        """End the run; without a result it waits for another attempt."""
        self._take_environment()
        is_failed = result is None or isinstance(result.outcome, Crashed)
        if result is None:
            self._run.mark_preempting()
        else:
            summary: Any = self._run.summary  # untyped in W&B
            summary.update(summary_values(self._folder.trial(), result))
        if self._tracking.artifacts and result is not None:
            self._log_artifact()
        self._run.finish(exit_code=int(is_failed))

    def _define_metrics(self, trial: TrialSpec) -> None:
        goal = "min" if trial.target.direction is Direction.MINIMIZE else "max"
        for name in (STEP_KEY, TIME_KEY):
            self._run.define_metric(name, hidden=True)
        self._run.define_metric("*", step_metric=TIME_KEY)
        self._run.define_metric(f"{BY_STEP}*", step_metric=STEP_KEY)
        self._run.define_metric(trial.target.metric, step_metric=TIME_KEY, summary=f"{goal},last")

    def _take_environment(self) -> None:
        """Add what the trial runs on, once rank 0 has found out."""
        path = self._folder.path / "environment.json"
        if self._has_environment or not path.exists():
            return
        self._has_environment = True
        environment = self._folder.environment().model_dump(mode="json")
        config: Any = self._run.config  # untyped in W&B
        config.update({"environment": environment}, allow_val_change=True)

    def _log_artifact(self) -> None:
        import wandb

        artifact = wandb.Artifact(f"trial-{self._folder.tracking_id()}", type="trial")
        for name in _ARTIFACT_FILES:
            if (self._folder.path / name).exists():
                artifact.add_file(str(self._folder.path / name))
        self._run.log_artifact(artifact)


def forget_foreign_settings() -> None:
    """Remove what W&B would read from the environment and nobody means for a trial: a sweep, a run, a project."""
    for name in foreign_to_mirror(os.environ):
        del os.environ[name]


def _names(trial: TrialSpec) -> dict[str, Any]:
    """Return what runs are told apart by, not nested: dashboards filter and group by it."""
    return {
        "submission": trial.submission.name,
        "workload": trial.workload.name,
        "study": trial.study,
        "trial": trial.trial,
        "explored": trial.explored,
        "seed": trial.run_seed,
        **{f"hyperparameters/{name}": value for name, value in (trial.hyperparameters or {}).items()},
    }


def _tags(trial: TrialSpec, tracking: WandbTracking) -> list[str]:
    own = (
        trial.submission.name,
        trial.workload.name,
        trial.scale.name.value,
        trial.workload.dataset,
        trial.ruleset.kind,
    )
    return [tag[:_MOST_TAG_LETTERS] for tag in dict.fromkeys((*own, *tracking.tags))]


def quiet_settings(root: str, patience_s: float, *, is_offline: bool) -> wandb.Settings:
    """Return settings under which W&B records what it is given and looks at nothing by itself."""
    import wandb

    return wandb.Settings(
        mode="offline" if is_offline else "online",
        root_dir=root,
        init_timeout=patience_s,
        finish_timeout=patience_s,
        finish_timeout_raises=True,
        console="off",
        silent=True,
        program="perfbench",
        save_code=False,
        disable_code=True,
        disable_git=True,
        symlink=False,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )


def summary_values(trial: TrialSpec, result: TrialResult) -> dict[str, Any]:
    """Return how a trial ended, for tables of runs."""
    reached = result.outcome.kind == "reached"
    return {
        "outcome": result.outcome.kind,
        "time_to_target_s": result.time_to_target_s if reached else None,
        "best_metric": result.best_metric,
        "scorable": result.scorable,
        "num_steps": result.num_steps,
        "num_measurements": result.num_measurements,
        "num_attempts": result.num_attempts,
        "num_recompiles_after_warmup": result.num_recompiles_after_warmup,
        "target": trial.target.threshold,
        "budget_s": trial.max_submission_time_s,
        **accounts(result.phases),
    }
