"""The examples of the documents are whole submissions: they keep the contract, and do what their page says."""

from __future__ import annotations

import re
import sys
import types
from typing import Any

import pytest
import torch

from perfbench.api.contracts.conduct import state_bytes
from perfbench.api.contracts.rehearsal import BuildSubmission, Rehearsal
from perfbench.api.contracts.submission import check_submission
from perfbench.api.contracts.tiny_problems import TINY_PROBLEMS, TinyProblem, TinyRegression
from perfbench.registry import repository_root

PAGE = repository_root() / "docs" / "how-to" / "accumulation-and-averaging.md"
POINTS: dict[str, dict[str, Any]] = {
    "accumulating": {"learning_rate": 0.01, "weight_decay": 0.01, "num_parts": 4},
    "averaging": {"learning_rate": 0.01, "weight_decay": 0.01, "decay": 0.9},
}


def examples() -> dict[str, types.ModuleType]:
    """Return the page's examples as modules, by the name at their beginning."""
    found = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        name = code.removeprefix('"""').partition(":")[0]
        module = types.ModuleType(f"example_{name}")
        sys.modules[module.__name__] = module  # where pydantic looks for the names of annotations
        exec(compile(code, f"{PAGE.name}:{name}", "exec"), module.__dict__)
        found[name] = module
    return found


EXAMPLES = examples()


def builder(name: str, **changes: object) -> BuildSubmission:
    module = EXAMPLES[name]
    point = module.Hyperparameters.from_mapping({**POINTS[name], **changes})
    return lambda context: module.build(context, point)


def test_the_page_has_both() -> None:
    assert list(EXAMPLES) == list(POINTS)


@pytest.mark.parametrize("name", list(POINTS))
def test_an_example_keeps_the_contract(name: str) -> None:
    findings = check_submission(builder(name), num_steps=30, saved_at=(0, 1, 5))

    assert len(findings) > 20
    assert [str(finding) for finding in findings if not finding.passed] == []


def trained(build: BuildSubmission, problem: TinyProblem, *, steps: int = 5) -> Rehearsal:
    with torch.random.fork_rng(devices=()):
        rehearsal = Rehearsal(build, problem, seed=3, step_hint=30)
        rehearsal.train(until=steps)
    return rehearsal


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    """On a problem without batch norm and dropout, with padded examples in one part only."""
    whole = trained(builder("accumulating", num_parts=1), TinyRegression())
    for num_parts in (2, 3, 16):
        parts = trained(builder("accumulating", num_parts=num_parts), TinyRegression())

        for name, tensor in whole.weights().items():
            torch.testing.assert_close(parts.weights()[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("problem", TINY_PROBLEMS, ids=lambda problem: problem.name)
def test_what_is_evaluated_is_the_average_and_what_trains_is_not(problem: TinyProblem) -> None:
    decay, steps = 0.9, 5
    path = [trained(builder("averaging"), problem, steps=step).weights() for step in range(steps + 1)]
    rehearsal = trained(builder("averaging"), problem, steps=steps)
    parameters = dict(rehearsal.model.named_parameters())

    evaluated = rehearsal.submission.prepare_for_eval().state_dict()

    for name, tensor in rehearsal.weights().items():
        assert torch.equal(tensor, path[-1][name])
        if name in parameters:
            expected = path[0][name]
            for weights in path[1:]:
                expected = decay * expected + (1 - decay) * weights[name]
            torch.testing.assert_close(evaluated[name], expected)
        else:
            assert torch.equal(evaluated[name], tensor)


def test_memory_is_what_the_page_says() -> None:
    for name, expected in (("accumulating", 8), ("averaging", 12)):
        rehearsal = trained(builder(name), TinyRegression())
        num_parameters = sum(parameter.numel() for parameter in rehearsal.model.parameters())

        assert state_bytes(rehearsal) / num_parameters == expected
