"""The folder is the registration: names become code by walking folders, with no list and no decorator."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from pydantic import JsonValue

from perfbench.data.preparation import Preparer, data_folder
from perfbench.errors import ConfigError, PerfbenchError, SubmissionError, WorkloadError, nearest_name_hint
from perfbench.places import CARRIED, home, own_submissions
from perfbench.results.folders import digests_of_files
from perfbench.spec.base import Spec
from perfbench.spec.code import CodeFiles
from perfbench.spec.submission import HyperparameterPoint, SubmissionSpec
from perfbench.spec.workload import WorkloadSpec

if TYPE_CHECKING:
    from perfbench.api.submission import Submission, TrainingContext
    from perfbench.api.workload import Workload

_NO_PART_OF_A_TRIAL = frozenset(
    {CARRIED, "cli", "compose.py", "config_files.py", "interface", "py.typed", "scoring", "tracking", "tuning"}
    | {"workloads"}
)
"""What of this package asks for trials, shows or scores them; what it asks for is compared by value."""

_METHODS = (
    "data_selection", "update_params", "prepare_for_eval", "resume_training", "state_dict", "load_state_dict",
)  # fmt: skip
"""What the contract asks of a submission."""


def repository_root() -> Path:
    """Return the checkout that this package runs from, or what an installed copy carries of one: ``places.home``."""
    return home()


def workload_families() -> list[str]:
    """Return the names of all workload families on disk."""
    return _folders_with(Path(__file__).parent / "workloads", "workload.py")


def submission_names() -> list[str]:
    """Return the names of all submissions on disk, the person's own among them."""
    return sorted({*_folders_with(repository_root() / "submissions", "submission.py"), *own_submissions()})


def workload_folder(family: str) -> Path:
    """Return where a family's code is."""
    return Path(__file__).parent / "workloads" / family


def submission_folder(spec: SubmissionSpec) -> Path:
    """Return where a submission's code is."""
    return Path(spec.folder) if spec.folder else repository_root() / "submissions" / spec.name


def code_files(workload: WorkloadSpec, submission: SubmissionSpec) -> CodeFiles:
    """Return the digests of all files that a trial of these two runs; imports nothing of them.

    Raises:
        SubmissionError: If a file cannot be read, or there is no such folder.
    """
    package = Path(__file__).parent
    try:
        return CodeFiles(
            submission=digests_of_files(submission_folder(submission)),
            workload=digests_of_files(workload_folder(workload.family)),
            package=digests_of_files(package, left_out=_NO_PART_OF_A_TRIAL),
        )
    except OSError as problem:
        raise SubmissionError(
            f"cannot be read: {problem.strerror}",
            where=str(problem.filename),
            hint="all files of a submission's folder are on record",
        ) from None


def params_of(workload: WorkloadSpec) -> Spec:
    """Return the workload's parameters as its family's own type.

    Raises:
        ConfigError: If the family does not exist or the parameters are not what it needs.
    """
    module = _family_module(workload.family, "params")
    params_type = cast("type[Spec]", module.Params)
    return params_type.from_mapping(workload.params, where="workload.params")


def held_out_patterns(family: str) -> tuple[str, ...]:
    """Return patterns of the names of a family's prepared files that hold evaluation examples; imports no torch.

    Raises:
        ConfigError: If the family does not exist.
    """
    return cast("tuple[str, ...]", _family_module(family, "params").HELD_OUT_FILES)


def preparer_of(family: str) -> Preparer:
    """Return the functions that prepare and verify a family's data; imports no torch.

    Raises:
        ConfigError: If the family does not exist.
    """
    return cast("Preparer", _family_module(family, "prepare"))


def build_workload(workload: WorkloadSpec, data_root: Path) -> Workload:
    """Build a workload on its prepared data.

    Raises:
        ConfigError: If the family does not exist or its parameters are wrong.
        DataError: If the data is not prepared.
    """
    params_of(workload)
    module = _family_module(workload.family, "workload")
    build = cast("Callable[[WorkloadSpec, Path], Workload]", module.build)
    return build(workload, data_folder(data_root, workload))


