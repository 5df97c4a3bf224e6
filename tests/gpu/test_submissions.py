"""Every submission on a GPU: its state comes back by way of the host, and it waits no more than it declares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.whole_step import waits_by_place
from perfbench.api.contracts.rehearsal import differences
from perfbench.api.contracts.tiny_problems import TINY_PROBLEMS, TinyProblem
from perfbench.api.submission import Submission
from perfbench.compose import compose_submission
from perfbench.registry import submission_builder, submission_names, with_stand_ins
from perfbench.spec.submission import HyperparameterPoint, PointSpace, RangeSpace, SubmissionSpec
from perfbench.tuning import halton
from perfbench.tuning.sampler import map_point
from tests.gpu.rehearsal import RehearsalOnDevice, on_host

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: submissions run on the CPU only"),
]
CUDA = torch.device("cuda")
FIRST, LAST = 6, 9
"""Steps after which the state is kept, and to which it is taken up again."""


def first_point(spec: SubmissionSpec) -> HyperparameterPoint | None:
    match spec.search_space:
        case PointSpace(points=points):
            return points[0]
        case RangeSpace() as space:
            return map_point(space, halton.points(len(space.dimensions), num_points=1)[0])
        case None:
            return None


@pytest.mark.parametrize("problem", TINY_PROBLEMS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("name", submission_names())
def test_state_comes_back_and_waits_are_as_declared(name: str, problem: TinyProblem, tmp_path: Path) -> None:
    spec = with_stand_ins(compose_submission(name), tmp_path)
    build = submission_builder(spec, first_point(spec))
    ours = RehearsalOnDevice(build, problem, seed=3, device=CUDA)
    ours.train(until=FIRST)
    kept, generators = on_host([ours.weights(), ours.submission.state_dict()]), ours.generators()
    position = (ours.num_batches, ours.num_steps)
    seen = watched(ours.submission)
    ours.train(until=LAST)
    expected = on_host([ours.weights(), ours.submission.state_dict()])

    ends = []
    for _ in range(2):
        again = RehearsalOnDevice(build, problem, seed=4, device=CUDA)
        with torch.no_grad():
            for path, tensor in again.model.state_dict().items():
                tensor.copy_(kept[0][path])
        again.submission.load_state_dict(on_host(kept[1]))
        again.num_batches, again.num_steps = position
        again.put_generators(generators)
        again.train(until=LAST)
        ends.append(on_host([again.weights(), again.submission.state_dict()]))

    assert sum(seen.values()) <= (spec.waits_per_step + 1) * (LAST - FIRST), seen  # a period may fall into these steps
    if not differences(*ends):  # else the device adds in any order, which is no fault of the state
        assert differences(expected, ends[0]) == []


def watched(submission: Submission) -> dict[str, int]:
    """Return what will hold the waits of every further update, by place."""
    seen: dict[str, int] = {}
    update = submission.update_params

    def counted(batch: dict[str, torch.Tensor]) -> object:
        with waits_by_place() as now:
            report = update(batch)
        for place, count in now.items():
            seen[place] = seen.get(place, 0) + count
        return report

    submission.update_params = counted  # type: ignore[method-assign, assignment]
    return seen
