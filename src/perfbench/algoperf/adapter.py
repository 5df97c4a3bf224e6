"""A submission of theirs as a submission of ours: their functions are called as their runner calls them."""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import nn

from perfbench.algoperf.batches import InputQueue
from perfbench.algoperf.data_parallel import present_wrapper
from perfbench.algoperf.draws import RankDraws
from perfbench.algoperf.folder import FUNCTIONS, Folder, read_folder
from perfbench.algoperf.loading import load, modules_of, root_name
from perfbench.algoperf.module_state import ModuleState
from perfbench.algoperf.restoring import Restoring
from perfbench.algoperf.saving import Saving
from perfbench.algoperf.spec_names import TrainingCompleteError
from perfbench.algoperf.state import Surroundings
from perfbench.algoperf.workload import EvalResults, WorkloadView
from perfbench.api.generators import seed_generators
from perfbench.api.submission import StateDict, StepReport, TrainingComplete, TrainingContext
from perfbench.errors import SubmissionError
from perfbench.spec.base import Spec

_MIXING = np.uint64(0x9E3779B97F4A7C15)
"""The golden ratio's bits: neighbouring steps get numbers that are far apart."""


_KEPT: dict[str, ModuleState] = {}
"""What modules held when this process imported them, by their package: a second trial here begins with it, too."""


class Options(Spec):
    """What a folder of theirs leaves to its runner."""

    dropout: Literal["as_run", "file_only"] = "as_run"
    """As run: the runner of AlgoPerf v0.5 and v0.6 builds the model with the point's ``dropout_rate``; it is set here
    where no file gives one to ``model_fn``. Attention's dropout and the input's have ``aux_dropout_rate``, or the
    workload's own. File only: what files pass, else the workload's own."""


def builder(
    folder: Path, point: Mapping[str, JsonValue] | None, options: Mapping[str, JsonValue]
) -> Callable[[TrainingContext], AlgoperfSubmission]:
    """Import a folder and return what builds its submission.

    Args:
        folder: Theirs.
        point: Hyperparameters; ``None`` under self-tuning.
        options: As :class:`Options`.

    Raises:
        SubmissionError: If the folder holds no submission of theirs, or the options are none.
    """
    read, chosen = read_folder(folder), Options.from_mapping(options, where="options")
    module = load(read)
    missing = [name for name in FUNCTIONS if not callable(getattr(module, name, None))]
    if missing:
        raise SubmissionError(f"has no function {', '.join(missing)}", where=str(read.entry))
    root = root_name(folder)
    if root not in _KEPT:
        _KEPT[root] = ModuleState(modules_of(folder), _surroundings_of_modules(root))
    rate = (point or {}).get("dropout_rate")
    is_injected = chosen.dropout == "as_run" and isinstance(rate, float | int) and not read.passes_dropout
    dropout_rate = float(str(rate)) if is_injected else None

    def build(context: TrainingContext) -> AlgoperfSubmission:
        _KEPT[root].begin_anew()
        return AlgoperfSubmission(context, module, read, _KEPT[root], point=point, dropout_rate=dropout_rate)

    return build


