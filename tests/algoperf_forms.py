"""Submissions in AlgoPerf's form, written for the tests: copied to where a test wants them."""

from __future__ import annotations

import shutil
from pathlib import Path

from perfbench.algoperf.adapter import builder
from perfbench.algoperf.facts import facts_of
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyClicks, TinyProblem
from perfbench.spec.submission import HyperparameterPoint, SubmissionSpec

FOLDERS = Path(__file__).parent / "algoperf_folders"
NAMES = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir())


def copied(name: str, tmp_path: Path) -> Path:
    """Copy a folder under its own name and return the copy."""
    target = tmp_path / name
    shutil.copytree(FOLDERS / name, target)
    for path in target.rglob("*.txt"):
        path.rename(path.with_suffix(""))
    return target


def spec_of(name: str, tmp_path: Path) -> SubmissionSpec:
    """Return a copied folder's facts; it is not asked for its batch sizes, which takes a process."""
    return SubmissionSpec.from_mapping(facts_of(copied(name, tmp_path), taken_names=(), workloads={}))


HEAD = """
import collections, enum, functools, random
import numpy as np
import torch
from algoperf import spec

def get_batch_size(workload_name): raise ValueError
def data_selection(workload, input_queue, *rest): return next(input_queue)

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    return {"sgd": torch.optim.SGD(model_params.parameters(), lr=0.1)}

def forward(workload, current_param_container, batch, update_batch_norm=True, **more):
    return workload.model_fn(params=current_param_container, augmented_and_preprocessed_input_batch=batch,
        model_state=None, mode=spec.ForwardPassMode.TRAIN, rng=None, update_batch_norm=update_batch_norm, **more)[0]

def loss_of(workload, batch, logits, **more):
    sums = workload.loss_fn(label_batch=batch["targets"], logits_batch=logits, mask_batch=batch.get("weights"), **more)
    return sums["summed"] / sums["n_valid_examples"]
"""
UPDATE = """
def update_params(workload, current_param_container, batch, optimizer_state, global_step, **given):
    logits = forward(workload, current_param_container, batch)
    {line}
    loss_of(workload, batch, logits).backward()
    return optimizer_state, current_param_container, None
"""


def rehearsed(
    code: str,
    parent: Path,
    *,
    problem: TinyProblem | None = None,
    point: HyperparameterPoint | None = None,
    **options: str,
) -> Rehearsal:
    """Return a rehearsal of a new folder that holds one file: ``HEAD`` and the code."""
    folder = parent / f"mine_{len(list(parent.iterdir()))}"
    folder.mkdir()
    (folder / "submission.py").write_text(HEAD + code)
    return Rehearsal(builder(folder, point, options), problem or TinyClicks(), seed=1, step_hint=20)
