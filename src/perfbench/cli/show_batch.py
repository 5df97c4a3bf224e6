"""``perfbench show-batch WORKLOAD``: a batch as the model sees it, as a picture."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfbench.compose import compose_run
from perfbench.errors import ExitCode, ResultsError
from perfbench.results.store import TrialFolder
from perfbench.spec.seeds import Stream, stream_seed
from perfbench.spec.workload import Split, WorkloadSpec

if TYPE_CHECKING:
    from torch import nn

    from perfbench.api.workload import Batch, Workload

_TRAIN = "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What is drawn: a workload on its data, and whose model predicts."""

    spec: WorkloadSpec
    data_root: Path
    may_prepare: bool
    seed: int
    checkpoints: Path | None
    """Of the trial whose weights are used; ``None`` for the model as it is built."""
    owner: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("workload")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. data=planted seed=1")
    parser.add_argument(
        "--split", default="validation", choices=[_TRAIN, *(split.value for split in Split)], help="default: validation"
    )
    parser.add_argument(
        "--trial",
        type=Path,
        metavar="FOLDER",
        help="predict with this trial's newest checkpoint: its last evaluation but one, once it has ended",
    )
    parser.add_argument("--out", type=Path, metavar="PNG", help="default: runs/pictures/WORKLOAD_SPLIT.png")


def run(arguments: argparse.Namespace) -> int:
    """Load one batch, let the model predict, and write the picture."""
    from rich.console import Console

    from perfbench.cli.progress import data_progress
    from perfbench.launch.preflight import ensure_data
    from perfbench.results.files import atomic_file

    console = Console(soft_wrap=True)
    if arguments.trial is None:
        subject = _untrained(arguments.workload, arguments.overrides)
    else:
        subject = _of_trial(arguments.trial, arguments.workload, arguments.overrides)
    with data_progress(console) as progress:
        ensure_data(subject.spec, subject.data_root, progress, may_prepare=subject.may_prepare)
    path = arguments.out or Path("runs/pictures") / f"{subject.spec.name}_{arguments.split}.png"
    content, heading = picture_of(subject, arguments.split, console.print)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content)
    except OSError as problem:
        raise ResultsError(
            f"the picture cannot be written: {problem.strerror}", where=str(path), hint="choose a file with --out"
        ) from None
    console.print(f"{heading}: [bold]{path}[/] ({len(content) / 2**10:,.0f} KB)")
    return int(ExitCode.DONE)


def picture_of(subject: Subject, split: str, warn: Callable[[str], None]) -> tuple[bytes, str]:
    """Return the picture of the first batch of a split as PNG, and its heading.

    Raises:
        ResultsError: If the trial has no checkpoint.
    """
    import torch

    from perfbench.cli.pictures import as_png, drawn
    from perfbench.registry import build_workload

    workload = build_workload(subject.spec, subject.data_root)
    model = workload.build_model(seed=stream_seed(subject.seed, Stream.INIT)).eval()
    state = "untrained" if subject.checkpoints is None else _put_weights(model, subject.checkpoints, warn)
    batch = _first_batch(workload, split, seed=stream_seed(subject.seed, Stream.DATA_ORDER))
    with torch.no_grad():
        picture = workload.picture(model, batch)
    heading = f"{subject.spec.name}, data {subject.spec.dataset}, {split}; {subject.owner}, {state}"
    return as_png(drawn(picture, heading=heading)), heading


def _untrained(workload: str, overrides: Sequence[str]) -> Subject:
    request = compose_run([f"workload={workload}", *overrides])
    return Subject(
        spec=request.workload,
        data_root=Path(request.data_root).resolve(),
        may_prepare=request.scale.prepare_data,
        seed=request.seed,
        checkpoints=None,
        owner=f"model of seed {request.seed}",
    )


def _of_trial(path: Path, workload: str, overrides: Sequence[str]) -> Subject:
    """Return what a trial trains.

    Raises:
        ResultsError: If the folder is no trial, is another workload's, or overrides are given beside it.
    """
    folder = TrialFolder(path)
    if not (path / "run.json").exists():
        raise ResultsError("no run.json: not the folder of a trial", where=str(path), hint="it ends in trial_<number>")
    trial = folder.trial()
    if trial.workload.name != workload:
        what = f"the trial trains {trial.workload.name}, not {workload}"
        raise ResultsError(what, where=str(path), hint=f"`perfbench show-batch {trial.workload.name} --trial ...`")
    if overrides:
        what = f"a trial has its own configuration: {' '.join(overrides)} cannot change it"
        raise ResultsError(what, where="--trial", hint="leave the overrides out, or the trial")
    return Subject(
        spec=trial.workload,
        data_root=Path(trial.data_root),
        may_prepare=trial.scale.prepare_data,
        seed=trial.trial_seed,
        checkpoints=folder.checkpoints,
        owner=f"{trial.submission.name}, study {trial.study}, trial {trial.trial}",
    )


def _put_weights(model: nn.Module, checkpoints: Path, warn: Callable[[str], None]) -> str:
    """Put a trial's newest weights into its model and say which they are."""
    from perfbench.engine.referee.checkpoints import read_weights
    from perfbench.engine.trainer.state import copy_into

    saved = read_weights(checkpoints, checkpoints.with_name("states"), warn)
    if saved is None:
        hint = "leave --trial out: untrained weights; on Slurm only cluster.keep_checkpoints=true keeps them to the end"
        raise ResultsError("the trial has no readable checkpoint", where=str(checkpoints), hint=hint)
    step, state = saved
    copy_into(model.named_parameters(), state["shared"]["parameters"])
    copy_into(model.named_buffers(), state["own"]["buffers"])
    return f"weights of step {step:,}"


def _first_batch(workload: Workload, split: str, *, seed: int) -> Batch:
    from perfbench.api.workload import Shard

    spec = workload.spec
    if split == _TRAIN:
        stream = workload.train_batches(global_batch_size=spec.reference_batch_size, seed=seed, shard=Shard())
        try:
            return next(stream)
        finally:
            stream.close()
    return next(workload.eval_batches(Split(split), global_batch_size=spec.eval_batch_size, seed=seed, shard=Shard()))
