"""From a request to trials: every number resolved, every impossible combination refused, nothing started."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from pathlib import Path

from pydantic import JsonValue

from perfbench.errors import ConfigError, RulesError
from perfbench.spec.environment import Isolation
from perfbench.spec.run import DebugCluster, LocalCluster, RunSpec, SlurmCluster, TrialSpec
from perfbench.spec.seeds import trial_seed
from perfbench.spec.submission import HyperparameterPoint
from perfbench.spec.workload import Target
from perfbench.tuning.sampler import points_for_study

_LONGEST_NAME = 150
"""Letters of an explored trial's folder; a file system takes 255, and tables are read by people."""


def plan_study(run: RunSpec) -> list[TrialSpec]:
    """Return all trials of the requested study, in order.

    Raises:
        ConfigError: If batch sizes do not fit the ranks, or the scale has no such target.
        RulesError: If the ruleset does not allow the submission, the study or the trial.
    """
    _check_rules(run)
    points = points_for_study(run.submission, run.ruleset, study=run.study, run_seed=run.seed)
    if not 1 <= run.trial <= len(points):
        raise RulesError(
            f"there is no trial {run.trial}: a study of {run.submission.name} has {len(points)}",
            where="trial",
            hint=f"trial=1 to trial={len(points)}",
        )
    num_ranks = _num_ranks(run)
    batch_size = _checked_batch_size(run, num_ranks)
    workload, rules = run.workload, run.ruleset
    submission = run.submission.with_absolute_paths()
    cap = rules.step_cap_factor
    return [
        TrialSpec(
            workload=workload,
            submission=submission,
            ruleset=rules,
            scale=run.scale,
            evaluation=run.evaluation,
            run_seed=run.seed,
            study=run.study,
            trial=number,
            trial_seed=trial_seed(run.seed, study=run.study, trial=number),
            hyperparameters=point,
            global_batch_size=batch_size,
            num_ranks=num_ranks,
            target=_target(run),
            max_submission_time_s=workload.max_submission_time_s * rules.budget_factor,
            max_steps=None if cap is None else math.floor(workload.step_hint * cap),
            deterministic=run.deterministic,
            trace_steps=run.trace_steps,
            isolation=_isolation(run),
            data_root=str(Path(run.data_root).resolve()),
        )
        for number, point in enumerate(points, start=1)
    ]


def plan_trial(run: RunSpec) -> TrialSpec:
    """Return the one requested trial.

    Raises:
        PerfbenchError: As :func:`plan_study`, and as :func:`explored`.
    """
    trial = plan_study(run)[run.trial - 1]
    return explored(trial, run.hp) if run.hp or run.explore else trial


def explored(trial: TrialSpec, hyperparameters: HyperparameterPoint) -> TrialSpec:
    """Return a trial with some hyperparameters set by hand: in a folder named by what differs, and never scored.

    Raises:
        RulesError: If the trial has no hyperparameters.
    """
    point = trial.hyperparameters
    if hyperparameters and point is None:
        raise RulesError(
            f"submission {trial.submission.name!r} takes no hyperparameters: it tunes itself",
            where=f"hp.{next(iter(hyperparameters))}",
            hint="what it leaves open are its options: submission.options.NAME=VALUE",
        )
    given = {name: _as_in(point or {}, name, value) for name, value in hyperparameters.items()}
    place = {"trial": (trial.trial, 1), "study": (trial.study, 0), "seed": (trial.run_seed, 0)}
    parts = [f"{name}={shown_value(given[name])}" for name in sorted(given)]
    parts += [f"{name}={value}" for name, (value, first) in place.items() if value != first]
    name = ",".join(parts) or f"trial={trial.trial}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}~{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
    return trial.model_copy(update={"hyperparameters": None if point is None else {**point, **given}, "explored": name})


def _as_in(point: HyperparameterPoint, name: str, value: JsonValue) -> JsonValue:
    """Return a whole number as the point has it: 0 and 0.0 are one value of a hyperparameter that is no count."""
    if isinstance(value, int) and not isinstance(value, bool) and isinstance(point.get(name), float):
        return float(value)
    return value


def shown_value(value: JsonValue) -> str:
    """Return a hyperparameter's value as a part of a folder's name; two values never look the same.

    >>> shown_value(3e-4), shown_value(0.1 + 0.2), shown_value(2.0), shown_value(True), shown_value("a/b")
    ('0.0003', '0.30000000000000004', '2', 'true', 'a_b~6d959c')
    """
    if isinstance(value, float):
        short = f"{value:.6g}"
        return short if float(short) == value else repr(value)
    text = value if isinstance(value, str) else json.dumps(value)
    plain = re.sub(r"[^\w.+-]", "_", text)
    return plain if plain == text else f"{plain}~{hashlib.blake2b(text.encode(), digest_size=3).hexdigest()}"


