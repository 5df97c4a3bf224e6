"""What of a submission of AlgoPerf's form is saved and restored, whatever its state and its modules are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from perfbench.algoperf.adapter import AlgoperfSubmission, builder
from perfbench.api.contracts.rehearsal import Rehearsal, differences, read_back
from perfbench.api.contracts.tiny_problems import TinyClicks
from perfbench.errors import SubmissionError
from tests.algoperf_forms import UPDATE, rehearsed

STATE = """
class Phase(enum.Enum):
    FIRST = 1
    SECOND = 2

class Slotted:
    __slots__ = ("value",)

class Helper:
    pass

Point = collections.namedtuple("Point", "a b")
COUNTS = collections.deque([0], maxlen=4)
NOW = Phase.FIRST

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    parameters = list(model_params.parameters())
    total = 0
    def counted():
        nonlocal total
        total += 1
        return total
    inner = torch.optim.Adam(parameters, lr=0.01)
    outer = torch.optim.SGD(parameters, lr=0.1)
    outer.inner = inner
    buffer = torch.zeros(3)
    return {"outer": outer, "again": inner, "counted": counted, "phase": Phase.FIRST, "alias": parameters[0].detach(),
        "itself": parameters[1], "buffer": buffer, "same": buffer, "half": torch.zeros(2, dtype=torch.bfloat16),
        "queue": collections.deque(maxlen=3), "random": random.Random(5), "numpy": np.random.default_rng(5),
        "torch": torch.Generator().manual_seed(5), "array": np.zeros(2), "scalar": np.float64(0.0), "late": None,
        "point": Point(1, [0]), "set": set(), "partial": functools.partial(max, 0), "dtype": torch.float32,
        (1, "key"): 0}

def update_params(workload, current_param_container, batch, optimizer_state, global_step, **given):
    global NOW
    s = optimizer_state
    s["outer"].zero_grad()
    loss_of(workload, batch, forward(workload, current_param_container, batch)).backward()
    s["outer"].step()
    s["outer"].inner.step()
    COUNTS.append(COUNTS[-1] + 1)
    NOW = s["phase"] = Phase.SECOND if s["counted"]() % 2 else Phase.FIRST
    s["buffer"] += 1
    s["half"] += 0.3
    s["array"] += 2
    s["scalar"] = np.float64(s["scalar"] + s["numpy"].random() + s["random"].random())
    s["queue"].append([torch.rand(2, generator=s["torch"]), global_step])
    s["point"].b[0] += 1
    s["set"].add(global_step % 5)
    s[(1, "key")] += COUNTS[-1]
    if s["late"] is None and global_step == 2:
        s["late"] = Helper()
        s["late"].slotted = Slotted()
        s["late"].slotted.value = torch.full((2,), 7.0)
        s["late"].optimizer = s["outer"]
    if s["late"] is not None:
        s["late"].slotted.value += NOW.value
    return s, current_param_container, None
"""


def continued(text: str, folder: Path, *, saved_at: int, until: int) -> tuple[Any, Any, list[nn.Parameter]]:
    """Continue a saved rehearsal in a new one, which must end as the one that went on.

    Returns:
        What the new one's state held when it began, its state at the end, and its parameters.
    """
    first, second = rehearsed(text, folder), rehearsed(text, folder)
    first.train(until=saved_at)
    saved = first.saved()
    first.train(until=until)
    begun = dict(cast("Any", second.submission)._state)
    second.restore(saved)
    assert differences(read_back(saved), read_back(second.saved())) == []
    second.train(until=until)
    assert differences(read_back(first.saved()), read_back(second.saved())) == []
    parameters = list(second.model.parameters())
    for one, other in zip(first.model.parameters(), parameters, strict=True):
        assert torch.equal(one, other)
    return begun, cast("Any", second.submission)._state, parameters


def test_whatever_the_state_is_made_of_it_is_restored_in_place(tmp_path: Path) -> None:
    begun, state, parameters = continued(STATE, tmp_path, saved_at=5, until=9)

    assert state["buffer"] is begun["buffer"]
    assert state["again"] is state["outer"].inner
    assert state["same"] is state["buffer"]
    assert state["half"].dtype is torch.bfloat16
    assert state["itself"] is parameters[1]
    assert state["alias"].data_ptr() == parameters[0].data_ptr()
    assert state["late"].optimizer is state["outer"]


def test_a_second_trial_in_a_process_begins_with_what_the_import_left(tmp_path: Path) -> None:
    rehearsal = rehearsed(STATE, tmp_path)
    rehearsal.train(until=3)
    begun = cast("AlgoperfSubmission", rehearsal.submission)
    build = builder(Path(begun._module.__file__ or "").parent, None, {})

    again = Rehearsal(build, TinyClicks(), seed=1, step_hint=20)

    assert list(begun._module.COUNTS) == [0]
    again.train(until=1)
    assert begun._module.COUNTS[-1] == 1


def test_what_cannot_be_saved_is_named_by_its_place(tmp_path: Path) -> None:
    code = UPDATE.format(line="optimizer_state['numbers'] = {'endless': iter([1])}")
    rehearsal = rehearsed(code, tmp_path)
    rehearsal.train(until=1)

    with pytest.raises(
        SubmissionError, match=r"optimizer_state\[0\]\['numbers'\]\['endless'\] is of type list_iterator"
    ):
        rehearsal.saved()


GLOBAL_GENERATORS = """
def update_params(workload, current_param_container, batch, optimizer_state, **given):
    optimizer_state["sgd"].zero_grad()
    loss_of(workload, batch, forward(workload, current_param_container, batch)).backward()
    optimizer_state["sgd"].param_groups[0]["lr"] = random.choice([0.1, 0.2]) + 0.1 * np.random.random()
    optimizer_state["sgd"].step()
    return optimizer_state, current_param_container, None
