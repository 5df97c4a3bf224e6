"""YAML and overrides to one typed request. The only module that knows Hydra; it ends here.

1. Group choices (``workload=criteo``, ``scale=mini``) are composed by Hydra from ``configs/``. A submission that does
   not take part in the default ruleset brings its own, unless one is chosen.
2. The workload's section for the chosen scale and data set is laid over what all scales share.
3. Value overrides (``seed=3``, ``workload.params.x=1``) are set; a key that does not exist is set too, so that the
   typed reading below reports every mistake at once, with its path and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perfbench.errors import ConfigError, nearest_name_hint
from perfbench.registry import repository_root
from perfbench.spec.run import RunSpec
from perfbench.spec.submission import SubmissionSpec
from perfbench.spec.workload import WorkloadSpec


def config_folder() -> Path:
    """Return where the YAML files are."""
    return repository_root() / "configs"


def choices(group: str) -> list[str]:
    """Return the names in a configuration group, e.g. all workloads with their variants."""
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


def compose_run(overrides: Sequence[str] = ()) -> RunSpec:
    """Return the typed request for command-line overrides.

    Raises:
        ConfigError: Listing everything that is wrong, each with its dotted path.
    """
    return RunSpec.from_mapping(_composed(overrides))


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
    return SubmissionSpec.from_mapping(_composed([f"submission={name}"])["submission"], where="submission")


def _composed(overrides: Sequence[str]) -> dict[str, Any]:
    parsed = _parsed(overrides)
    groups = [path.name for path in config_folder().iterdir() if path.is_dir()]
    chosen = {item.key_or_group: str(item.value()) for item in parsed if item.key_or_group in groups}
    for group, choice in chosen.items():
        _check_choice(group, choice)
    values = {item.key_or_group: item.value() for item in parsed if item.key_or_group not in groups}
    dataset = None if "data" not in values else str(values.pop("data"))
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = _chosen_config(chosen)
        OmegaConf.set_struct(config, value=False)
        config.workload = _at_scale(config.workload, scale=config.scale.name, dataset=dataset)
        for key, value in values.items():
            OmegaConf.update(config, key, value, force_add=True, merge=False)
        return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    except (HydraException, OmegaConfBaseException) as problem:
        raise ConfigError(str(problem).splitlines()[0], where="configs", hint="see `perfbench show`") from None


def _chosen_config(chosen: Mapping[str, str]) -> DictConfig:
    config = hydra_compose("run", overrides=[f"{group}={choice}" for group, choice in chosen.items()])
    if "ruleset" in chosen or config.ruleset.kind in config.submission.rulesets:
        return config
    return _chosen_config({**chosen, "ruleset": config.submission.rulesets[0]})


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as problem:
        raise ConfigError(
            f"cannot read the overrides {list(overrides)}: {str(problem).splitlines()[0]}",
            hint="write key=value, for example `workload=criteo seed=1`",
        ) from None


def _check_choice(group: str, choice: str) -> None:
    known = choices(group)
    if choice not in known:
        raise ConfigError(
            f"no {group} named {choice!r}", where=group, hint=nearest_name_hint(choice, known, kind=f"{group}s")
        )


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
