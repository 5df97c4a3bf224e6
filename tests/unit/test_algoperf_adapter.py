"""What functions of AlgoPerf's form are given, what they are refused, and what of theirs is saved."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from perfbench.algoperf.adapter import AlgoperfSubmission, builder
from perfbench.algoperf.draws import RankDraws
from perfbench.algoperf.workload import presented_metric, their_metrics
from perfbench.api import TrainingComplete, TrainingContext
from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyClicks, TinyImages
from perfbench.api.generators import seed_generators
from perfbench.api.workload import Shard
from perfbench.errors import ConfigError, SubmissionError
from perfbench.spec.result import Measurement, PhaseTimes
from perfbench.spec.submission import HyperparameterPoint
from perfbench.spec.workload import Direction, Target
from tests.algoperf_forms import HEAD, UPDATE, copied, rehearsed
from tests.tiny_trials import run


@pytest.fixture
def submission_of(tmp_path: Path) -> Callable[..., Rehearsal]:
    """Return what makes a rehearsal of a folder that holds one file."""
    return lambda code, **given: rehearsed(code, tmp_path, **given)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("logits.pow(2)", "logits are no tensor: 'pow' was asked of them"),
        ("logits * 2", "logits are no tensor: '__mul__' was used on them"),
        ("1.0 - logits", "logits are no tensor: '__rsub__' was used on them"),
        ("logits[0]", "logits are no tensor: '__getitem__' was used on them"),
        ("torch.softmax(logits, 0)", "logits are no tensor: torch's 'softmax' was called on them"),
        ("workload.loss_fn(batch['targets'] + 0, logits)", "loss_fn was given other labels than the batch's"),
        ("workload.loss_fn(batch['targets'], logits, torch.ones(3))", "loss_fn was given another mask than the batch"),
        ("workload.loss_fn(batch['targets'], batch['targets'])", "loss_fn was given logits of type Tensor"),
        ("workload.eval_model()", "workload.eval_model is not offered"),
        ("workload.num_test_examples", "workload.num_test_examples is not offered"),
        ("workload.model_fn(None, batch)", "model_fn was given another model"),
        ("workload.model_fn(current_param_container, batch, None, spec.ForwardPassMode.EVAL)", "model_fn in mode EVAL"),
        ("batch['pixels']", "no 'pixels' in this workload's batches"),
    ],
)
def test_what_cannot_work_is_refused_with_the_author_s_line(
    submission_of: Callable[..., Rehearsal], line: str, expected: str
) -> None:
    rehearsal = submission_of(UPDATE.format(line=line))

    with pytest.raises(SubmissionError) as refused:
        rehearsal.train(until=1)

    number = (HEAD + UPDATE.format(line=line)).splitlines().index(f"    {line}") + 1
    assert str(refused.value).startswith(f"submission.py:{number}: {expected}")
    assert refused.value.hint


def test_what_is_not_offered_is_an_attribute_or_a_key_that_is_not_there(
    submission_of: Callable[..., Rehearsal],
) -> None:
    line = "assert not hasattr(workload, 'eval_model') and not hasattr(logits, 'pow') and batch.get('pixels') is None"

    assert submission_of(UPDATE.format(line=line)).train(until=2) is not None


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("optimizer_state", "update_params returned dict"),
        ("optimizer_state, torch.nn.Linear(1, 1), None", "update_params returned other parameters than it was given"),
    ],
)
def test_another_result_than_the_triple_is_refused(
    submission_of: Callable[..., Rehearsal], returned: str, expected: str
) -> None:
    code = f"def update_params(optimizer_state, **given): return {returned}"

    with pytest.raises(SubmissionError, match=expected):
        submission_of(code).train(until=1)


def test_an_error_of_theirs_is_theirs(submission_of: Callable[..., Rehearsal]) -> None:
    with pytest.raises(ZeroDivisionError):
        submission_of(UPDATE.format(line="1 / 0")).train(until=1)


def test_the_end_of_training_is_told(tmp_path: Path) -> None:
    folder = copied("four_spellings", tmp_path)
    rehearsal = Rehearsal(
        builder(folder, {"learning_rate": 0.05, "momentum": 0.9, "last_step": 7}, {}), TinyClicks(), seed=0, step_hint=9
    )

    rehearsal.train(until=9)

    assert (rehearsal.num_steps, rehearsal.is_complete) == (7, True)
    with pytest.raises(TrainingComplete):
        rehearsal.submission.update_params(rehearsal.problem.batch(0))


def rates(model: nn.Module) -> set[float]:
    return {module.p for module in model.modules() if isinstance(module, nn.Dropout)}


@pytest.mark.parametrize(
    ("point", "options", "expected"),
    [
        ({"dropout_rate": 0.3}, {}, 0.3),
        ({"dropout_rate": 0}, {}, 0.0),
        ({"dropout_rate": 0.3}, {"dropout": "file_only"}, 0.1),
        ({"lr": 0.3}, {}, 0.1),
    ],
)
def test_dropout_of_files_that_leave_it_to_the_runner(
    submission_of: Callable[..., Rehearsal], point: HyperparameterPoint, options: dict[str, str], expected: float
) -> None:
    rehearsal = submission_of(UPDATE.format(line=""), point=point, **options)
    rehearsal.train(until=2)

    assert rates(rehearsal.model) == {expected}


def test_dropout_that_is_passed_holds_for_that_pass_and_is_not_set_besides(
    submission_of: Callable[..., Rehearsal],
) -> None:
    code = """
