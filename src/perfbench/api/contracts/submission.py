"""Conformance checks of a submission: what the engine relies on, over tiny problems, without a test runner.

Each check returns findings and never raises for what the submission does: an exception of the submission is a
finding too. Speed and quality are not checked here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from pydantic import JsonValue

from perfbench.api.contracts.finding import EVERYTHING, Attention, Finding, raised
from perfbench.api.contracts.rehearsal import BuildSubmission, Rehearsal, differences, read_back
from perfbench.api.contracts.tiny_problems import TINY_PROBLEMS, TinyProblem
from perfbench.api.submission import StepReport
from perfbench.errors import ConfigError
from perfbench.spec.base import Spec

NUM_STEPS = 110
"""Longer than the longest period that a known submission has (Shampoo computes roots every 100 steps)."""
SAVED_AT = (0, 1, 5, 99, 100)
"""Before the first step, early, and around step 100."""
REDUCES_THE_LOSS = "training reduces the loss"
_SEED = 11
_CLOSE_STEPS = 10
"""A resumed run that meets a saved state so soon is compared there: that state is resumed from, too."""


def check_submission(
    build: BuildSubmission,
    *,
    problems: Sequence[TinyProblem] = TINY_PROBLEMS,
    num_steps: int = NUM_STEPS,
    saved_at: Sequence[int] = SAVED_AT,
    attention: Attention = EVERYTHING,
) -> list[Finding]:
    """Return what was found for one submission with its hyperparameters already bound.

    Args:
        build: Makes the submission from its context.
        problems: What to train.
        num_steps: How long, and the submission's step hint.
        saved_at: Steps after which a checkpoint is written and resumed from.
        attention: Which checks, and who hears of them.
    """
    return [
        finding
        for problem in problems
        for finding in _OnProblem(build, problem, num_steps=num_steps).findings(saved_at, attention)
    ]


def check_points(
    builders: Mapping[str, BuildSubmission],
    *,
    num_steps: int = NUM_STEPS,
    saved_at: Sequence[int] = SAVED_AT,
    attention: Attention = EVERYTHING,
) -> list[Finding]:
    """Return what was found for several points of one search space, by the points' names.

    A space may hold points that no tiny problem stands (that is what a search is for): it is enough if one of the
    points reduces the loss of every problem. All else holds at every point. Arguments are as for `check_submission`.
    """
    found = {
        name: check_submission(build, num_steps=num_steps, saved_at=saved_at, attention=attention.under(name))
        for name, build in builders.items()
    }
    training = {name: [f for f in findings if f.name.endswith(REDUCES_THE_LOSS)] for name, findings in found.items()}
    trains = next((name for name, findings in training.items() if all(f.passed for f in findings)), None)
    return [
        replace(
            finding, name=f"{name}: {finding.name}", passed=True, detail=f"not here: {finding.detail}; {trains} does"
        )
        if trains is not None and not finding.passed and finding.name.endswith(REDUCES_THE_LOSS)
        else replace(finding, name=f"{name}: {finding.name}")
        for name, findings in found.items()
        for finding in findings
    ]


def check_hyperparameters(hyperparameters: type[Spec], point: Mapping[str, JsonValue]) -> list[Finding]:
    """Check that a point is read strictly: unknown, missing and mistyped hyperparameters are refused by name.

    Args:
        hyperparameters: The submission's own type.
        point: A point of its search space.
    """
    first = next(iter(point))
    refused: tuple[tuple[str, dict[str, JsonValue], str], ...] = (
        ("an unknown hyperparameter is refused by name", {**point, "no_such_thing": 1}, "no_such_thing"),
        ("a value of the wrong type is refused by name", {**point, first: {"not": "a value"}}, first),
        ("a missing hyperparameter is refused by name", {n: v for n, v in point.items() if n != first}, first),
    )
    return [_accepted(hyperparameters, point)] + [
        _refused(hyperparameters, name, changed, mentioned=mentioned) for name, changed, mentioned in refused
    ]


def check_source(
    folder: Path, *, workload_names: Iterable[str], exempt_functions: frozenset[str] = frozenset()
) -> list[Finding]:
    """Check that no code in a submission's folder names a workload: it is judged on workloads it has never seen.

    Docstrings may.

    Args:
        folder: The submission's.
        workload_names: All names of workloads and families.
        exempt_functions: Functions that may name them.
    """
    pattern = re.compile(r"(?<![a-z])(" + "|".join(map(re.escape, sorted(workload_names))) + r")(?![a-z])")
    named = [
        f"{path.name}:{line} names {match[1]!r}"
        for path in sorted(folder.rglob("*.py"))
        for line, text in _string_literals(ast.parse(path.read_text(encoding="utf-8")), exempt_functions)
        if (match := pattern.search(text.lower()))
    ]
    return [Finding(name="the code names no workload", passed=not named, detail="; ".join(named))]


class _OnProblem:
    def __init__(self, build: BuildSubmission, problem: TinyProblem, *, num_steps: int) -> None:
        self._build = build
        self._problem = problem
        self._num_steps = num_steps
        self._saved_at: frozenset[int] = frozenset()

    def findings(self, saved_at: Sequence[int], attention: Attention) -> list[Finding]:
        self._saved_at = frozenset(saved_at)
        checks: dict[str, Callable[[], str]] = {
            REDUCES_THE_LOSS: self._reduces_the_loss,
            "reports are detached scalars": self._reports_are_detached_scalars,
            "the same seed gives the same trajectory": self._repeats_itself,
            "the prepared model has the workload's names and shapes": self._prepares_the_same_model,
            "preparing and resuming leaves the training weights untouched": self._leaves_weights_untouched,
            "a warm-up leaves no trace": self._forgets_a_warm_up,
            **{f"a checkpoint of step {step} resumes bit for bit": partial(self._resumes, step) for step in saved_at},
            "a checkpoint after an evaluation resumes bit for bit": self._resumes_after_an_evaluation,
        }
        mine = attention.under(self._problem.name)
        return [self._finding(name, check) for name, check in checks.items() if mine.takes(name)]

    def _finding(self, name: str, check: Callable[[], str]) -> Finding:
        """Run a check, which returns what is wrong or nothing."""
        with torch.random.fork_rng(devices=()):
            try:
                detail = check()
            except Exception as problem:  # noqa: BLE001 - the submission is a stranger's code: any error is a finding
                detail = raised(problem)
        return Finding(name=f"{self._problem.name}: {name}", passed=not detail, detail=detail)

    def _start(self) -> Rehearsal:
        return Rehearsal(self._build, self._problem, seed=_SEED, step_hint=self._num_steps)

    @cached_property
    def _uninterrupted(self) -> dict[int, bytes]:
        """Saved states of one run from start to end, by step; the end's is under ``num_steps``."""
        rehearsal = self._start()
        saved = {}
        for step in sorted(self._saved_at | {self._num_steps}):
            rehearsal.train(until=step)
            saved[step] = rehearsal.saved()
        return saved

    @cached_property
    def _evaluated(self) -> _Evaluated:
        """One run from start to end that is evaluated at the start, early, half way and at the end."""
        rehearsal, half = self._start(), self._num_steps // 2
        changed: list[str] = []
        losses = []
        for step in (0, 1, half):
            rehearsal.train(until=step)
            before = rehearsal.weights()
            losses.append(rehearsal.evaluate())
            changed += [f"{path} at step {step}" for path in differences(before, rehearsal.weights())]
        saved = rehearsal.saved()
        rehearsal.train(until=self._num_steps)
        end = rehearsal.saved()
        return _Evaluated(changed, saved=saved, end=end, loss_before=losses[0], loss_after=rehearsal.evaluate())

    @cached_property
    def _unlike_after_a_warm_up(self) -> str:
        """Do what the engine does to compile outside the clock: steps, an evaluation, and all back in place."""
        warmed = self._start()
        saved = warmed.saved()
        warmed.train(until=2)
        warmed.evaluate()
        warmed.restore(saved)
        if paths := _differing(saved, warmed.saved()):
            return f"not restored: {_first(paths)}"
        warmed.train(until=self._num_steps)
        return _unequal(self._uninterrupted[self._num_steps], warmed)

    def _reduces_the_loss(self) -> str:
        before, after = self._evaluated.loss_before, self._evaluated.loss_after
        return "" if after < before else f"{before:.4g} before and {after:.4g} after {self._num_steps} steps"

    def _reports_are_detached_scalars(self) -> str:
        report = self._start().train(until=1)
        if not isinstance(report, StepReport):
            return f"update_params returned {type(report).__name__}"
        if report.loss.dim() or report.loss.requires_grad:
            return f"the loss has shape {tuple(report.loss.shape)}, requires_grad={report.loss.requires_grad}"
        return ""

    def _repeats_itself(self) -> str:
        end = self._uninterrupted[self._num_steps]
        if not self._unlike_after_a_warm_up:
            return ""  # a second start got to the same end, even after a detour
        again = self._start()
        again.train(until=self._num_steps)
        return _unequal(end, again)

    def _prepares_the_same_model(self) -> str:
        rehearsal = self._start()
        rehearsal.train(until=3)
        expected = {name: tuple(tensor.shape) for name, tensor in rehearsal.model.state_dict().items()}
        model = rehearsal.submission.prepare_for_eval()
        actual = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        rehearsal.submission.resume_training()
        return "" if actual == expected else f"differing: {sorted(set(actual.items()) ^ set(expected.items()))}"

    def _leaves_weights_untouched(self) -> str:
        return ", ".join(self._evaluated.changed)

    def _forgets_a_warm_up(self) -> str:
        return self._unlike_after_a_warm_up

    def _resumes(self, step: int) -> str:
        """Resume from a saved state, to the end or to a saved state close by, from which another check goes on."""
        close = [later for later in self._saved_at if step < later <= step + _CLOSE_STEPS]
        until = min(close, default=self._num_steps)
        return self._continues(self._uninterrupted[step], self._uninterrupted[until], until=until)

    def _resumes_after_an_evaluation(self) -> str:
        return self._continues(self._evaluated.saved, self._evaluated.end, until=self._num_steps)

    def _continues(self, saved: bytes, end: bytes, *, until: int) -> str:
        resumed = self._start()
        resumed.restore(saved)
        if paths := _differing(saved, resumed.saved()):
            return f"state_dict after load_state_dict differs at {_first(paths)}"
        resumed.train(until=until)
        return _unequal(end, resumed)


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """What a run with evaluations showed."""

    changed: list[str]
    """Which weights an evaluation changed, and at which step."""
    saved: bytes
    """After the evaluation half way."""
    end: bytes
    loss_before: float
    loss_after: float


