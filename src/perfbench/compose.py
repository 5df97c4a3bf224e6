"""YAML and overrides to one typed request. The only module that knows Hydra; it ends here.

1. Group choices (``workload=criteo``, ``scale=mini``) are composed by Hydra from ``configs/``. A submission that does
   not take part in the default ruleset brings its own, unless one is chosen.
2. The workload's section for the chosen scale and data set is laid over what all scales share; over that, the budget
   that the ruleset grants it, if any. A submission may also be a path (``submission=/path/to/mine``): its
   ``submission.yaml`` is read instead.
3. Value overrides (``seed=3``, ``workload.params.x=1``) are set; a key that does not exist is set too, so that the
   typed reading below reports every mistake at once, with its path and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import JsonValue
from yaml import YAMLError

from perfbench.algoperf.facts import facts_of, their_names
from perfbench.algoperf.folder import FUNCTIONS, check_near_miss, folder_of, is_theirs
from perfbench.config_files import (
    OUTSIDE_FILE,
    check_choice,
    choices,
    config_file,
    config_folder,
    config_folders,
    file_of,
    groups,
    is_path,
    name_or_path,
    outside_file,
)
from perfbench.errors import ConfigError, nearest_name_hint
from perfbench.places import own_submission
from perfbench.registry import workload_families
from perfbench.spec.run import RunSpec
from perfbench.spec.submission import SubmissionSpec
from perfbench.spec.suite import Selection, Suite
from perfbench.spec.workload import ScaleName, WorkloadSpec
from perfbench.spec.yaml_files import read_closed_mapping
from perfbench.spec.yaml_places import describe, with_lines

_AXES = ("workload", "submission", "study")
"""What a sweep may take several of."""


def compose_run(overrides: Sequence[str] = ()) -> RunSpec:
    """Return the typed request for command-line overrides.

    Raises:
        ConfigError: Listing everything that is wrong, each with its dotted path.
    """
    composed = _composed(overrides)
    try:
        run = RunSpec.from_mapping(composed)
    except ConfigError as problem:
        given = [item.key_or_group for item in _parsed(overrides)]
        raise with_lines(problem, composed, given=given, root=config_folder().parent, file_of=file_of) from None
    _check_batch_sizes(run.submission, where="submission")
    return run


def compose_workload(name: str, *, scale: str, dataset: str | None = None) -> WorkloadSpec:
    """Return one workload's facts at a scale.

    Raises:
        ConfigError: If there is no such workload, scale or data set.
    """
    overrides = [f"workload={name}", f"scale={scale}"] + ([f"data={dataset}"] if dataset else [])
    return WorkloadSpec.from_mapping(_composed(overrides)["workload"], where="workload")


def compose_submission(name: str) -> SubmissionSpec:
    """Return one submission's facts.

    Raises:
        ConfigError: If there is no such submission.
    """
    return compose_run([f"submission={name}"]).submission


def compose_sweep(overrides: Sequence[str] = ()) -> list[RunSpec]:
    """Return one typed request per submission, workload and study, in this order.

    ``workload``, ``submission`` and ``study`` may be several, separated by commas; ``workload`` may name a suite, and
    ``study=all`` is every study of the ruleset. All are composed in one pass: hundreds of pairs take a second.

    Raises:
        ConfigError: Listing everything that is wrong, each with its dotted path.
    """
    parsed = _parsed(overrides)
    rest = [item for item in parsed if item.key_or_group not in _AXES]
    given = {item.key_or_group: _several(item) for item in parsed}
    workloads = _without_repeats(name for asked in given.get("workload", []) for name in _workloads_named(asked))
    submissions = _without_repeats(name_or_path(name) for name in given.get("submission", []))
    first = [f"workload={workloads[0]}"] if workloads else []
    first += [f"submission={submissions[0]}"] if submissions else []
    base = compose_run([*first, *(str(item.input_line) for item in rest)])
    studies = _studies(given.get("study", [str(base.study)]), base)
    if max(len(workloads), len(submissions)) <= 1:
        return [base.model_copy(update={"study": study}) for study in studies]
    chosen_workloads, chosen_submissions = _alternatives(
        workloads or [base.workload.name], submissions or [base.submission.name], rest, base=base
    )
    return [
        base.model_copy(update={"workload": workload, "submission": submission, "study": study})
        for submission in chosen_submissions
        for workload in chosen_workloads
        for study in studies
    ]


def values_of(key: str, text: str) -> list[JsonValue]:
    """Return what ``key=text`` gives: one value, or several that commas separate.

    Raises:
        ConfigError: If it cannot be read.
    """
    [item] = _parsed([f"{key}={text}"])
    values = list(item.sweep_iterator()) if item.is_sweep_override() else [item.value()]
    return [cast("JsonValue", value.text if isinstance(value, QuotedString) else value) for value in values]


def _several(item: Override) -> list[str]:
    if not item.is_sweep_override():
        return [str(item.value())]
    if item.key_or_group not in _AXES:
        raise ConfigError(
            "only workload, submission and study can be several",
            where=item.key_or_group,
            hint="give one value, or quote a text that has commas",
        )
    return [text.strip("'\"") for text in item.sweep_string_iterator()]


def _workloads_named(name: str) -> list[str]:
    """Return the workloads of a suite, or the one workload of that name."""
    if name in choices("workload"):
        return [name]
    suites = choices("suite")
    if name not in suites:
        known = [*choices("workload"), *suites]
        raise ConfigError(
            f"no workload or suite named {name!r}",
            where="workload",
            hint=nearest_name_hint(name, known, kind="workloads and suites"),
        )
    plain = OmegaConf.to_container(OmegaConf.load(config_file("suite", name)))
    suite = Suite.from_mapping(cast("dict[str, Any]", plain), where=f"suite {name}")
    match suite.select:
        case Selection.BASES:
            return sorted(set(choices("workload")) & set(workload_families()))
        case Selection.EVERYTHING:
            return choices("workload")
        case Selection.LISTED:
            if missing := [member for member in suite.workloads if member not in choices("workload")]:
                raise ConfigError(
                    f"the suite names workloads that are not here: {', '.join(missing)}",
                    where=f"suite {name}",
                    hint=f"name those that are: workload={','.join(set(suite.workloads) - set(missing))}",
                )
            return list(suite.workloads)


def _studies(asked: Sequence[str], base: RunSpec) -> list[int]:
    if list(asked) == ["all"]:
        return list(range(base.ruleset.num_studies))
    if wrong := [text for text in asked if not text.isdecimal()]:
        raise ConfigError(
            f"not the number of a study: {wrong[0]!r}",
            where="study",
            hint="for example study=0, study=0,1 or study=all",
        )
    return [int(text) for text in _without_repeats(asked)]


def _alternatives(
    workloads: Sequence[str], submissions: Sequence[str], rest: Sequence[Override], *, base: RunSpec
) -> tuple[list[WorkloadSpec], list[SubmissionSpec]]:
    """Compose all workloads and submissions in a single pass, each in a corner of its own."""
    for group, names in (("workload", workloads), ("submission", submissions)):
        for name in names:
            check_choice(group, name)
    outside = {name: _outside_submission(name) for name in submissions if is_path(name)}
    for name in submissions:
        if name not in outside:
            _check_own_submission(name)
    corners = [f"+workload@all_workloads.{name}={name}" for name in workloads]
    corners += [f"+submission@all_submissions.{name}={name}" for name in submissions if name not in outside]
    values = {item.key_or_group: item.value() for item in rest if "." in item.key_or_group}
    dataset = next((str(item.value()) for item in rest if item.key_or_group == "data"), None)
    try:
        config = _hydra_config(corners)
        OmegaConf.set_struct(config, value=False)
        found: dict[str, list[dict[str, Any]]] = {"workload": [], "submission": []}
        for name in workloads:
            at_scale = _at_scale(config.all_workloads[name], scale=base.scale.name.value, dataset=dataset)
            budgeted = _with_budget(at_scale, base.ruleset.model_dump(mode="json")["full_scale_budgets"])
            found["workload"].append(_with_values(budgeted, "workload.", values))
        for name in submissions:
            chosen = outside[name] if name in outside else config.all_submissions[name]
            found["submission"].append(_with_values(chosen, "submission.", values))
    except (HydraException, OmegaConfBaseException, YAMLError) as problem:
        raise _unreadable(problem) from None
    specs = [SubmissionSpec.from_mapping(plain, where=f"submission {plain['name']}") for plain in found["submission"]]
    for spec in specs:
        _check_batch_sizes(spec, where=f"submission {spec.name}")
    return [WorkloadSpec.from_mapping(plain, where=f"workload {plain['name']}") for plain in found["workload"]], specs


def _check_batch_sizes(submission: SubmissionSpec, *, where: str) -> None:
    """Refuse sizes for what is no workload: a mistyped name would train with the reference size."""
    known = {*choices("workload"), *workload_families()}
    for scale, sizes in submission.batch_sizes.items():
        for name in sizes:
            if name not in known:
                raise ConfigError(
                    f"no workload named {name!r}",
                    where=f"{where}.batch_sizes.{scale.value}.{name}",
                    hint=nearest_name_hint(name, known, kind="workloads"),
                )


def _with_values(config: DictConfig, prefix: str, values: dict[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if key.startswith(prefix):
            OmegaConf.update(config, key.removeprefix(prefix), value, force_add=True, merge=False)
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))


def _without_repeats(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    parsed = _parsed(overrides)
    if several := [item for item in parsed if item.is_sweep_override()]:
        raise ConfigError(
            "a single trial takes one value", where=several[0].key_or_group, hint="`perfbench sweep` takes several"
        )
    known = groups()
    chosen = {item.key_or_group: str(item.value()) for item in parsed if item.key_or_group in known}
    if "submission" in chosen:
        chosen["submission"] = name_or_path(chosen["submission"])
    for group, choice in chosen.items():
        check_choice(group, choice)
    values = {item.key_or_group: item.value() for item in parsed if item.key_or_group not in known}
    dataset = None if "data" not in values else str(values.pop("data"))
    try:
        config = _chosen_config(chosen)
        OmegaConf.set_struct(config, value=False)
        at_scale = _at_scale(config.workload, scale=config.scale.name, dataset=dataset)
        config.workload = _with_budget(at_scale, config.ruleset.get("full_scale_budgets", {}))
        for key, value in values.items():
            OmegaConf.update(config, key, value, force_add=True, merge=False)
        return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except (HydraException, OmegaConfBaseException, YAMLError) as problem:
        raise _unreadable(problem) from None


def _chosen_config(chosen: Mapping[str, str]) -> DictConfig:
    inside = {group: choice for group, choice in chosen.items() if not (group == "submission" and is_path(choice))}
    if "submission" in inside:
        _check_own_submission(inside["submission"])
    config = _hydra_config([f"{group}={choice}" for group, choice in inside.items()])
    if "submission" in chosen and "submission" not in inside:
        config.submission = _outside_submission(chosen["submission"])
    takes_part_in = config.submission.get("rulesets") or []  # a missing key is reported by the typed reading
    if "ruleset" in chosen or not takes_part_in or config.ruleset.kind in takes_part_in:
        return config
    return _chosen_config({**chosen, "ruleset": takes_part_in[0]})


class _OwnFolders(SearchPathPlugin):
    """Has Hydra look into the person's own folders first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put them before the folder that belongs to this code."""
        for folder in config_folders()[:-1]:
            search_path.prepend("own", f"file://{folder}", anchor="main")