def update_params(workload, current_param_container, batch, optimizer_state, global_step, **given):
    more = {"dropout_rate": 0.5} if global_step == 1 else {}
    loss_of(workload, batch, forward(workload, current_param_container, batch, **more)).backward()
    return optimizer_state, current_param_container, None
def unused(workload): workload.model_fn(dropout_rate=0.5)
"""
    rehearsal = submission_of(code, point={"dropout_rate": 0.3})
    seen = []
    for step in (1, 2, 3):
        rehearsal.train(until=step)
        seen.append(rates(rehearsal.model))

    assert seen == [{0.1}, {0.5}, {0.1}]


@pytest.mark.parametrize(("more", "expected"), [({}, None), ({"aux_dropout_rate": 0.25}, 0.25)])
def test_dropout_of_attention_and_input_is_apart_as_it_was(
    submission_of: Callable[..., Rehearsal],
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, float],
    expected: float | None,
) -> None:
    given: list[float | None] = []
    original = Rehearsal._context
    monkeypatch.setattr(
        Rehearsal,
        "_context",
        lambda self, **seed: dataclasses.replace(original(self, **seed), set_auxiliary_dropout=given.append),
    )

    submission_of(UPDATE.format(line=""), point={"dropout_rate": 0.3, **more})

    assert given == [expected]


def test_options_are_read_strictly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="options.dropout: input should be 'as_run' or 'file_only'"):
        builder(copied("nadamw", tmp_path), None, {"dropout": "never"})


def test_a_pass_without_gradients_is_run_at_once_and_moves_the_statistics_if_asked(
    submission_of: Callable[..., Rehearsal],
) -> None:
    code = """
def update_params(workload, current_param_container, batch, optimizer_state, global_step, **given):
    with torch.no_grad():
        forward(workload, current_param_container, batch, update_batch_norm=bool(global_step))
    return optimizer_state, current_param_container, None
"""
    rehearsal = submission_of(code, problem=TinyImages())
    means = [rehearsal.weights()["1.running_mean"]]
    for step in (1, 2):
        rehearsal.train(until=step)
        means.append(rehearsal.weights()["1.running_mean"])

    assert means[0].equal(means[1])
    assert not means[1].equal(means[2])


def test_the_reported_loss_is_the_first_one_s_mean(submission_of: Callable[..., Rehearsal]) -> None:
    rehearsal = submission_of(UPDATE.format(line=""), problem=TinyClicks(), point={"dropout_rate": 0.0})
    batch = rehearsal.problem.batch(0)
    sums = rehearsal.problem.loss(rehearsal.model, batch)

    report = rehearsal.train(until=1)

    assert report is not None
    assert float(report.loss) == float((sums.summed / sums.num_valid).detach())
    assert not report.loss.requires_grad


def counted_no_sync(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[int]:
    """Change the context of every rehearsal; return a list that grows whenever its ``no_sync`` is entered."""
    entered: list[int] = []

    @contextmanager
    def no_sync() -> Iterator[None]:
        entered.append(1)
        yield

    original = Rehearsal._context
    monkeypatch.setattr(
        Rehearsal,
        "_context",
        lambda self, **given: dataclasses.replace(original(self, **given), no_sync=no_sync, **changes),
    )
    return entered


def test_files_that_reduce_gradients_themselves_are_not_averaged_again(
    submission_of: Callable[..., Rehearsal], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = counted_no_sync(monkeypatch, num_train_examples=40)
    line = "current_param_container.require_backward_grad_sync = global_step < 2 and workload.num_train_examples == 40"

    submission_of(UPDATE.format(line=line)).train(until=5)

    assert len(entered) == 3


def test_with_several_ranks_the_model_answers_as_inside_of_its_wrapper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = counted_no_sync(monkeypatch, shard=Shard(num_ranks=2))
    code = """
def update_params(workload, current_param_container, batch, optimizer_state, global_step, **given):
    assert current_param_container.module is current_param_container
    with current_param_container.no_sync():
        loss_of(workload, batch, forward(workload, current_param_container, batch)).backward()
    loss_of(workload, batch, forward(workload, current_param_container.module, batch)).backward()
    optimizer_state["sgd"].step()
    optimizer_state["sgd"].zero_grad()
    return optimizer_state, current_param_container, None
