"""Submissions that cheat, on a real trial of two processes in the sandbox: none reaches the target off the clock.

Each is given a second on the clock and 120 steps, in which an honest submission gets nowhere near the target, however
fast the machine is. Those that lie beside the checkout are taken from there; kinds without a file are written here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perfbench.results.store import TrialFolder
from perfbench.spec.environment import Isolation
from perfbench.spec.result import Crashed, FailureReason, TargetReached, TrialResult

CHEATS = Path(__file__).resolve().parents[2].parent / "shared" / "cheats"
NAMES = sorted(path.name for path in CHEATS.glob("h[0-9]*") if path.name != "h00_honest") or ["none"]
NEEDS_REVIEW = {"h36_shape_memo"}
"""Weights that were trained before and lie in the submission's own folder: no isolation finds them; ``verify`` does."""
LEAVES_SOMETHING = {"h26_lookahead", "h34_edit_package"}
"""What the first attempt or trial leaves is for the second."""

WRITTEN_HERE = {
    "stops_its_referee": "os.kill(os.getppid(), signal.SIGSTOP)",
    "kills_its_referee": "os.kill(os.getppid(), signal.SIGKILL)",
    "writes_beside_the_records": "pathlib.Path(RECORDS).with_name('kept').write_text('weights')",
    "reads_the_records": "open(RECORDS).read()",
    "calls_home": "socket.create_connection(('127.0.0.1', 9), 1)",
    "reads_a_package_with_data": "[open(path).read() for path in map('{}/mlxtend/__init__.py'.format, SITES)]",
}
"""What a submission tries in its tenth step, one after the other; each must fail with an error of its own."""

WAY_TO_EXAMPLES = """
from perfbench.spec.workload import Split
ends = []
for workload in reached(context, "eval_batches"):
    try:
        batches = workload.eval_batches(Split.VALIDATION, global_batch_size=8, seed=0, shard=context.shard)
        ends.append(next(iter(batches)))
    except Exception as problem:
        ends.append(str(problem))
assert any(isinstance(end, dict) for end in ends), ends
"""

SUBMISSION = '''
"""Tries something that it must not be able to do."""
import gc, os, pathlib, signal, socket, sys, types

import torch

from perfbench.api import GradientSubmission
from perfbench.spec.base import Spec

RECORDS = {records!r}
SITES = [path for path in sys.path if path.endswith("site-packages")]


class Hyperparameters(Spec):
    learning_rate: float


class Trying(GradientSubmission):
    def update_params(self, batch):
        if self.num_updates == 10:
            attempts = {attempts!r}.items()
            raise RuntimeError("; ".join(tried(name, attempt, self.context) for name, attempt in attempts))
        return super().update_params(batch)


def tried(name, attempt, context):
    try:
        exec(attempt, globals() | {{"context": context}})
    except Exception as problem:
        return f"{{name}}: {{problem}}"
    return f"{{name}}: done"


def reached(start, name):
    """Yield what has a method of that name and is found from an object, closures included, modules' globals not."""
    seen, waiting = set(), [start]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | types.ModuleType):
            continue
        seen.add(id(item))
        if name in dir(type(item)):
            yield item
        apart = getattr(item, "__globals__", None) if isinstance(item, types.FunctionType) else None
        waiting += [one for one in gc.get_referents(item) if one is not apart]


def build(context, hyperparameters):
    return Trying(context, [torch.optim.SGD(context.model.parameters(), lr=hyperparameters.learning_rate)])
'''


def run(folder: Path, runs: Path, *overrides: str) -> tuple[TrialResult | None, TrialFolder, str]:
    """Run a submission on mini mnist in the sandbox, uncompiled; return result, trial folder and what was said."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "perfbench", "run", "workload=mnist", f"submission={folder}", f"runs_root={runs}"),
            *("isolation=sandbox", "cluster.inherit=[TORCHDYNAMO_DISABLE]", "workload.eval_period_s=0.25"),
            *("workload.max_submission_time_s=1.0", "ruleset.step_cap_factor=0.04", *overrides),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    trial = TrialFolder(next(runs.glob("*/study_0/mnist/trial_1"), runs / "none"))
    return trial.result() if trial.path.exists() else None, trial, done.stderr


def copied(name: str, tmp_path: Path) -> Path:
    if not CHEATS.is_dir():
        pytest.skip("the collection of cheats is not here: ../shared/cheats")
    folder = tmp_path / name
    shutil.copytree(CHEATS / name, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_cheat_reaches_the_target_off_the_clock(name: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path)

    for _ in range(2 if name in LEAVES_SOMETHING else 1):
        result, trial, _ = run(folder, tmp_path / "runs")

    if name in NEEDS_REVIEW:
        return
    assert result is None or not isinstance(result.outcome, TargetReached), result
    assert trial.environment().isolation is Isolation.SANDBOX
    assert all(m.metrics["validation/accuracy"] < 0.92 for m in trial.measurements())


@pytest.mark.slow
def test_a_confined_submission_reaches_nothing(tmp_path: Path) -> None:
    ends = ends_of(WRITTEN_HERE, tmp_path)

    assert {name for name in WRITTEN_HERE if "denied" not in ends[name] and "not permitted" not in ends[name]} == set()


@pytest.mark.slow
def test_what_a_context_leads_to_has_no_data_without_a_sandbox_either(tmp_path: Path) -> None:
    ends = ends_of({"examples": WAY_TO_EXAMPLES}, tmp_path, "isolation=process")

    assert ends["examples"].startswith("['")
    assert "not prepared" in ends["examples"]


def ends_of(attempts: dict[str, str], tmp_path: Path, *overrides: str) -> dict[str, str]:
    """Run a submission that tries these; return how each attempt ended."""
    folder = tmp_path / "trying"
    folder.mkdir()
    records = tmp_path / "runs" / "trying" / "study_0" / "mnist" / "trial_1" / "run.json"
    (folder / "submission.py").write_text(SUBMISSION.format(attempts=attempts, records=str(records)))
    (folder / "__init__.py").write_text("")
    (folder / "submission.yaml").write_text(
        "name: trying\nversion: 1\ndescription: tries what it must not\nrulesets: [external]\n"
        "search_space: {kind: points, points: [{learning_rate: 0.01}]}\n"
    )

    result, _, said = run(folder, tmp_path / "runs", *overrides)

    assert result is not None, said
    assert isinstance(result.outcome, Crashed)
    assert result.outcome.reason is FailureReason.SUBMISSION
    ends = dict(re.findall(r"(\w+): ([^;]*)", result.outcome.message))
    assert set(attempts) <= set(ends), said
    return ends
