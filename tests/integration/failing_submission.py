"""A submission that goes wrong after a few steps, in the way that its point says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perfbench.compose import compose_submission

CODE = """
import os, signal, time
import torch
from perfbench.spec.base import Spec
from submissions.baseline import submission as baseline

Options = baseline.Options

class Hyperparameters(Spec):
    goes_wrong: str

def go_wrong(how, model):
    is_last = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
    match how:
        case "mistake":
            raise ValueError("a mistake in the submission")
        case "memory":
            torch.empty(10**15)
        case "nan":
            for parameter in model.parameters():
                parameter.data.fill_(float("nan"))
        case "hang" if is_last:
            time.sleep(10000)
        case "kill" if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

def build(context, hyperparameters, *, options):
    submission = baseline.build(context, baseline.Hyperparameters.from_mapping(POINT), options=options)
    step = submission.update_params
    def update_params(batch):
        if submission.num_updates == 5:
            go_wrong(hyperparameters.goes_wrong, context.model)
        return step(batch)
    submission.update_params = update_params
    return submission
"""


def write(folder: Path, ways: Sequence[str]) -> tuple[str, ...]:
    """Write the submission; return the overrides for one trial for each way (``no`` for one that goes well)."""
    space = compose_submission("baseline").search_space
    assert space is not None
    folder.mkdir()
    point = space.model_dump(mode="json")["points"][0]
    (folder / "submission.py").write_text(f"POINT = {point!r}\n{CODE}")
    points = ", ".join(f"{{goes_wrong: '{way}'}}" for way in ways)
    return "submission=baseline", f"submission.folder={folder}", f"submission.search_space.points=[{points}]"