"""
    rehearsal = rehearsed(code, tmp_path)
    names = list(rehearsal.model.state_dict())

    rehearsal.train(until=3)

    assert len(entered) == 3
    assert names == list(TinyClicks().build_model(seed=1).state_dict())
    assert rehearsal.model not in list(rehearsal.model.children())
    assert copy.deepcopy(rehearsal.model).module is not rehearsal.model


DRAWN_AT_BUILD = """
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    return [torch.rand(1).item(), random.random(), np.random.random()]

def update_params(**given): ...
"""


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_several_ranks_draw_alike_and_one_draws_as_any_submission(
    num_ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted_no_sync(monkeypatch, shard=Shard(num_ranks=num_ranks))
    context = Rehearsal._context
    drawn = []
    for rank in (0, 1):

        def seeded(self: Rehearsal, rank: int = rank, **given: Any) -> TrainingContext:
            seed_generators(5, rank=rank)  # as the engine does before a submission is built
            return context(self, **given)

        monkeypatch.setattr(Rehearsal, "_context", seeded)
        drawn.append(cast("Any", rehearsed(DRAWN_AT_BUILD, tmp_path).submission)._state)

    assert [one == other for one, other in zip(*drawn, strict=True)] == [num_ranks > 1] * 3


def test_on_several_ranks_the_model_draws_what_it_draws_under_a_submission_of_ours() -> None:
    """Dropout of two ranks differs, whatever a submission draws in between, and goes on after a resume."""
    seed_generators(5, rank=1)
    expected = torch.rand(6).tolist()
    seed_generators(5, rank=1)
    draws = RankDraws(torch.device("cpu"))
    seed_generators(5, rank=0)
    shared = torch.get_rng_state()
    drawn: list[float] = []
    for _ in range(3):
        with draws.drawing():
            drawn.append(torch.rand(1).item())
        assert torch.equal(torch.get_rng_state(), shared)
    resumed = RankDraws(torch.device("cpu"))
    resumed.state = draws.state
    torch.rand(4)
    for _ in range(3):
        with resumed.drawing():
            drawn.append(torch.rand(1).item())

    assert drawn == pytest.approx(expected, abs=0)


def test_a_communication_hook_is_refused_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted_no_sync(monkeypatch, shard=Shard(num_ranks=2))
    code = """
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    model_params.register_comm_hook(None, lambda state, bucket: None)

def update_params(**given): ...
"""

    with pytest.raises(SubmissionError, match=r"submission\.py:\d+: register_comm_hook is not offered"):
        rehearsed(code, tmp_path)


@pytest.mark.parametrize(
    ("metric", "direction", "expected"),
    [
        ("validation/loss", Direction.MINIMIZE, "loss"),
        ("validation/wer_algoperf", Direction.MINIMIZE, "wer"),
        ("validation/perplexity", Direction.MINIMIZE, "loss"),
        ("validation/accuracy", Direction.MAXIMIZE, "accuracy"),
    ],
)
def test_the_target_s_metric_is_presented_under_a_name_that_tells_its_direction(
    metric: str, direction: Direction, expected: str
) -> None:
    target = Target(metric=metric, direction=direction, threshold=0.5, source="test")
    measurement = Measurement(
        attempt=1,
        step=3,
        submission_time_s=2.5,
        metrics={metric: 0.25, "eval_train/accuracy": 1.0, "validation/num_examples": 10.0},
        phases=PhaseTimes(scored=2.5, eval=1.0),
        wall_time_utc="",
    )

    theirs = their_metrics(measurement, target)

    assert presented_metric(target) == expected
    assert theirs[f"validation/{expected}"] == 0.25
    assert (theirs["train/accuracy"], theirs["validation/num_examples"]) == (1.0, 10.0)
    assert (theirs["accumulated_submission_time"], theirs["total_duration"]) == (2.5, 3.5)


TRIAL = """
SEEN = []

def update_params(workload, current_param_container, batch, optimizer_state, eval_results, train_state, **given):
    optimizer_state["sgd"].zero_grad()
    loss_of(workload, batch, forward(workload, current_param_container, batch)).backward()
    optimizer_state["sgd"].step()
    SEEN.append((given["global_step"], len(eval_results), train_state["validation_goal_reached"]))
    return optimizer_state, current_param_container, None
"""


@pytest.mark.slow  # compiles both sides' graphs
def test_a_trial_of_both_sides_measures_it_and_shows_it_its_evaluations(tmp_path: Path) -> None:
    folder = tmp_path / "whole_trial"
    folder.mkdir()
    (folder / "submission.py").write_text(HEAD + TRIAL)
    built: list[AlgoperfSubmission] = []
    build = builder(folder, None, {})

    def kept(context: Any) -> Any:
        built.append(build(context))
        return built[0]

    result, _ = run(tmp_path, kept, every_steps=5, max_steps=12)

    assert result is not None
    assert result.num_steps == 12 or result.outcome.kind == "reached"
    seen = built[0]._module.SEEN
    assert [step for step, _, _ in seen] == list(range(result.num_steps))
    assert [number for _, number, _ in seen][:6] == [0, 0, 0, 0, 0, 1]
