"""What `check submission` says of a folder of AlgoPerf's form before anything of it runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from perfbench.algoperf.folder import read_folder
from perfbench.algoperf.report import doubts, recognised
from perfbench.api.contracts.submission import check_source
from perfbench.api.contracts.tiny_problems import TinyText
from perfbench.cli import check
from tests.algoperf_forms import copied

SIZES = {"criteo": 262144, "criteo_resnet": 262144, "ogbg": 512, "ogbg_silu": 256}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "nadamw",
            {"generation": "v0.5", "ruleset": "external, 2 points", "dropout": "the point's dropout_rate, set once"},
        ),
        (
            "two_passes",
            {"generation": "newest", "ruleset": "external, 5 dimensions", "dropout": "what the file passes"},
        ),
        ("lion_like", {"ruleset": "self-tuning", "dropout": "the workload's own", "train_state": "taken"}),
        (
            "four_spellings",
            {"prepare_for_eval": "defined", "files": "submission.py, phases.py, optimizers/momentum.py"},
        ),
    ],
)
def test_what_was_recognised(name: str, expected: dict[str, str], tmp_path: Path) -> None:
    said = recognised(read_folder(copied(name, tmp_path)), batch_sizes=SIZES, dropout="as_run")
    lines = dict(said)

    assert len(lines) == len(said)
    assert {what: found[: len(expected[what])] for what, found in lines.items() if what in expected} == expected
    assert lines["batch sizes"] == "criteo 262,144, ogbg 512, ogbg_silu 256"


def test_dropout_of_the_file_only_is_said(tmp_path: Path) -> None:
    lines = dict(recognised(read_folder(copied("nadamw", tmp_path)), batch_sizes={}, dropout="file_only"))

    assert "options.dropout=file_only" in lines["dropout"]
    assert lines["batch sizes"] == "none of a workload here: reference sizes"


CODE = """
import jax.numpy as jnp
import no_such_package
from algoperf import spec
def get_batch_size(workload_name): ...
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    z = torch.zeros(3, device='cuda')
    return hyperparameters.learning_rate * hyperparameters.absent
def update_params(workload, hyperparameters, **given):
    logits, _ = workload.model_fn(mode=spec.ForwardPassMode.EVAL)
    clip = hyperparameters.grad_clip if hasattr(hyperparameters, 'grad_clip') else None
    loss = workload.loss_fn(label_batch=None, logits_batch=logits)
    loss = loss + 1e-3 * logits.pow(2).mean()
    workload.eval_model(None)
