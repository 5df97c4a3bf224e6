"""What a sweep asks for: whole studies, some of their trials, or points that somebody tries by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perfbench.compose import compose_sweep, values_of
from perfbench.errors import ConfigError
from perfbench.launch.plan import explored, plan_study
from perfbench.launch.sweep import plan_sweep
from perfbench.spec.run import RunSpec, TrialSpec
from perfbench.spec.submission import HyperparameterPoint, SubmissionSpec
from perfbench.tuning.exploring import Values, expand, parse_range

HP = "hp."
_NUMBERS = ("seed", "trial", "points", "grid")


@dataclass(slots=True)
class Asked:
    """A command line, taken apart."""

    hyperparameters: dict[str, str] = field(default_factory=dict)
    """Texts by name, as they stand after ``hp.``."""
    numbers: dict[str, list[int]] = field(default_factory=dict)
    """Of ``seed``, ``trial``, ``points`` and ``grid``."""
    rest: list[str] = field(default_factory=list)

    @property
    def explores(self) -> bool:
        """Tell whether trials are asked for that no study has."""
        return bool(self.hyperparameters) or len(self.numbers.get("seed", [])) > 1 or "explore=true" in self.rest


def take_apart(overrides: Sequence[str]) -> Asked:
    """Separate what only a sweep understands from what every trial is composed of.

    Raises:
        ConfigError: If a number is none.
    """
    asked = Asked()
    for override in overrides:
        key, equals, text = override.partition("=")
        if equals and key.startswith(HP):
            asked.hyperparameters[key.removeprefix(HP)] = text
        elif equals and key in _NUMBERS:
            asked.numbers[key] = _whole_numbers(key, text)
        else:
            asked.rest.append(override)
    return asked


def sweep_trials(overrides: Sequence[str]) -> tuple[list[RunSpec], list[TrialSpec]]:
    """Return the requests of a sweep, one per submission, workload and study, and all its trials in order.

    Raises:
        PerfbenchError: If something is asked for that is impossible.
    """
    asked = take_apart(overrides)
    seeds = asked.numbers.get("seed", [])
    requests = compose_sweep([*asked.rest, *(f"seed={seed}" for seed in seeds[:1])])
    if not asked.explores and asked.numbers.keys() <= {"seed"}:
        return requests, plan_sweep(requests)
    trials = []
    for request in requests:
        points = _points(asked, request.submission)
        for seed in seeds or [request.seed]:
            for trial in _of_the_study(request.model_copy(update={"seed": seed}), asked):
                trials += [explored(trial, point) for point in points] if asked.explores else [trial]
    return requests, _without_repeats(trials)


def axes_of(asked: Asked, submission: SubmissionSpec) -> dict[str, Values]:
    """Return what each hyperparameter that is set by hand takes.

    Raises:
        ConfigError: If a text cannot be read.
    """
    axes: dict[str, Values] = {}
    for name, text in asked.hyperparameters.items():
        found = parse_range(name, text, submission.search_space)
        axes[name] = values_of(f"{HP}{name}", text) if found is None else found
    return axes


def _points(asked: Asked, submission: SubmissionSpec) -> list[HyperparameterPoint]:
    return expand(axes_of(asked, submission), num_points=_one(asked, "points"), grid=_one(asked, "grid"))


def _of_the_study(request: RunSpec, asked: Asked) -> list[TrialSpec]:
    """Return the trials that were asked for: all of the study unless told, and the first as what points lie over."""
    numbers = asked.numbers.get("trial") or ([request.trial] if asked.hyperparameters else None)
    trials = [plan_study(request.model_copy(update={"trial": number})) for number in numbers or [1]]
    if numbers is None:
        return trials[0]
    return [study[number - 1] for study, number in zip(trials, numbers, strict=True)]


def _one(asked: Asked, key: str) -> int | None:
    numbers = asked.numbers.get(key)
    if numbers is None:
        return None
    if len(numbers) > 1:
        raise ConfigError("can have one value only", where=key)
    return numbers[0]


def _whole_numbers(key: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise ConfigError(f"not a whole number: {wrong[0]!r}", where=key, hint=f"for example {key}=2 or {key}=2,4")
    return [int(part) for part in dict.fromkeys(parts)]


def _without_repeats(trials: Sequence[TrialSpec]) -> list[TrialSpec]:
    return list({trial.identity(): trial for trial in trials}.values())
