"""An author's mistake is told as the author's, with file and line, before anything is left on disk."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from perfbench.api.contracts.finding import Finding
from perfbench.cli.check import causes, hint_for
from perfbench.cli.main import main
from perfbench.compose import compose_run
from perfbench.config_files import choices
from perfbench.errors import SubmissionError
from perfbench.launch.plan import plan_trial
from perfbench.registry import repository_root, submission_builder
from perfbench.spec.submission import RangeSpace
from tests.integration import small_criteo


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    name = f"{tmp_path.name}_idea"  # in one process, a name is one folder's
    assert main(["new-submission", name, "--folder", str(tmp_path)]) == 0
    return tmp_path / name


def edited(idea: Path, file: str, old: str, new: str) -> None:
    text = (idea / file).read_text()
    assert old in text
    (idea / file).write_text(text.replace(old, new))


def refused(capsys: pytest.CaptureFixture[str], data_root: Path, idea: Path, verb: str = "run") -> str:
    runs = idea.parent / "runs"
    capsys.readouterr()
    roots = [f"submission={idea}", f"data_root={data_root}", f"runs_root={runs}"]
    assert main([verb, *small_criteo.OVERRIDES, *roots]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert not runs.exists()
    return error


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def build(", "def build((", r"submission.py:\d+: Python cannot read it: "),
        (
            "import torch\n",
            "import torch\n1 / 0\n",
            r"submission.py:6: importing it raised ZeroDivisionError: division",
        ),
        ("import torch\n", "import torch\nimport no_such\n", r"needs the package 'no_such', which is not installed"),
        ("def build(", "def make(", r"submission.py: has no function build\n  hint: def build\(context, hyperparam"),
        ("    weight_decay: float", "    weight_dekay: float", r"hyperparameters.weight_decay: unknown field"),
    ],
)
def test_code_that_cannot_begin_is_told_with_its_line(idea: Path, old: str, new: str, message: str) -> None:
    edited(idea, "submission.py", old, new)
    trial = plan_trial(compose_run([f"submission={idea}"]))

    with pytest.raises(SubmissionError, match=message):
        submission_builder(trial.submission, trial.hyperparameters)


def test_it_is_told_before_a_folder_is_made(capsys: pytest.CaptureFixture[str], data_root: Path, idea: Path) -> None:
    edited(idea, "submission.py", "def build(", "def build((")

    assert re.search(r"submission.py:\d+: Python cannot read it: ", refused(capsys, data_root, idea))


def test_a_submission_that_ends_the_process_ends_only_its_own(
    capsys: pytest.CaptureFixture[str], data_root: Path, idea: Path
) -> None:
    edited(idea, "submission.py", "import torch\n", "import os\nos._exit(7)\n")

    assert "the process that reads it ended with exit code 7" in refused(capsys, data_root, idea)


def test_a_file_that_is_no_yaml_is_told_with_its_line(
    capsys: pytest.CaptureFixture[str], data_root: Path, idea: Path
) -> None:
    edited(idea, "submission.yaml", "version: 1", "version: [1")

    assert re.search(rf"{idea}/submission.yaml, line \d+: not YAML: ", refused(capsys, data_root, idea))


def test_a_field_is_told_with_its_line_and_a_range_by_its_name(
    capsys: pytest.CaptureFixture[str], data_root: Path, idea: Path
) -> None:
    edited(idea, "submission.yaml", "version: 1", "version: one")
    edited(idea, "submission.yaml", "min: 5.0e-4, max: 5.0e-3", "min: 5.0e-3, max: 5.0e-4")
    lines = (idea / "submission.yaml").read_text().splitlines()
    version, rate = (
        next(number for number, line in enumerate(lines, start=1) if text in line)
        for text in ("version", "learning_rate")
    )

    error = refused(capsys, data_root, idea)

    assert f"  - submission.version ({idea}/submission.yaml:{version}): input should be a valid integer" in error
    where = f"submission.search_space.dimensions.learning_rate ({idea}/submission.yaml:{rate})"
    assert f"  - {where}: min must not exceed max" in error


def test_a_wrong_return_type_of_build_is_the_submission_s(capsys: pytest.CaptureFixture[str], idea: Path) -> None:
    edited(idea, "submission.py", "    return GradientSubmission(", "    return str(")
    edited(idea, "submission.py", "        context,\n        [optimizer],\n", "")
    text = re.sub(r"return str\(.*?\n    \)", "return 'nothing'", (idea / "submission.py").read_text(), flags=re.DOTALL)
    (idea / "submission.py").write_text(text)

    assert main(["check", "submission", str(idea)]) == 1

    out = capsys.readouterr().out
    assert "1. raised SubmissionError: " in out
    assert re.search(r"submission.py:\d+: build returned str, which is no submission: it has no data_selection", out)
    assert "2. " not in out  # one cause, however many checks it fails


def test_failures_of_one_cause_are_one_and_say_what_to_do(capsys: pytest.CaptureFixture[str], idea: Path) -> None:
    text = (idea / "submission.py").read_text()
    mistake = (
        "class Forgetful(GradientSubmission):\n"
        "    def load_state_dict(self, state):\n"
        "        raise KeyError('momentum')\n\n\n"
    )
    text = text.replace("def build(", f"{mistake}def build(").replace("return GradientSubmission(", "return Forgetful(")
    (idea / "submission.py").write_text(text)
    line = next(n for n, content in enumerate(text.splitlines(), start=1) if "KeyError" in content)

    assert main(["check", "submission", str(idea), "--only", "resumes"]) == 1

    out = capsys.readouterr().out
    assert f"1. raised KeyError: 'momentum' (submission.py:{line})" in out
    assert re.search(r"and \d\d more checks, for the same reason", out)
    assert re.search(r"0 of \d\d checks passed", out)
    assert "checking point 1: regression ..." in out
    assert "reduces the loss" not in out


def test_a_check_takes_one_thread_of_however_many_there_are(idea: Path) -> None:
    """Its models are small: threads would wait for one another, on a full machine for minutes."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert main(["check", "submission", str(idea), "--only", "names no workload"]) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(num_threads)


def test_a_name_that_no_check_has_lists_the_names(capsys: pytest.CaptureFixture[str], idea: Path) -> None:
    assert main(["check", "submission", str(idea), "--only", "nonsense"]) == 2

    assert "a warm-up leaves no trace" in capsys.readouterr().err


def test_details_that_differ_in_numbers_are_one_cause() -> None:
    failed = [
        Finding(
            name=f"point 1: clicks: a checkpoint of step {n} resumes bit for bit",
            passed=False,
            detail=f"differing after step {n}: x",
        )
        for n in (1, 5)
    ]

    [(cause, names)] = causes(failed)

    assert cause == "differing after step 1: x"
    assert len(names) == 2
    assert "state_dict" in hint_for(names[0])


def test_a_submission_of_the_repository_can_be_named_by_its_folder() -> None:
    for name in choices("submission")[:2]:
        request = compose_run([f"submission={repository_root()}/submissions/{name}"])

        assert (request.submission.name, request.submission.folder) == (name, None)


def test_the_template_has_a_space_that_can_be_read(idea: Path) -> None:
    assert isinstance(compose_run([f"submission={idea}"]).submission.search_space, RangeSpace)