def _differing(expected: bytes, actual: bytes) -> list[str]:
    """Return the paths at which two saved states differ; equal files hold equal states, others may."""
    return [] if expected == actual else differences(read_back(expected), read_back(actual))


def _unequal(expected: bytes, actual: Rehearsal) -> str:
    """Return where weights, buffers, state or random numbers differ; nothing where all are equal bit for bit."""
    paths = _differing(expected, actual.saved())
    return f"differing after step {actual.num_steps}: {_first(paths)}" if paths else ""


def _first(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")  # noqa: PLR2004


def _accepted(hyperparameters: type[Spec], point: Mapping[str, JsonValue]) -> Finding:
    name = "a point of the search space is accepted"
    try:
        hyperparameters.from_mapping(point)
    except ConfigError as problem:
        return Finding(name=name, passed=False, detail=str(problem))
    return Finding(name=name, passed=True)


def _refused(hyperparameters: type[Spec], name: str, point: Mapping[str, JsonValue], *, mentioned: str) -> Finding:
    try:
        hyperparameters.from_mapping(point)
    except ConfigError as problem:
        is_named = mentioned in str(problem)
        return Finding(name=name, passed=is_named, detail="" if is_named else f"{mentioned!r} is not in: {problem}")
    return Finding(name=name, passed=False, detail=f"{dict(point)} was accepted")


def _string_literals(tree: ast.Module, exempt_functions: frozenset[str]) -> list[tuple[int, str]]:
    """Return line and text of the string literals of a module that are not docstrings, but for some functions'."""
    left_out = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in exempt_functions]
    passed_over = {id(node) for function in left_out for node in ast.walk(function)} | {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed_over
    ]