Plugins.instance().register(_OwnFolders)


def _hydra_config(overrides: Sequence[str]) -> DictConfig:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra_compose("run", overrides=list(overrides))


def _parsed(overrides: Sequence[str]) -> list[Override]:
    at_home = [item.replace("=~/", f"={Path.home()}/", 1) for item in overrides]  # not every shell does it after a =
    try:
        return OverridesParser.create().parse_overrides(at_home)
    except HydraException as problem:
        words = [item for item in overrides if "=" not in item and not item.startswith("~")]
        raise ConfigError(
            f"cannot read {' '.join(words or overrides)!r}: {str(problem).splitlines()[0]}",
            hint="write key=value, for example `workload=criteo seed=1`",
        ) from None


def _unreadable(problem: Exception) -> ConfigError:
    if isinstance(problem, YAMLError):
        what, where = describe(problem)
        return ConfigError(what, where=where, hint="it must be YAML")
    return ConfigError(str(problem).splitlines()[0], where="configs", hint="see `perfbench show`")


def _outside_submission(path: str) -> DictConfig:
    """Return the facts of a submission in a folder outside of the repository, with that folder in them."""
    folder = folder_of(Path(path).expanduser().resolve())
    file = outside_file(folder)
    if not file.is_file():
        if is_theirs(folder):
            names = their_names(choices("workload"), workload_families(), benchmarks=config_folder() / "benchmark")
            return OmegaConf.create(facts_of(folder, taken_names=choices("submission"), workloads=names))
        check_near_miss(folder)
        raise ConfigError(
            f"no file {file}",
            where="submission",
            hint=f"a submission's folder holds submission.py and {OUTSIDE_FILE}; `perfbench new-submission` writes one"
            f"; AlgoPerf's run as they are: submission.py binds {', '.join(FUNCTIONS)}",
        )
    read_closed_mapping(file)
    try:
        config = cast("DictConfig", OmegaConf.load(file))
    except YAMLError as problem:
        raise _unreadable(problem) from None
    except (OmegaConfBaseException, OSError) as problem:
        raise ConfigError(str(problem).splitlines()[0], where=str(file), hint="it must be YAML") from None
    if own_submission(name := str(config.get("name"))) != folder and name in choices("submission"):
        raise ConfigError(
            f"this repository has a submission named {name!r} already",
            where=str(file),
            hint="records are kept by name: choose another",
        )
    OmegaConf.set_struct(config, value=False)
    config.folder = str(folder)
    return config


