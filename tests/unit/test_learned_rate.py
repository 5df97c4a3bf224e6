"""Sinv6: the form of its file, its network against slow obvious code, its steps against check figure C44."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from pathlib import Path
from typing import Any, cast

import msgpack
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from perfbench.api.contracts.rehearsal import Rehearsal
from perfbench.api.contracts.tiny_problems import TinyRegression
from perfbench.api.optim.learned_rate import LearnedRateSubmission, RatePredictor, RelativeAdam
from perfbench.api.optim.rate_weights import RateWeights, random_weights, read_weights, write_stand_in, write_weights
from perfbench.compose import compose_run, compose_submission
from perfbench.errors import SubmissionError
from perfbench.launch.plan import plan_trial
from perfbench.launch.preflight import check_trial
from perfbench.registry import submission_builder, with_stand_ins
from tests.unit.check_problems import matrix_problem, vector_problem

SHA256 = "d5a2902ebfbe51c5083607fb3fbc94b9e00bd4d044bbe72e0781fcc1e8502588"
WEIGHTS_VARIABLE = "PERFBENCH_SINV6_WEIGHTS"
"""Where the real file is, on a machine that has it."""

C44 = [  # loss before, multiplier, a1, a2, w11, w23 after
    [4.072813, 3.157820, 0.992105, -0.507895, 0.493784, -0.593784],
    [4.014776, 4.633993, 0.976590, -0.523403, 0.481642, -0.581638],
    [3.902692, 7.567111, 0.947276, -0.552657, 0.458990, -0.558957],
    [3.698051, 8.718956, 0.910610, -0.589074, 0.431368, -0.531227],
    [3.455930, 9.484254, 0.868763, -0.630239, 0.400910, -0.500503],
    [3.198180, 10.018589, 0.823340, -0.674165, 0.369235, -0.468309],
]
C44_LATER = {
    11: 11.1512,
    21: 11.7695,
    31: 11.8641,
    51: 11.5915,
    71: 11.0052,
    91: 9.0964,
    100: 7.8871,
    121: 6.1438,
}


class BothProblems:
    """Problems V and M of the specification as one model, and the loss whose gradients they give."""

    def __init__(self) -> None:
        self.a, self._gradient_a = vector_problem()
        self.w, self._gradient_w = matrix_problem()
        self._minimum = torch.tensor([[0.1, 0.2, -0.3], [0.4, -0.5, 0.6]])

    def loss(self) -> Tensor:
        a, w = self.a.detach(), self.w.detach()
        linear = torch.tensor([-0.1, 0.2])
        return 0.5 * a @ (self._gradient_a(a) + linear) + 0.5 * (self._gradient_w(w) * (w - self._minimum)).sum()

    def set_gradients(self) -> None:
        self.a.grad, self.w.grad = self._gradient_a(self.a.detach()), self._gradient_w(self.w.detach())

    def shown(self) -> list[float]:
        return [*self.a.tolist(), *self.w.detach()[[0, 1], [0, 2]].tolist()]


def test_the_steps_at_given_rates_are_those_of_the_entry() -> None:  # C44, the multipliers taken from it
    problem = BothProblems()
    optimizer = RelativeAdam([problem.a, problem.w])

    for loss, multiplier, *after in C44:
        assert float(problem.loss()) == pytest.approx(loss, rel=1e-4)
        problem.set_gradients()
        optimizer.param_groups[0]["lr"] = 0.001 * torch.tensor(multiplier)
        optimizer.step()
        assert problem.shown() == pytest.approx(after, rel=1e-4)


def test_with_the_real_weights_the_rates_are_those_of_the_entry() -> None:  # C44, all of it
    path = os.environ.get(WEIGHTS_VARIABLE)
    if path is None:
        pytest.skip(f"{WEIGHTS_VARIABLE} does not say where the meta-trained weights are")
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == SHA256
    problem = BothProblems()
    optimizer = RelativeAdam([problem.a, problem.w])
    predictor = RatePredictor(read_weights(Path(path)), horizon=100)

    for step in range(1, 122):
        problem.set_gradients()
        rate = predictor.next_rate(problem.loss())
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        if step <= len(C44):
            assert float(rate) == pytest.approx(0.001 * C44[step - 1][1], rel=1e-4)
            assert problem.shown() == pytest.approx(C44[step - 1][2:], rel=1e-4)
        if step in C44_LATER:
            assert float(rate) == pytest.approx(0.001 * C44_LATER[step], rel=1e-3)


@pytest.mark.parametrize("horizon", [100, 90.75])
def test_the_network_predicts_what_the_formulas_written_out_predict(horizon: float) -> None:
    weights = random_weights(seed=3).to(dtype=torch.float64)
    losses = [4.0, 3.5, 9.0, 3.0, 2.9, 50.0, *(2.8 + 0.3 * math.sin(number) for number in range(120))]
    predictor = RatePredictor(weights, horizon=horizon)

    actual = [float(predictor.next_rate(torch.tensor(loss, dtype=torch.float64))) for loss in losses]

    expected = rates_by_hand({k: v.numpy() for k, v in dataclasses.asdict(weights).items()}, losses, horizon=horizon)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    assert max(actual) / min(actual) > 1.01, "the losses matter"


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


def rates_by_hand(w: dict[str, Any], losses: list[float], *, horizon: float) -> list[float]:
    """Section 2.3.4 of the specification, one tensor row, number by number."""
    decays = [math.exp(-1 / 10 ** (1 + j / 9 * (math.log10(horizon) - 1))) for j in range(10)]
    means, minima, rates = [0.0] * 10, [999999999999.0] * 10, []
    hidden, cell = w["hidden"][0], w["cell"][0]
    for i, seen in enumerate(losses):
        largest = max(mean / (1 - d ** (i + 1)) for mean, d in zip(means, decays, strict=True)) if i else seen
        loss = min(2 * abs(largest), seen)
        means = [d * mean + (1 - d) * loss for mean, d in zip(means, decays, strict=True)]
        mu = [mean / (1 - d ** (i + 1)) for mean, d in zip(means, decays, strict=True)]
        minima = [min(low, m) for low, m in zip(minima, mu, strict=True)]
        loss_features = [
            0.0 if i < 2 else min(max((mu[j] - minima[j]) / max(1e-8, mu[j + 1] - minima[j]) - 1, -1), 1)
            for j in range(9)
        ]
        progress = [math.tanh(10 * (i / int(horizon) - t)) for t in (0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)]
        x = np.array([*progress, *loss_features])
        u = x @ w["own_w"] + w["own_b"] + np.maximum(x @ w["shared_w"] + w["shared_b"], 0)
        gates = np.concatenate([u, hidden]) @ w["gates_w"] + w["gates_b"]
        enter, new, keep, show = gates[:64], gates[64:128], gates[128:192], gates[192:]
        cell = sigmoid(keep + 1) * cell + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(show) * np.tanh(cell)
        rates.append(0.001 * min(max(float(hidden @ w["rate_w"][:, 0] + w["rate_b"][0]), 1e-5), 1000))
    return rates


def test_gradients_are_clamped_and_a_tensor_without_size_still_moves() -> None:
    zero, huge = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.full((2,), 2.0))
    zero.grad, huge.grad = torch.ones(2), torch.tensor([1e6, -1e6])
    optimizer = RelativeAdam([zero, huge])
    optimizer.param_groups[0]["lr"] = torch.tensor(0.01)

    optimizer.step()

    first = 0.1 / math.sqrt(0.001 + 1e-10)
    torch.testing.assert_close(zero.detach(), torch.full((2,), -0.01 * math.sqrt(1e-9) * first))
    clamped = torch.tensor([100.0, -100.0]) / math.sqrt(0.001 * 1000**2)
    torch.testing.assert_close(huge.detach(), 2 - 0.01 * 2 * clamped)


def test_a_file_of_the_right_arrays_has_the_size_of_the_real_one_and_reads_back(tmp_path: Path) -> None:
    weights = random_weights(seed=0)
    write_weights(weights, tmp_path / "theta.state")

    again = read_weights(tmp_path / "theta.state")

    assert (tmp_path / "theta.state").stat().st_size == 147_803
    tensors = [getattr(again, field.name) for field in dataclasses.fields(RateWeights)]
    assert sum(tensor.numel() for tensor in tensors) == 36_865
    for field, tensor in zip(dataclasses.fields(RateWeights), tensors, strict=True):
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, getattr(weights, field.name))


HINT = "\n  hint: it must be the file `theta.state` of the competition's entry, unchanged"


def test_a_file_of_another_form_is_refused_by_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_weights(random_weights(seed=0), path)
    tree = msgpack.unpackb(path.read_bytes())
    tree["rnn_params"]["step_size"]["w"] = tree["rnn_params"]["step_size"]["b"]
    tree["rnn_params"]["more"] = tree["rnn_params"].pop("linear")

    path.write_bytes(msgpack.packb(tree))
    with pytest.raises(SubmissionError) as differing:
        read_weights(path)

    assert str(differing.value) == (
        f"{path}: the arrays are not those expected; differing: rnn_params.linear.b, rnn_params.linear.w, "
        f"rnn_params.more.b, rnn_params.more.w, rnn_params.step_size.w{HINT}"
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "Unpack failed: incomplete input"),
        (b"weights", "unpack(b) received extra data."),
        (msgpack.packb([1, 2]), "a list where maps and arrays should be"),
        (msgpack.packb({"w": msgpack.ExtType(2, b"")}), "extension type 2"),
        (msgpack.packb({"w": msgpack.ExtType(1, msgpack.packb(((1,), "int8", b"1")))}), "an array of int8"),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)

    with pytest.raises(SubmissionError) as refused:
        read_weights(path)

    assert str(refused.value) == f"{path}: this is no file of weights: {what}{HINT}"


@pytest.mark.parametrize(("name", "horizon"), [("sinv6", 103.0), ("sinv6_75", 77.25)])
def test_the_two_entries_differ_in_their_horizon(tmp_path: Path, name: str, horizon: float) -> None:
    spec = with_stand_ins(compose_submission(name), tmp_path)
    rehearsal = Rehearsal(submission_builder(spec, None), TinyRegression(), seed=0, step_hint=103)

    submission = cast("LearnedRateSubmission", rehearsal.submission)

    assert submission._predictor._horizon == horizon
    assert spec.files["weights"].path == str(tmp_path / f"{name}.weights")
    assert compose_submission(name).files["weights"].sha256 == SHA256


@pytest.mark.parametrize("name", ["sinv6", "sinv6_75"])
def test_without_the_file_nothing_starts_and_the_error_says_where_it_comes_from(tmp_path: Path, name: str) -> None:
    trial = plan_trial(compose_run([f"submission={name}"]))
    stand_in = tmp_path / "theta.state"
    write_stand_in(stand_in)
    given = plan_trial(compose_run([f"submission={name}", f"submission.files.weights.path={stand_in}"]))

    with pytest.raises(SubmissionError) as missing:
        check_trial(trial, tmp_path / "runs", lambda *_: None)
    with pytest.raises(SubmissionError) as another:
        check_trial(given, tmp_path / "runs", lambda *_: None)

    where = f"submission {name}, files.weights.path"
    hint = (
        "\n  hint: get it from github.com/mlcommons/submissions_algorithms (theta.state of Sinv6, "
        "previous_leaderboards/algoperf_v05/submissions/self_tuning), "
        "then add submission.files.weights.path=/where/it/is"
    )
    assert trial.ruleset.kind == "self_tuning"
    assert str(missing.value) == f"{where}: needs a file that this repository does not hold{hint}"
    digest = hashlib.sha256(stand_in.read_bytes()).hexdigest()
    assert str(another.value) == f"{where}: {stand_in} is another file: its SHA-256 is {digest}{hint}"
    assert not (tmp_path / "runs").exists()


def test_a_path_is_made_absolute_before_it_reaches_the_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    trial = plan_trial(compose_run(["submission=sinv6", "submission.files.weights.path=here/theta.state"]))

    assert trial.submission.files["weights"].path == str(tmp_path / "here" / "theta.state")
