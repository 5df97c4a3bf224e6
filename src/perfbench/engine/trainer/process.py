"""Setting a trainer up in its own process, and telling the referee why it cannot go on if it cannot."""

from __future__ import annotations

import faulthandler
import importlib
import importlib.util
import signal
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from perfbench.engine.trainer.loop import BuildSubmission, Trainer
from perfbench.engine.trainer.workplace import Workplace
from perfbench.engine.wire.channel import Channel, LineBroken
from perfbench.engine.wire.determinism import require_determinism
from perfbench.engine.wire.devices import device_of
from perfbench.engine.wire.groups import join_group
from perfbench.engine.wire.messages import Failed, Setup, ToTrainer
from perfbench.engine.wire.page import Page
from perfbench.engine.wire.precision import set_precision
from perfbench.engine.wire.reasons import message_of, reason_of
from perfbench.engine.wire.team import Solo, Team
from perfbench.engine.wire.weights import WeightsMemory
from perfbench.errors import PerfbenchError, SubmissionError
from perfbench.places import package_folder
from perfbench.registry import build_workload, submission_builder
from perfbench.spec.run import TrialSpec

_HUNG_UP = 3
"""Exit code where the referee is gone: nobody is left to tell."""
_IMPORTED_BEFORE_THE_CLOCK = ("perfbench.api.optim",)
"""Our own parts that submissions are made of."""
_NO_DATA = Path("/nonexistent")
"""Where the workload looks for data that the submission's loss leads to."""


def serve(channel: Channel[ToTrainer], setup: Setup, *, page_descriptor: int, weights_descriptor: int) -> int:
    """Do what the referee says until it says "end"; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the referee hears them, and decides
    if setup.stacks_fd is not None:
        faulthandler.register(signal.SIGUSR1, file=setup.stacks_fd, all_threads=True)
    trainer: Trainer | None = None
    try:
        workplace = _workplace(setup)
        trainer = Trainer(
            workplace,
            lambda: _imported(setup.trial),
            channel=channel,
            page=Page(page_descriptor),
            weights=WeightsMemory(weights_descriptor, workplace.model),
        )
        trainer.run()
    except LineBroken:
        return _HUNG_UP
    except BaseException as problem:  # noqa: BLE001 - whatever ends a trainer is told to the referee, which records it
        channel.send(told(problem, setup.trial, trainer))
        return 1
    if dist.is_initialized():
        dist.destroy_process_group()
    return 0


def told(problem: BaseException, trial: TrialSpec, trainer: Trainer | None) -> Failed:
    """Return what the referee is told of an exception."""
    has_begun, place = False, ""
    if trainer is not None and trainer.has_begun:
        has_begun = True
        place = trainer.place_of(problem.where) if isinstance(problem, SubmissionError) else ""
    return Failed(
        reason=reason_of(problem, trial.submission.folder),
        error_type=type(problem).__name__,
        message=place + message_of(problem, trial.submission.folder),
        traceback="".join(traceback.format_exception(problem)),
        is_refusal=isinstance(problem, PerfbenchError) and not has_begun,
    )


def _workplace(setup: Setup) -> Workplace:
    """Join the other trainers and build what does not depend on the submission's own code."""
    trial, place = setup.trial, setup.place
    device = device_of(trial, place)
    set_precision(trial.ruleset.precision)
    if trial.deterministic:
        require_determinism()
    timeout = timedelta(seconds=setup.timeout_s)
    team: Team = Solo()
    if place.num_ranks > 1:
        team = join_group(
            "trainers", place, device, backend="nccl" if device.type == "cuda" else "gloo", timeout=timeout
        )
    require_installed(trial.submission.packages)
    for module in (*_IMPORTED_BEFORE_THE_CLOCK, *trial.submission.packages):
        importlib.import_module(module)
    return Workplace.build(
        trial,
        build_workload(trial.workload, _NO_DATA),
        source=build_workload(trial.workload, Path(trial.data_root)),
        team=team,
        device=device,
    )


def require_installed(modules: Iterable[str]) -> None:
    """Check that modules are installed, or ours: importing a submission's own code is on the clock.

    Raises:
        SubmissionError: If one lies somewhere else.
    """
    standard = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    sites = (*site.getsitepackages([sys.prefix, sys.base_prefix]), site.getusersitepackages())
    folders = [package_folder().resolve(), *(Path(place).resolve() for place in (*standard, *sites))]
    for name in modules:
        spec = importlib.util.find_spec(name.partition(".")[0])
        found = None if spec is None else next(iter(spec.submodule_search_locations or ()), spec.origin)
        if found is None or found in ("built-in", "frozen"):
            continue
        if not any(Path(found).resolve().is_relative_to(folder) for folder in folders):
            raise SubmissionError(
                f"packages names {name!r}, which is not installed: it lies at {found}",
                where="packages",
                hint="name what pip has installed; a submission's own code is imported on the clock",
            )


def _imported(trial: TrialSpec) -> BuildSubmission:
    return submission_builder(trial.submission, trial.hyperparameters)