def submission_builder(
    spec: SubmissionSpec, point: HyperparameterPoint | None
) -> Callable[[TrainingContext], Submission]:
    """Return what builds the submission from its context, with all else that it is given already checked.

    Its module's ``build`` gets the context, the ``Hyperparameters`` of the point if there is one, and by keyword
    ``options`` if the module has an ``Options`` type and ``files`` (name to path) if the YAML declares any.

    Raises:
        SubmissionError: If the code is missing, refuses the hyperparameters or the options, or needs a file that is
            not there.
    """
    if spec.form == "algoperf":
        return _adapted(spec, point)
    module = _submission_module(spec)
    build = cast("Callable[..., Submission]", module.build)
    given: list[Spec] = []
    named: dict[str, object] = {}
    if point is not None:
        given.append(_read(spec, "Hyperparameters", point, where="hyperparameters"))
    if spec.options or hasattr(module, "Options"):
        named["options"] = _read(spec, "Options", spec.options, where="options")
    if spec.files:
        check_unshipped_files(spec)
        named["files"] = {name: Path(str(file.path)).expanduser() for name, file in spec.files.items()}
    return lambda context: _checked(build(context, *given, **named), spec)


def _adapted(spec: SubmissionSpec, point: HyperparameterPoint | None) -> Callable[[TrainingContext], Submission]:
    """Return what builds a submission that has AlgoPerf's interface."""
    from perfbench.algoperf.adapter import builder

    folder = submission_folder(spec)
    known = spec.hyperparameter_names()
    if unknown := [name for name in point or {} if name not in known]:
        raise SubmissionError(
            f"no hyperparameter {unknown[0]!r} in its search space",
            where=f"submission {spec.name}",
            hint=nearest_name_hint(unknown[0], known, kind="hyperparameters"),
        )
    with _told_as_the_submission_s(spec, folder):
        return builder(folder, point, spec.options)


def check_unshipped_files(spec: SubmissionSpec) -> None:
    """Check that the files a submission needs beside this repository are given and are the right ones; needs no torch.

    Raises:
        SubmissionError: If one is not.
    """
    for name, file in spec.files.items():
        where = f"submission {spec.name}, files.{name}.path"
        hint = f"get it from {file.source}, then add submission.files.{name}.path=/where/it/is"
        if file.path is None:
            raise SubmissionError("needs a file that this repository does not hold", where=where, hint=hint)
        path = Path(file.path).expanduser()
        if not path.is_file():
            raise SubmissionError(f"no file {path}", where=where, hint=hint)
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
        if actual != file.sha256:
            raise SubmissionError(f"{path} is another file: its SHA-256 is {actual}", where=where, hint=hint)


def with_stand_ins(spec: SubmissionSpec, folder: Path) -> SubmissionSpec:
    """Return the spec with files that are not given made up by the submission itself, written into a folder.

    For checks of its code: its module's ``STAND_INS`` has, by the file's name, what writes one of the same form.
    """
    if not spec.files:
        return spec
    writers = cast("Mapping[str, Callable[[Path], None]]", getattr(_submission_module(spec), "STAND_INS", {}))
    files = dict(spec.files)
    for name, file in spec.files.items():
        if file.path is None and name in writers:
            path = folder / f"{spec.name}.{name}"
            writers[name](path)
            made_up = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            files[name] = file.model_copy(update=made_up)
    return spec.model_copy(update={"files": files})


def _read(spec: SubmissionSpec, type_name: str, mapping: Mapping[str, JsonValue], *, where: str) -> Spec:
    """Read what a submission is given as the type that its module has for it."""
    reader = getattr(_submission_module(spec), type_name, None)
    if reader is None:
        raise SubmissionError(
            f"takes no {where}, but {sorted(mapping)} are given",
            where=f"submission {spec.name}",
            hint=f"its submission.py has no type {type_name}",
        )
    try:
        return cast("type[Spec]", reader).from_mapping(mapping, where=where)
    except ConfigError as problem:
        raise SubmissionError(
            problem.what, where=f"submission {spec.name}, {problem.where}", hint=problem.hint
        ) from None


def hyperparameters_type(spec: SubmissionSpec) -> type[Spec]:
    """Return the type that reads a submission's points.

    Raises:
        SubmissionError: If the code is missing.
    """
    return cast("type[Spec]", _submission_module(spec).Hyperparameters)


def _folders_with(parent: Path, file_name: str) -> list[str]:
    return sorted(path.parent.name for path in parent.glob(f"*/{file_name}"))


