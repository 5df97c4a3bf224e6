"""What a submission is given when it is built, and how what it cannot use is refused; the ruleset it is run under."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, cast

import pytest

from perfbench.api import TrainingContext
from perfbench.compose import compose_run
from perfbench.engine.trainer.process import require_installed
from perfbench.errors import SubmissionError
from perfbench.registry import check_unshipped_files, submission_builder
from perfbench.spec.submission import SubmissionSpec

BUILT = """
class Built:
    def __init__(self, *given):
        self.given = given

    def nothing(self):
        pass

    data_selection = update_params = prepare_for_eval = resume_training = state_dict = load_state_dict = nothing
"""
"""Code of what passes for a submission, and shows what it was built from."""

CODE = f"""
{BUILT}
from typing import Literal
from perfbench.spec.base import Spec

class Hyperparameters(Spec):
    learning_rate: float

class Options(Spec):
    horizon: Literal["as_run", "as_intended"] = "as_run"

def build(context, hyperparameters=None, *, options, files=None):
    return Built(context, hyperparameters, options, files)
"""


def spec_of(tmp_path: Path, name: str, code: str = CODE, **fields: Any) -> SubmissionSpec:
    folder = tmp_path / f"outside_{name}"
    folder.mkdir()
    (folder / "submission.py").write_text(code)
    facts = {"name": name, "version": 1, "description": "", "rulesets": ["self_tuning"], "folder": str(folder)}
    return SubmissionSpec.from_mapping({**facts, **fields})


def built(spec: SubmissionSpec, point: dict[str, Any] | None = None) -> Any:
    return cast("Any", submission_builder(spec, point)(cast("TrainingContext", "context"))).given


def test_options_are_read_by_the_submissions_own_type_and_have_its_defaults(tmp_path: Path) -> None:
    context, point, options, files = built(spec_of(tmp_path, "a"))
    assert (context, point, options.horizon, files) == ("context", None, "as_run", None)

    _, point, options, _ = built(
        spec_of(tmp_path, "b", options={"horizon": "as_intended"}), point={"learning_rate": 0.5}
    )
    assert (point.learning_rate, options.horizon) == (0.5, "as_intended")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"horizn": "as_run"}, "options.horizn: unknown field\n  hint: 'horizn': did you mean 'horizon'?"),
        ({"horizon": "long"}, "options.horizon: input should be 'as_run' or 'as_intended', got \"long\""),
    ],
)
def test_options_that_the_submission_does_not_have_are_refused(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SubmissionError) as refused:
        submission_builder(spec_of(tmp_path, f"c{len(str(options))}", options=options), None)

    assert str(refused.value) == f"submission c{len(str(options))}, {expected}"


def test_a_submission_without_options_takes_none(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "d", "def build(context): ...", options={"horizon": "as_run"})

    with pytest.raises(SubmissionError, match=r"submission d: takes no options, but \['horizon'\] are given"):
        submission_builder(spec, None)


def test_a_file_that_cannot_be_shipped_is_asked_for_and_checked_before_anything_is_built(tmp_path: Path) -> None:
    content = b"learned"
    declared = {"sha256": hashlib.sha256(content).hexdigest(), "source": "its authors"}
    spec = spec_of(tmp_path, "e", files={"weights": declared})
    path = tmp_path / "weights.bin"
    given = spec.model_copy(update={"files": {"weights": spec.files["weights"].model_copy(update={"path": str(path)})}})
    hint = "\n  hint: get it from its authors, then add submission.files.weights.path=/where/it/is"

    with pytest.raises(SubmissionError) as missing:
        check_unshipped_files(spec)
    with pytest.raises(SubmissionError) as absent:
        submission_builder(given, None)
    path.write_bytes(b"something else")
    with pytest.raises(SubmissionError) as different:
        submission_builder(given, None)
    path.write_bytes(content)

    where = "submission e, files.weights.path"
    assert str(missing.value) == f"{where}: needs a file that this repository does not hold{hint}"
    assert str(absent.value) == f"{where}: no file {path}{hint}"
    assert str(different.value).startswith(f"{where}: {path} is another file: its SHA-256 is ")
    assert built(given)[3] == {"weights": path}


def test_folders_of_one_name_are_not_taken_for_one_another(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    built(spec_of(one, "f", f"{BUILT}\ndef build(context): return Built('one')"))
    spec = spec_of(other, "f", f"{BUILT}\ndef build(context): return Built('other')")

    with pytest.raises(SubmissionError) as refused:
        built(spec)

    assert str(refused.value) == (
        f"{other / 'outside_f'}: Python knows 'outside_f.submission' from another folder already: {one / 'outside_f'}"
        "\n  hint: give the folder another name"
    )


@pytest.mark.parametrize("code", ["import no_such_package", "from no_such_package.part import anything"])
def test_a_package_that_a_submission_needs_is_named(tmp_path: Path, code: str) -> None:
    spec = spec_of(tmp_path, f"g{len(code)}", f"{code}\ndef build(context): ...")

    with pytest.raises(SubmissionError) as refused:
        submission_builder(spec, None)

    assert str(refused.value) == (
        f"submission {spec.name}: needs the package 'no_such_package', which is not installed"
        "\n  hint: pip install what its README names"
    )


def test_a_folder_named_like_an_installed_package_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "msgpack"
    folder.mkdir()
    (folder / "submission.py").write_text("def build(context): ...")
    spec = spec_of(tmp_path, "h").model_copy(update={"folder": str(folder)})

    with pytest.raises(SubmissionError, match="Python knows 'msgpack' from another folder already: .*\n.*another name"):
        submission_builder(spec, None)


def test_a_submission_that_only_tunes_itself_brings_its_ruleset_unless_one_is_chosen() -> None:
    only_self = ["submission.search_space=null", "submission.rulesets=[self_tuning]"]

    assert compose_run(["submission=baseline"]).ruleset.kind == "external"
    assert compose_run(["ruleset=self_tuning", *only_self]).ruleset.kind == "self_tuning"


def test_only_what_is_installed_is_imported_before_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a module of the submission's own, which could train when it is imported."""
    (tmp_path / "pretraining.py").write_text("raise AssertionError")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "deep.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(str(tmp_path))

    require_installed(["torch.optim", "json", "sys", "perfbench.api.optim", "of_nobody"])
    for name in ("pretraining", "packed.deep"):
        with pytest.raises(SubmissionError, match="is not installed"):
            require_installed([name])