class AlgoperfSubmission:
    """Calls a folder's functions.

    Args:
        context: What a submission is given.
        module: With their functions.
        folder: Where they are.
        kept: What their modules hold.
        point: Hyperparameters, ``None`` under self-tuning.
        dropout_rate: Set on the model once, before anything of theirs is called.
    """

    def __init__(
        self,
        context: TrainingContext,
        module: ModuleType,
        folder: Folder,
        kept: ModuleState,
        *,
        point: Mapping[str, JsonValue] | None,
        dropout_rate: float | None,
    ) -> None:
        self.state_is_sharded = context.shard.num_ranks > 1  # they may hold a part of the state each; nothing says so
        self.num_calls = 0
        self._context = context
        self._module = module
        self._kept = kept
        self._takes_train_state = "train_state" in inspect.signature(module.update_params).parameters
        self._hyperparameters = None if point is None else _as_theirs(point)
        self._queue = InputQueue()
        self._draws = RankDraws(context.device) if context.shard.num_ranks > 1 else None
        self._view = WorkloadView(context, self._queue, self._draws)
        self._results = EvalResults(context.measurements, context.target)
        self._model_state: object = None
        if context.shard.num_ranks > 1:
            present_wrapper(context.model)
            seed_generators(context.seed, rank=0)
        if dropout_rate is not None:
            auxiliary = (point or {}).get("aux_dropout_rate")
            self._view.modes.set_once(dropout_rate, None if auxiliary is None else float(str(auxiliary)))
        self._state: Any = module.init_optimizer_state(
            self._view, context.model, self._model_state, self._hyperparameters, self._random_numbers()
        )
        self._around = Surroundings(
            context.model,
            fixed=(context, self._view, self._queue, self._view.model_params_types, self._view.param_shapes),
            root=root_name(folder.path),
            device=context.device,
        )

    def data_selection(self, batches: Iterator[Any]) -> Any:  # noqa: ANN401 - whatever theirs chooses
        """Let theirs choose the batch."""
        return self._module.data_selection(
            self._view,
            self._queue.feed(batches),
            self._state,
            self._context.model,
            self._model_state,
            self._hyperparameters,
            self.num_calls,
            self._random_numbers(),
        )

    def update_params(self, batch: Any) -> StepReport:  # noqa: ANN401 - whatever theirs chose
        """Let theirs update the weights, once or often.

        Raises:
            TrainingComplete: If theirs says so.
        """
        given = self._given() | {"batch": batch}
        if self._takes_train_state:
            given["train_state"] = self._results.train_state()
        taken = self._queue.num_taken
        try:
            self._take(self._module.update_params(**given), "update_params")
        except TrainingCompleteError as ended:
            raise TrainingComplete from ended
        self.num_calls += 1
        drawn = self._queue.num_taken - taken
        return StepReport(loss=self._view.reported_loss(), extra={"batches_in_call": float(drawn)} if drawn else {})

    def prepare_for_eval(self) -> nn.Module:
        """Let theirs prepare, if it does; what it did to the weights stays until its next update."""
        prepare = getattr(self._module, "prepare_for_eval", None)
        if prepare is not None:
            self._take(prepare(**self._given()), "prepare_for_eval")
        return self._context.model

    def resume_training(self) -> None:
        """Do nothing: there is no such function of theirs."""

    def state_dict(self) -> StateDict:
        """Return the optimizer state, what the modules hold, and the number of calls."""
        return {
            "num_calls": self.num_calls,
            "optimizer_state": Saving(self._around).value([self._state, self._model_state], "optimizer_state"),
            "modules": self._kept.saved(),
            "model_generator": None if self._draws is None else self._draws.state,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Restore all of it, in place wherever that is possible."""
        self.num_calls = state["num_calls"]
        self._kept.restore(state["modules"])
        if self._draws is not None:
            self._draws.state = state["model_generator"]
        live = [self._state, self._model_state]
        restored = Restoring(self._around).value(live, state["optimizer_state"], "optimizer_state")
        self._state, self._model_state = restored

    def _given(self) -> dict[str, Any]:
        return {
            "workload": self._view,
            "current_param_container": self._context.model,
            "current_params_types": self._view.model_params_types,
            "model_state": self._model_state,
            "hyperparameters": self._hyperparameters,
            "loss_type": self._view.loss_type,
            "optimizer_state": self._state,
            "eval_results": self._results.listed(),
            "global_step": self.num_calls,
            "rng": self._random_numbers(),
        }

    def _take(self, returned: Any, function: str) -> None:  # noqa: ANN401 - a stranger's code returned it
        if not isinstance(returned, tuple) or len(returned) != 3:  # noqa: PLR2004 - the interface's triple
            raise SubmissionError(
                f"{function} returned {type(returned).__name__}",
                where=str(self._module.__file__),
                hint="return (optimizer_state, params, model_state)",
            )
        self._state, params, self._model_state = returned
        if params is not self._context.model:
            raise SubmissionError(
                f"{function} returned other parameters than it was given",
                where=str(self._module.__file__),
                hint="change current_param_container in place and return it",
            )

    def _random_numbers(self) -> NDArray[np.int32]:
        """Return two numbers that the seed and the number of calls fix, as their runner gives them."""
        mixed = (self._context.seed + (self.num_calls + 1) * int(_MIXING)) % 2**64
        return np.array([mixed >> 33, (mixed ^ mixed >> 29) & 0x7FFFFFFF], dtype=np.int32)


def _as_theirs(point: Mapping[str, JsonValue]) -> Any:  # noqa: ANN401 - a class that the names of the point make
    """Return a point as a named tuple: attributes that it does not have raise ``AttributeError``."""
    return namedtuple("Hyperparameters", tuple(point))(**point)


def _surroundings_of_modules(root: str) -> Surroundings:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Surroundings(nn.Module(), fixed=(), root=root, device=device)