def _family_module(family: str, module: str) -> ModuleType:
    families = workload_families()
    if family not in families:
        raise ConfigError(
            f"no workload family {family!r}",
            where="workload.family",
            hint=nearest_name_hint(family, families, kind="families"),
        )
    try:
        return importlib.import_module(f"perfbench.workloads.{family}.{module}")
    except ModuleNotFoundError as problem:
        if problem.name and problem.name.startswith("perfbench.workloads"):
            raise WorkloadError(f"the family has no module {module}.py", where=str(workload_folder(family))) from None
        raise WorkloadError(
            f"needs the package {problem.name!r}, which is not installed",
            where=f"workload family {family}",
            hint="pip install 'perfbench[all]', or run `make setup`",
        ) from None


def _module_name(spec: SubmissionSpec) -> str:
    return f"submissions.{spec.name}.submission" if spec.folder is None else f"{Path(spec.folder).name}.submission"


def _submission_module(spec: SubmissionSpec) -> ModuleType:
    folder = submission_folder(spec)
    if not (folder / "submission.py").exists():
        raise SubmissionError(
            "no submission.py",
            where=str(folder),
            hint=nearest_name_hint(spec.name, submission_names(), kind="submissions"),
        )
    # Submissions are a package beside src/, not part of the installation; one that is elsewhere may build on them.
    for parent in (str(folder.parent.parent if spec.folder is None else folder.parent), str(repository_root())):
        if parent not in sys.path:
            sys.path.append(parent)
    name = _module_name(spec)
    with _told_as_the_submission_s(spec, folder):
        module = importlib.import_module(name)
    _refuse_namesake(folder, module)
    if not callable(getattr(module, "build", None)):
        raise SubmissionError(
            "has no function build", where=str(folder / "submission.py"), hint="def build(context, hyperparameters)"
        )
    return module


@contextmanager
def _told_as_the_submission_s(spec: SubmissionSpec, folder: Path) -> Iterator[None]:
    """Say of what goes wrong in importing a submission that it did, and at which of its lines."""
    try:
        yield
    except PerfbenchError:
        raise
    except ModuleNotFoundError as problem:
        name = _module_name(spec)
        found = sys.modules.get(name.partition(".")[0])
        if found is not None and f"{name}.".startswith(f"{problem.name}."):  # the package, but somewhere else
            _refuse_namesake(folder.parent if spec.folder is None else folder, found)
            raise
        raise SubmissionError(
            f"needs the package {str(problem.name).partition('.')[0]!r}, which is not installed",
            where=f"submission {spec.name}",
            hint="pip install what its README names",
        ) from None
    except SyntaxError as problem:
        raise SubmissionError(
            f"Python cannot read it: {problem.msg}", where=f"{problem.filename}:{problem.lineno}"
        ) from None
    except Exception as problem:
        raise SubmissionError(
            f"importing it raised {type(problem).__name__}: {problem}", where=_place(problem, folder)
        ) from problem


def _place(problem: BaseException, folder: Path) -> str:
    """Return file and line of the innermost line of a submission that raised; its file where none is seen."""
    frames = [
        frame
        for frame in traceback.extract_tb(problem.__traceback__)
        if Path(frame.filename).resolve().is_relative_to(folder.resolve())
    ]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(folder / "submission.py")


def _checked(submission: Submission, spec: SubmissionSpec) -> Submission:
    """Return what ``build`` returned if it is a submission."""
    missing = [name for name in _METHODS if not callable(getattr(submission, name, None))]
    if not missing:
        return submission
    build = sys.modules[_module_name(spec)].build
    line = getattr(getattr(build, "__code__", None), "co_firstlineno", 1)
    raise SubmissionError(
        f"build returned {type(submission).__name__}, which is no submission: it has no {', '.join(missing)}",
        where=f"{submission_folder(spec) / 'submission.py'}:{line}",
        hint="return a GradientSubmission, or an object with these methods",
    )


def _refuse_namesake(folder: Path, module: ModuleType) -> None:
    """Refuse a folder if Python found the module of its name somewhere else: that is other code."""
    found = None if module.__file__ is None else Path(module.__file__).resolve().parent
    if found is not None and found != folder.resolve():
        raise SubmissionError(
            f"Python knows {module.__name__!r} from another folder already: {found}",
            where=str(folder),
            hint="give the folder another name",
        )
