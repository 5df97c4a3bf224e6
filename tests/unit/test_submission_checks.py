"""The conformance checks themselves: a sound submission passes, and each planted fault breaks the right check."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from perfbench.api import Batch, GradientSubmission, StateDict, StepReport, TrainingComplete, TrainingContext
from perfbench.api.contracts.finding import Finding
from perfbench.api.contracts.submission import check_hyperparameters, check_points, check_source, check_submission
from perfbench.api.contracts.tiny_problems import TINY_PROBLEMS, TinyRegression, parameter_roles
from perfbench.api.optim import NAdamW
from perfbench.api.workload import ParameterRole
from perfbench.spec.base import Spec


class Sound(GradientSubmission):
    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context, [NAdamW(context.model.parameters(), lr=0.01)], dropout_rate=0.2)


class ForgetsItsMoments(Sound):
    def load_state_dict(self, state: StateDict) -> None:
        self.num_updates = state["num_updates"]


class CountsInAHiddenPlace(Sound):
    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self.hidden = 0

    def update_params(self, batch: Batch) -> StepReport:
        self.hidden += 1
        for group in self.optimizers[0].param_groups:
            group["lr"] = 0.01 / self.hidden
        return super().update_params(batch)


class ActsNowAndThenByAHiddenCount(Sound):
    """As if roots were computed at every twentieth call of this object: a resume loses the count."""

    def __init__(self, context: TrainingContext) -> None:
        super().__init__(context)
        self.hidden = 0

    def update_params(self, batch: Batch) -> StepReport:
        self.hidden += 1
        report = super().update_params(batch)
        if self.hidden % 20 == 0:
            with torch.no_grad():
                for parameter in self.context.model.parameters():
                    parameter.mul_(0.9)
        return report


class EvaluatesInPlace(Sound):
    def prepare_for_eval(self) -> nn.Module:
        with torch.no_grad():
            for parameter in self.context.model.parameters():
                parameter.mul_(0.5)
        return self.context.model


class PreparesAnotherModel(Sound):
    def prepare_for_eval(self) -> nn.Module:
        return nn.Sequential(copy.deepcopy(self.context.model))


class Climbs(Sound):
    def update_params(self, batch: Batch) -> StepReport:
        self.optimizers[0].param_groups[0]["lr"] = -0.01
        return super().update_params(batch)


class UsesUnseededNumbers(Sound):
    def update_params(self, batch: Batch) -> StepReport:
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            for parameter in self.context.model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=1e-3)
        return super().update_params(batch)


class KeepsItsGraph(Sound):
    def update_params(self, batch: Batch) -> StepReport:
        super().update_params(batch)
        return StepReport(loss=self.context.global_mean(self.context.loss(batch)))


class SavesAnObject(Sound):
    def state_dict(self) -> StateDict:
        return {**super().state_dict(), "object": self.schedule or Path()}


class EndsEarly(Sound):
    def update_params(self, batch: Batch) -> StepReport:
        if self.num_updates == 20:
            raise TrainingComplete
        return super().update_params(batch)


def failed_checks(build: Callable[[TrainingContext], GradientSubmission]) -> set[str]:
    findings = check_submission(build, problems=[TinyRegression()], num_steps=30, saved_at=(0, 3))
    return {finding.name.removeprefix("regression: ") for finding in findings if not finding.passed}


RESUMES = {"a checkpoint of step 3 resumes bit for bit", "a checkpoint after an evaluation resumes bit for bit"}
ALL_RESUMES = RESUMES | {"a checkpoint of step 0 resumes bit for bit", "a warm-up leaves no trace"}


@pytest.mark.parametrize("build", [Sound, EndsEarly])
def test_a_sound_submission_passes_every_check_on_every_problem(
    build: Callable[[TrainingContext], GradientSubmission],
) -> None:
    findings = check_submission(build, num_steps=30, saved_at=(0, 3))

    assert len(findings) == len(TINY_PROBLEMS) * 9
    assert [str(finding) for finding in findings if not finding.passed] == []


@pytest.mark.parametrize(
    ("build", "broken"),
    [
        (ForgetsItsMoments, RESUMES | {"a warm-up leaves no trace"}),
        (CountsInAHiddenPlace, RESUMES | {"a warm-up leaves no trace"}),
        (UsesUnseededNumbers, ALL_RESUMES | {"the same seed gives the same trajectory"}),
        (EvaluatesInPlace, {"preparing and resuming leaves the training weights untouched"}),
        (PreparesAnotherModel, {"the prepared model has the workload's names and shapes"}),
        (Climbs, {"training reduces the loss"}),
        (KeepsItsGraph, {"reports are detached scalars"}),
        (SavesAnObject, ALL_RESUMES),
    ],
)
def test_a_planted_fault_breaks_the_right_checks(
    build: Callable[[TrainingContext], GradientSubmission], broken: set[str]
) -> None:
    assert failed_checks(build) >= broken
    # "the same seed" compares states too, so a state that cannot be read fails there as well.
    assert failed_checks(build) - broken <= {"the same seed gives the same trajectory"}


def test_a_count_that_is_lost_early_and_acts_late_is_found_early_and_late() -> None:
    findings = check_submission(
        ActsNowAndThenByAHiddenCount, problems=[TinyRegression()], num_steps=30, saved_at=(0, 1, 5, 19, 20)
    )

    broken = {finding.name.removeprefix("regression: ") for finding in findings if not finding.passed}
    assert broken == {
        "a checkpoint of step 5 resumes bit for bit",
        "a checkpoint of step 19 resumes bit for bit",
        "a checkpoint after an evaluation resumes bit for bit",
        "a warm-up leaves no trace",
    }


def test_of_several_points_one_that_trains_is_enough_and_all_else_holds_at_each() -> None:
    def unmet(builders: dict[str, Callable[[TrainingContext], GradientSubmission]]) -> set[str]:
        findings = check_points(builders, num_steps=30, saved_at=(3,))
        return {finding.name.split(": ")[0] for finding in findings if not finding.passed}

    assert unmet({"sound": Sound, "climbs": Climbs}) == set()
    assert unmet({"climbs": Climbs}) == {"climbs"}
    assert unmet({"sound": Sound, "keeps its graph": KeepsItsGraph}) == {"keeps its graph"}


def test_an_exception_is_a_finding_with_its_text() -> None:
    def build(context: TrainingContext) -> GradientSubmission:
        message = "cannot do a model without attention"
        raise NotImplementedError(message)

    findings = check_submission(build, problems=[TinyRegression()], num_steps=3, saved_at=())

    assert not any(finding.passed for finding in findings)
    assert findings[0].detail.startswith(
        "raised NotImplementedError: cannot do a model without attention (test_submission_"
    )


def test_lenient_hyperparameters_are_found_out() -> None:
    class Strict(Spec):
        learning_rate: float = Field(gt=0)

    class Lenient(Spec, extra="allow"):
        learning_rate: float | dict[str, str] = 1.0

    point: dict[str, object] = {"learning_rate": 0.1}
    strict = check_hyperparameters(Strict, point)  # type: ignore[arg-type] # a plain dictionary
    lenient = check_hyperparameters(Lenient, point)  # type: ignore[arg-type] # a plain dictionary

    assert all(finding.passed for finding in strict)
    assert [finding.passed for finding in lenient] == [True, False, False, False]
    assert not check_hyperparameters(Strict, {"learning_rate": -1.0})[0].passed


def test_a_workload_named_in_code_is_found_and_one_named_in_a_docstring_is_not(tmp_path: Path) -> None:
    (tmp_path / "sound.py").write_text('"""Won on criteo."""\n\nname = "mycriteos"\n')
    (tmp_path / "partial.py").write_text('def f(name):\n    """On criteo."""\n    return name == "criteo_full"\n')

    (finding,) = check_source(tmp_path, workload_names=["criteo", "wmt"])

    assert finding == Finding(name="the code names no workload", passed=False, detail="partial.py:3 names 'criteo'")


def test_the_problems_have_every_kind_of_parameter_and_padding() -> None:
    roles = {role for problem in TINY_PROBLEMS for role in parameter_roles(problem.build_model(seed=0)).values()}
    batch = TINY_PROBLEMS[0].batch(0)

    assert roles >= {
        ParameterRole.WEIGHT,
        ParameterRole.BIAS,
        ParameterRole.CONV_WEIGHT,
        ParameterRole.EMBEDDING,
        ParameterRole.BATCH_NORM_SCALE,
        ParameterRole.LAYER_NORM_SCALE,
    }
    assert isinstance(batch["weights"], Tensor)
    assert 0 < int(batch["weights"].sum()) < len(batch["weights"])