def data_selection(*given): ...
"""


def test_what_cannot_work_is_warned_of_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "submission.py").write_text(CODE)
    (tmp_path / "tuning_search_space.json").write_text('[{"learning_rate": 1, "dropout_rate": 0.1, "unread": 2}]')
    lines = CODE.splitlines()

    def place(text: str) -> str:
        return f"submission.py:{next(number for number, line in enumerate(lines, start=1) if text in line)}"

    found = list(doubts(read_folder(tmp_path), has_gpu=False))

    assert found == [
        "imports what is not here: jax, no_such_package",
        "submission.py imports jax: only PyTorch runs here",
        f"asks model_fn for evaluation mode, which is refused: {place('EVAL')}",
        f"calls eval_model, which is refused: {place('eval_model')}",
        f"computes with logits; model and loss are one graph here: {place('logits.pow')}",
        f"asks for a CUDA device; this machine has none: {place('cuda')}",
        "no file reads these hyperparameters: unread",
        f"tuning_search_space.json lacks hyperparameters that are read: absent ({place('.absent')})",
    ]
    assert not any("CUDA" in doubt for doubt in doubts(read_folder(tmp_path), has_gpu=True))


def test_files_that_are_no_python_and_more_of_algoperf_than_there_is_are_named(tmp_path: Path) -> None:
    used, unused = tmp_path / "parts.py", tmp_path / "notes.py"
    used.write_text("x = 1\nfrom a/b import c\n")
    unused.write_text("also not (")
    imports = "from somewhere.mine.parts import x\nfrom algoperf.workloads.wmt.workload import WmtWorkload\n"
    (tmp_path / "submission.py").write_text(
        imports + CODE.replace("import jax.numpy as jnp\nimport no_such_package", "")
    )

    found = list(doubts(read_folder(tmp_path), has_gpu=True))

    assert found[:2] == [
        "parts.py is no Python: line 2: invalid syntax",
        "imports more of AlgoPerf than spec and pytorch_utils, which is all there is: algoperf.workloads.wmt.workload",
    ]


def test_schedules_of_optax_are_no_step_of_jax(tmp_path: Path) -> None:
    (tmp_path / "submission.py").write_text(CODE.replace("import jax.numpy as jnp", "import optax"))

    found = list(doubts(read_folder(tmp_path), has_gpu=True))

    assert "submission.py imports optax: its schedules run, no step of it does" in found


def test_a_file_that_reduces_gradients_itself_is_told_that_a_check_has_one_rank(tmp_path: Path) -> None:
    collectives = "def step(p):\n  dist.reduce_scatter(p, [p], op=dist.ReduceOp.AVG)\n  dist.all_gather([p], p)\n"
    (tmp_path / "submission.py").write_text(collectives + CODE)

    found = list(doubts(read_folder(tmp_path), has_gpu=True))

    assert "exchanges tensors itself, and a check has one rank only: submission.py:2, submission.py:3" in found


@pytest.mark.parametrize("taken", ["USE_DDP, RANK, DEVICE, NUM = pytorch_setup()", "NUM = pytorch_setup()[3]"])
def test_batch_sizes_by_the_number_of_ranks_are_said_to_be_those_of_one(taken: str, tmp_path: Path) -> None:
    sizes = f"{taken}\nUNUSED = pytorch_setup()[0]\ndef get_batch_size(workload_name): return NUM * 16\n"
    (tmp_path / "submission.py").write_text(CODE.replace("def get_batch_size(workload_name): ...", sizes))
    line = (
        (tmp_path / "submission.py")
        .read_text()
        .splitlines()
        .index("def get_batch_size(workload_name): return NUM * 16")
    )

    found = list(doubts(read_folder(tmp_path), has_gpu=True))

    assert (
        f"takes batch sizes by the number of ranks; they are those of one rank here: submission.py:{line + 1}" in found
    )


def test_a_communication_hook_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "submission.py").write_text(CODE + "def hooked(model): model.register_comm_hook(None, print)\n")

    found = list(doubts(read_folder(tmp_path), has_gpu=True))

    assert f"registers a communication hook, which is refused: submission.py:{CODE.count(chr(10)) + 1}" in found


@pytest.mark.parametrize("name", ["nadamw", "adamg_like", "schedule_free", "lawa_like", "four_spellings", "lion_like"])
def test_nothing_is_said_of_a_folder_that_works(name: str, tmp_path: Path) -> None:
    assert [
        doubt for doubt in doubts(read_folder(copied(name, tmp_path)), has_gpu=False) if "unread" not in doubt
    ] == []


def test_the_check_begins_with_it_and_judges_neither_memory_nor_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfbench.algoperf.facts.batch_sizes_of", lambda path, workloads: SIZES)
    monkeypatch.setattr("perfbench.api.contracts.conduct.TINY_PROBLEMS", (TinyText(),))
    console = Console(record=True, width=200)
    folder = copied("nadamw", tmp_path)

    findings = check._submission_findings(str(folder), [], console, "its memory")

    text = console.export_text()
    order = [text.index(part) for part in ("has AlgoPerf's interface", "generation", "batch sizes", "checking point 1")]
    assert order == sorted(order)
    assert len(findings) == 2
    assert all(finding.passed and "were seen" in finding.detail for finding in findings)


def test_the_code_may_name_workloads_where_their_batch_sizes_are(tmp_path: Path) -> None:
    folder = copied("nadamw", tmp_path)
    names = ["criteo", "mnist"]

    [judged] = check_source(folder, workload_names=names)
    [exempt] = check_source(folder, workload_names=names, exempt_functions=frozenset({"get_batch_size"}))

    assert not judged.passed
    assert re.search(r"names '(criteo|mnist)'", judged.detail)
    assert exempt.passed