def num_gpus() -> int:
    """Return how many GPUs a process started here would see, without importing torch."""
    try:
        import pynvml

        pynvml.nvmlInit()
        num_installed = int(pynvml.nvmlDeviceGetCount())
    except Exception:  # noqa: BLE001 - no package, no library, no driver: all of them mean no GPU
        return 0
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return num_installed if chosen is None else num_chosen(chosen, num_installed)


def num_chosen(chosen: str, num_installed: int) -> int:
    """Return how many devices a process sees that is left these: CUDA takes the names up to the first that is none.

    Args:
        chosen: As ``CUDA_VISIBLE_DEVICES`` has them: numbers, or the names of whole devices or of parts (MIG).
        num_installed: Whole devices.

    >>> num_chosen("0,1,7,2", 4), num_chosen("GPU-5a,GPU-7c", 4), num_chosen("MIG-1f,MIG-2e", 4)
    (2, 2, 1)
    """
    seen: set[str] = set()
    for name in (name.strip() for name in chosen.split(",")):
        if name.startswith("MIG-"):
            return max(1, len(seen))  # of parts, a process sees one
        is_number = name.isdecimal() and int(name) < num_installed
        if not (is_number or name.startswith("GPU-")):
            break
        if name in seen:
            return 0  # named twice, none is seen
        seen.add(name)
    return min(num_installed, len(seen))


def _check_rules(run: RunSpec) -> None:
    if run.ruleset.kind not in run.submission.rulesets:
        raise RulesError(
            f"submission {run.submission.name!r} does not take part in {run.ruleset.kind!r} tuning",
            where="ruleset",
            hint=f"use ruleset={' or ruleset='.join(run.submission.rulesets)}",
        )
    if run.study >= run.ruleset.num_studies:
        raise RulesError(
            f"there is no study {run.study}: the ruleset has {run.ruleset.num_studies}",
            where="study",
            hint=f"study=0 to study={run.ruleset.num_studies - 1}",
        )


def _isolation(run: RunSpec) -> Isolation:
    if isinstance(run.cluster, DebugCluster):
        return Isolation.NONE
    if run.isolation is Isolation.NONE:
        raise ConfigError(
            "referee and trainer are two processes on every cluster but one",
            where="isolation",
            hint="cluster=debug runs both in this process, for debugging; or choose process or sandbox",
        )
    return run.isolation


def _target(run: RunSpec) -> Target:
    target = run.workload.targets.get(run.scale.target)
    if target is None:
        known = ", ".join(kind.value for kind in run.workload.targets)
        raise ConfigError(
            f"workload {run.workload.name!r} has no {run.scale.target.value} target at scale "
            f"{run.workload.scale.value!r}",
            where="scale.target",
            hint=f"scale.target can be: {known}",
        )
    return target


def _num_ranks(run: RunSpec) -> int:
    match run.cluster:
        case LocalCluster(nproc_per_node=None):
            return max(1, num_gpus())
        case LocalCluster(nproc_per_node=int(asked)):
            _refuse_shared_gpus(asked)
            return asked
        case SlurmCluster(nodes=nodes, gpus_per_node=gpus_per_node):
            return nodes * gpus_per_node
        case _:
            return 1


def _refuse_shared_gpus(num_ranks: int) -> None:
    """Refuse more ranks than GPUs: nccl lets no two share one, and it would be no measurement if it did."""
    found = num_gpus()
    if 0 < found < num_ranks:
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        seen = "" if chosen is None else f" (CUDA_VISIBLE_DEVICES={chosen})"
        raise ConfigError(
            f"{num_ranks} ranks cannot share {found} visible GPU{'s' * (found > 1)}{seen}",
            where="cluster.nproc_per_node",
            hint=f"at most {found}, one rank on each; with CUDA_VISIBLE_DEVICES= they run on processors",
        )


def _checked_batch_size(run: RunSpec, num_ranks: int) -> int:
    batch_size = run.submission.batch_size_for(run.workload)
    sizes = {"training batch size": batch_size, "workload.eval_batch_size": run.workload.eval_batch_size}
    for name, size in sizes.items():
        if size % num_ranks:
            raise ConfigError(
                f"the {name} {size} is not divisible by {num_ranks} ranks",
                where="cluster.nproc_per_node" if isinstance(run.cluster, LocalCluster) else "cluster",
                hint=f"choose a number of ranks that divides {size}",
            )
    return batch_size