"""


def test_the_check_lets_python_s_and_numpy_s_own_generators_go_on_as_a_trial_does(tmp_path: Path) -> None:
    first = rehearsed(GLOBAL_GENERATORS, tmp_path)
    first.train(until=3)
    saved = first.saved()
    first.train(until=9)
    expected = first.saved()

    first.restore(saved)
    first.train(until=9)
    again = rehearsed(GLOBAL_GENERATORS, tmp_path)
    again.train(until=9)

    assert differences(read_back(expected), read_back(first.saved())) == []
    assert differences(read_back(expected), read_back(again.saved())) == []


def test_the_check_tells_a_number_of_training_examples_as_a_trial_does(tmp_path: Path) -> None:
    code = UPDATE.format(line="assert workload.num_train_examples // 128 > 0")

    rehearsed(code, tmp_path).train(until=1)


VIEWS = """
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    parameters = list(model_params.parameters())
    gathered = torch.zeros(64, dtype=torch.int8)
    numbers = gathered.view(torch.float32)
    return {"sgd": torch.optim.SGD(parameters, lr=0.1), "parameters": parameters, "gathered": gathered,
        "first": numbers[:4], "block": parameters[0].detach()[1:3], "one": torch.zeros(()).expand(3)}

def update_params(workload, current_param_container, batch, optimizer_state, global_step, **given):
    s = optimizer_state
    s["sgd"].zero_grad()
    loss_of(workload, batch, forward(workload, current_param_container, batch)).backward()
    s["sgd"].step()
    if global_step == 1:
        s["flat"] = torch.zeros(10)
        s["parts"] = torch.split(s["flat"], 5)
        s["late"] = s["gathered"].view(torch.float32)[8:]
        s["row"] = s["parameters"][0].detach()[0]
        s["bits"] = s["parameters"][0].detach().view(torch.int32)[0]
    s["first"] += 1
    s["block"] *= 0.9
    if global_step > 0:
        s["flat"] += 1
        s["parts"][1].mul_(0.5)
        s["late"] += s["flat"][:8]
        s["row"] += s["late"].sum() / 1000
    return s, current_param_container, None
"""


def test_what_lies_in_one_storage_does_so_after_a_resume(tmp_path: Path) -> None:
    begun, state, parameters = continued(VIEWS, tmp_path, saved_at=4, until=8)

    assert state["gathered"] is begun["gathered"]
    assert state["late"].untyped_storage().data_ptr() == begun["gathered"].data_ptr()
    assert state["parts"][1].data_ptr() == state["flat"].data_ptr() + 5 * 4
    assert state["row"].data_ptr() == state["bits"].data_ptr() == parameters[0].data_ptr()


CAME_APART = """
def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
    one = torch.zeros(2)
    return {"one": one, "other": one.detach()}

def update_params(workload, current_param_container, batch, optimizer_state, global_step, **given):
    loss_of(workload, batch, forward(workload, current_param_container, batch)).backward()
    optimizer_state["other"] = torch.ones(2) * global_step
    return optimizer_state, current_param_container, None
"""


def test_tensors_that_came_apart_are_not_written_over_each_other(tmp_path: Path) -> None:
    first = rehearsed(CAME_APART, tmp_path)
    first.train(until=3)
    again = rehearsed(CAME_APART, tmp_path)

    again.restore(first.saved())

    state = cast("Any", again.submission)._state
    assert [state["one"].tolist(), state["other"].tolist()] == [[0.0, 0.0], [2.0, 2.0]]
