"""Recognising a folder of AlgoPerf's form: by its text, without importing it; its tuning file; its batch sizes."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perfbench.algoperf.batch_sizes import answered
from perfbench.algoperf.facts import batch_sizes_of, facts_of, their_names
from perfbench.algoperf.folder import is_theirs, read_folder
from perfbench.algoperf.loading import load, root_name
from perfbench.algoperf.tuning import read_search_space
from perfbench.compose import compose_run, compose_submission
from perfbench.errors import ConfigError
from perfbench.spec.run import RunSpec
from tests.algoperf_forms import NAMES, copied

FOUR = "\n".join(
    f"def {name}(*args, **kwargs): ..."
    for name in ("get_batch_size", "init_optimizer_state", "update_params", "data_selection")
)


def written(tmp_path: Path, code: str, name: str = "mine") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "submission.py").write_text(code)
    return folder


@pytest.mark.parametrize(
    ("name", "is_external", "passes_dropout", "prepares", "takes_train_state"),
    [
        ("nadamw", True, False, False, False),
        ("schedule_free", True, False, False, False),
        ("lawa_like", True, False, False, False),
        ("adamg_like", False, False, False, False),
        ("four_spellings", True, False, True, True),
        ("lion_like", False, False, True, True),
        ("two_passes", True, True, False, False),
    ],
)
def test_what_a_folder_s_text_says(
    name: str, is_external: bool, passes_dropout: bool, prepares: bool, takes_train_state: bool, tmp_path: Path
) -> None:
    folder = read_folder(copied(name, tmp_path))

    assert (folder.tuning_file is not None, folder.passes_dropout) == (is_external, passes_dropout)
    assert (folder.defines_prepare_for_eval, folder.takes_train_state) == (prepares, takes_train_state)
    assert folder.imports.missing == ()
    assert folder.generation.split(" ")[0] == ("newest" if passes_dropout else "v0.6" if prepares else "v0.5")


def test_a_folder_is_recognised_without_being_imported(tmp_path: Path) -> None:
    folder = written(tmp_path, f"{FOUR}\nraise SystemExit('imported')")
    other = written(tmp_path, "def build(context): ...", "native")

    assert is_theirs(folder)
    assert not is_theirs(other)
    assert not is_theirs(tmp_path / "nowhere")


def test_functions_that_are_imported_count(tmp_path: Path) -> None:
    folder = written(tmp_path, "from parts import get_batch_size, data_selection, update_params, init_optimizer_state")
    (folder / "parts.py").write_text(FOUR)

    assert read_folder(folder).imports.used == (folder / "submission.py", folder / "parts.py")


def test_of_two_files_the_one_without_jax_is_meant_and_else_a_choice_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "baselines"
    folder.mkdir()
    (folder / "jax_one.py").write_text(f"import jax\n{FOUR}")
    (folder / "pytorch_one.py").write_text(f"import torch\n{FOUR}")

    assert read_folder(folder).entry.name == "pytorch_one.py"

    (folder / "pytorch_two.py").write_text(FOUR)
    with pytest.raises(ConfigError, match=r"which file is the submission\? jax_one.py, pytorch_one.py, pytorch_two.py"):
        read_folder(folder)


def test_own_files_packages_and_what_is_missing_are_told_apart(tmp_path: Path) -> None:
    code = (
        "import numpy, torch.distributed.nn, optax, scipy.special\nfrom absl import logging\n"
        "from torchvision import transforms\nfrom optax import adam\nfrom algoperf import jax_sharding_utils\n"
        "from a.b.c import transforms as own\nimport json\n"
    )
    folder = written(tmp_path, code + FOUR)
    for name in ("transforms", "adam", "json"):
        (folder / f"{name}.py").write_text("")

    imports = read_folder(folder).imports

    assert imports.spelled == {"a.b.c.transforms": folder / "transforms.py"}
    assert set(imports.packages) >= {"absl", "scipy.special", "torchvision"}
    assert imports.missing == ("optax",)


def test_one_file_is_one_module_and_another_folder_takes_its_names_back(tmp_path: Path) -> None:
    own = importlib.import_module("submissions")
    first = read_folder(copied("four_spellings", tmp_path))
    module = load(first)
    names = [
        "phases",
        "optimizers.momentum",
        "parts.buffers",
        "submissions.external_tuning.four_spellings.optimizers.parts.buffers",
    ]

    assert all(name in sys.modules for name in names)
    assert sys.modules["parts.buffers"] is sys.modules[names[-1]]
    assert module.__name__ == f"{root_name(first.path)}.submission"
    assert sys.modules.get("submissions") is own

    load(read_folder(copied("nadamw", tmp_path)))

    assert not any(name in sys.modules for name in names)


def test_both_packages_have_the_same_modules(tmp_path: Path) -> None:
    load(read_folder(copied("nadamw", tmp_path)))

    from algoperf import pytorch_utils, spec  # type: ignore[import-not-found]
    from algorithmic_efficiency import spec as same  # type: ignore[import-not-found]

    assert spec is same
    assert spec.ForwardPassMode.TRAIN.value == 0
    assert [member.name for member in spec.LossType][3] == "CTC_LOSS"
    assert pytorch_utils.pytorch_setup()[0] is False


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK"])
def test_one_rank_is_no_group_whatever_the_environment_says(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "0")
    monkeypatch.setenv("WORLD_SIZE", "1")

    assert load(read_folder(copied("lion_like", tmp_path))).pytorch_setup()[0] is False


def test_a_tuning_file_becomes_points_or_dimensions(tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text(json.dumps([{"a": 1, "b": "x", "c": True}, {"a": 0.5, "b": "y", "c": False}]))
    assert read_search_space(file) == {"kind": "points", "points": json.loads(file.read_text())}

    dimensions = {"a": {"min": 1, "max": 2, "scaling": "linear"}, "b": {"feasible_points": ["x", 3]}}
    file.write_text(json.dumps(dimensions | {"c": {"min": 0.1, "max": 1.0, "scaling": "log"}}))
    assert read_search_space(file)["dimensions"] == {
        "a": {"kind": "range", "min": 1.0, "max": 2.0, "scaling": "linear"},
        "b": {"kind": "feasible_points", "values": ["x", 3]},
        "c": {"kind": "range", "min": 0.1, "max": 1.0, "scaling": "log"},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "space.json: cannot be read"),
        ("[]", "space.json: neither a list of points nor an object of dimensions"),
        ('{"a": 3}', "space.json: a: a dimension has min, max and scaling, or feasible_points"),
    ],
)
def test_a_tuning_file_that_is_none_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "space.json"
    file.write_text(text)

    with pytest.raises(ConfigError) as refused:
        read_search_space(file)

    assert expected in str(refused.value)


def answer(tmp_path: Path, code: str) -> dict[str, Any]:
    body = FOUR.replace("def get_batch_size(*args, **kwargs): ...", code)
    return answered(written(tmp_path, body, f"sizes_{abs(hash(code))}"), {"criteo_x": ("criteo1tb_x", "criteo1tb")})


def test_batch_sizes_fall_back_to_the_family_and_then_to_none(tmp_path: Path) -> None:
    knows = "def get_batch_size(name): return {'criteo1tb': 8, 'criteo1tb_x': 4}[name]"
    base_only = "def get_batch_size(name):\n  if name == 'criteo1tb': return 8\n  raise ValueError(name)"
    nothing = "def get_batch_size(name): raise ValueError(name)"
    other_table = "def get_batch_size(name): return {'mnist': 1024}[name]"
    no_end = "def get_batch_size(name):\n  if name == 'mnist': return 1024"

    assert answer(tmp_path, knows) == {"sizes": {"criteo_x": 4}}
    assert answer(tmp_path, base_only) == {"sizes": {"criteo_x": 8}}
    assert answer(tmp_path, nothing) == {"sizes": {}}
    assert answer(tmp_path, other_table) == {"sizes": {}}
    assert answer(tmp_path, no_end) == {"sizes": {}}


def test_what_goes_wrong_in_asking_is_told_with_its_line(tmp_path: Path) -> None:
    raises = answer(tmp_path, "def get_batch_size(name):\n  return undefined")
    lacks = answer(tmp_path, "import no_such_package\ndef get_batch_size(name): ...")

    assert raises["what"] == "asking for its batch sizes raised NameError: name 'undefined' is not defined"
    assert raises["where"].endswith("submission.py:2")
    assert lacks["what"] == "needs the package 'no_such_package', which is not installed"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (
            "from algoperf.workloads.wmt.workload import WmtWorkload",
            "imports algoperf.workloads: of that package there are spec and pytorch_utils here",
        ),
        (
            "from algorithmic_efficiency import random_utils",
            "imports algorithmic_efficiency.random_utils: of that package there are spec and pytorch_utils here",
        ),
        ("from math import no_such_function", "importing it raised ImportError: cannot import name 'no_such_function'"),
        ("raise ValueError('no devices')", "importing it raised ValueError: no devices"),
    ],
)
def test_an_import_that_fails_is_no_question_of_batch_sizes(line: str, what: str, tmp_path: Path) -> None:
    found = answer(tmp_path, f"{line}\ndef get_batch_size(name): ...")

    assert found["what"].startswith(what)
    assert found["where"].endswith("submission.py:1")


def test_batch_sizes_are_asked_in_a_process_of_its_own(tmp_path: Path) -> None:
    folder = copied("nadamw", tmp_path)
    loaded = set(sys.modules)

    sizes = batch_sizes_of(folder, {"mnist": ("mnist", "mnist"), "wmt": ("wmt", "wmt")})

    assert sizes == {"mnist": 16}
    assert not any(root_name(folder) in name for name in set(sys.modules) - loaded)


def test_their_names_come_from_the_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("exported_names: {here: there}\n")

    names = their_names(["here", "here_small", "other"], ["here", "other"], benchmarks=tmp_path)

    assert names == {"here": ("there", "there"), "here_small": ("there_small", "there"), "other": ("other", "other")}


def test_a_name_that_is_taken_gets_a_suffix_and_the_form_is_on_record(tmp_path: Path) -> None:
    folder = copied("nadamw", tmp_path)

    free = facts_of(folder, taken_names=["lion"], workloads={})
    taken = facts_of(folder, taken_names=["nadamw"], workloads={})

    assert (free["name"], taken["name"]) == ("nadamw", "nadamw_algoperf")
    assert free["form"] == "algoperf"
    assert free["options"] == {"dropout": "as_run"}


def test_the_command_line_s_composition_takes_such_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfbench.algoperf.facts.batch_sizes_of", lambda path, workloads: {"mnist": 16})
    external = compose_run(["workload=mnist", f"submission={copied('nadamw', tmp_path)}"])
    self_tuning = compose_run([f"submission={copied('lion_like', tmp_path)}", "submission.options.dropout=file_only"])

    assert (external.submission.form, external.ruleset.kind) == ("algoperf", "external")
    assert external.submission.batch_size_for(external.workload) == external.workload.reference_batch_size
    assert self_tuning.ruleset.kind == "self_tuning"
    assert self_tuning.submission.options == {"dropout": "file_only"}
    assert RunSpec.from_json(external.to_json()) == external


def test_our_own_form_is_not_written_down_so_that_identities_on_record_stay() -> None:
    assert '"form":' not in compose_submission("lion").to_json()


def test_a_folder_of_neither_form_is_told_what_both_need(tmp_path: Path) -> None:
    written(tmp_path, "")

    with pytest.raises(ConfigError) as refused:
        compose_run([f"submission={tmp_path / 'mine'}"])

    assert "a submission's folder holds submission.py and submission.yaml" in str(refused.value)
    assert "AlgoPerf's run as they are: submission.py binds get_batch_size, init_optimizer_state" in str(refused.value)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"{FOUR}\nfrom a/b import c", "submission.py: is no Python: line 5: invalid syntax"),
        (
            FOUR.replace("data_selection", "other").replace("get_batch_size", "another"),
            "submission.py: looks like an AlgoPerf submission and has no get_batch_size, data_selection",
        ),
    ],
)
def test_what_is_nearly_theirs_is_told_what_it_lacks(code: str, expected: str, tmp_path: Path) -> None:
    written(tmp_path, code)

    with pytest.raises(ConfigError) as refused:
        compose_run([f"submission={tmp_path / 'mine'}"])

    assert expected in str(refused.value)


def test_so_is_the_only_file_that_begins_a_submission_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "sgd_pytorch.py").write_text(FOUR.replace("get_batch_size", "another"))
    (folder / "data_selection.py").write_text("def data_selection(*given): ...")

    with pytest.raises(ConfigError, match=r"sgd_pytorch\.py: looks like an AlgoPerf .* has no get_batch_size"):
        compose_run([f"submission={folder}"])


def test_a_submission_may_be_named_by_its_file_if_that_is_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfbench.algoperf.facts.batch_sizes_of", lambda path, workloads: {})
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = copied("lion_like", tmp_path)
    (folder / "other.py").write_text(FOUR)

    for name in (f"{folder}/submission.py", "~/lion_like/submission.py", "~/lion_like"):
        assert compose_run([f"submission={name}"]).submission.folder == str(folder)
    with pytest.raises(ConfigError, match=r"other\.py: .* this file is not what would run of it"):
        compose_run([f"submission={folder}/other.py"])


def test_every_form_for_the_tests_is_recognised(tmp_path: Path) -> None:
    assert all(is_theirs(copied(name, tmp_path)) for name in NAMES)