def _check_own_submission(name: str) -> None:
    """Check the file of a submission of this repository, which a stranger may have written, before Hydra reads it.

    Raises:
        ConfigError: If it reaches beyond itself: what it says becomes a public record.
    """
    file = config_file("submission", name)
    plain = read_closed_mapping(file)
    for key in ("defaults", "hydra", "folder"):
        if key in plain:
            raise ConfigError(f"{key!r} is not a submission's to say", where=str(file), hint="remove it")
    if "@package" in file.read_text():
        raise ConfigError("'@package' would place it somewhere else", where=str(file), hint="remove it")


def _at_scale(workload: DictConfig, *, scale: str, dataset: str | None) -> DictConfig:
    """Lay the scale's section over the workload's common part, and the data set's over both."""
    scales = workload.pop("scales")
    if scale not in scales:
        raise ConfigError(
            f"workload {workload.name!r} has no scale {scale!r}",
            where="scale",
            hint=nearest_name_hint(scale, scales, kind="scales"),
        )
    section = scales[scale]
    datasets = section.pop("datasets")
    name = section.dataset if dataset is None else dataset
    if name not in datasets:
        raise ConfigError(
            f"workload {workload.name!r} has no data set {name!r} at scale {scale!r}",
            where="data",
            hint=nearest_name_hint(str(name), datasets, kind="data sets"),
        )
    merged = OmegaConf.merge(workload, section, datasets[name], {"dataset": name, "scale": scale})
    return cast("DictConfig", merged)


def _with_budget(workload: DictConfig, budgets: Mapping[str, Any]) -> DictConfig:
    """Lay what the rules grant the workload's family at full scale over its own; ``null`` keeps its own."""
    if workload.scale != ScaleName.FULL.value or workload.family not in budgets:
        return workload
    granted = {name: value for name, value in budgets[workload.family].items() if value is not None}
    return cast("DictConfig", OmegaConf.merge(workload, granted))
