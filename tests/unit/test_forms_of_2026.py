"""The other forms of the submissions of 2026: each trains, resumes bit for bit and waits for nothing."""

from __future__ import annotations

import pytest
import torch

from perfbench.api.contracts.conduct import counted_waits
from perfbench.api.contracts.rehearsal import Rehearsal, differences, read_back
from perfbench.api.contracts.tiny_problems import TinyImages, TinyProblem, TinyText
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder

FORMS = [
    ("normuon", {"form": "dion"}),
    ("hyperball", {"base": "adam"}),
    ("hyperball", {"base": "normuon"}),
    ("kl_shampoo", {"method": "shampoo"}),
    ("mars", {"base": "muon"}),
    ("schedule_free_plus", {"rate_average": "as_run"}),
    ("schedule_free_plus", {"statistics_pass": "every_step"}),
]


def started(name: str, options: dict[str, str], problem: TinyProblem) -> Rehearsal:
    spec = compose_submission(name)
    spec = spec.model_copy(update={"options": {**spec.options, **options}})
    return Rehearsal(submission_builder(spec, None), problem, seed=3, step_hint=60)


@pytest.mark.parametrize("problem", [TinyImages(), TinyText()], ids=lambda problem: problem.name)
@pytest.mark.parametrize(("name", "options"), FORMS, ids=str)
def test_it_trains_resumes_and_does_not_wait(name: str, options: dict[str, str], problem: TinyProblem) -> None:
    rehearsal = started(name, options, problem)
    before = rehearsal.weights()
    with torch.random.fork_rng(devices=()):
        rehearsal.train(until=20)
        saved = rehearsal.saved()
        rehearsal.train(until=55)
        end = rehearsal.saved()
        after = rehearsal.weights()
        with counted_waits() as waits:
            rehearsal.train(until=60)
        resumed = started(name, options, problem)
        resumed.restore(saved)
        resumed.train(until=55)

    assert all(bool(tensor.isfinite().all()) for tensor in after.values())
    trained = [name for name, _ in rehearsal.model.named_parameters()]
    assert [name for name in trained if torch.equal(before[name], after[name])] == []
    assert waits.total == 0
    states = [{key: read_back(state)[key] for key in ("weights", "submission")} for state in (end, resumed.saved())]
    assert differences(*states) == []
