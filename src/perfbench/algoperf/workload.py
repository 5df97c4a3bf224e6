"""The workload as their functions see it: AlgoPerf's members, over a context of ours."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from perfbench.algoperf import spec_names
from perfbench.algoperf.batches import InputQueue, Logits, NotOffered, own_batch, refuse
from perfbench.algoperf.data_parallel import averages
from perfbench.algoperf.draws import RankDraws
from perfbench.api.submission import TrainingContext
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType
from perfbench.spec.result import Measurement
from perfbench.spec.workload import Direction, Target

_MINIMISED = ("loss", "wer")
"""The names by which their files know that a metric is to be small."""
_SPLITS = {"eval_train/": "train/"}
_EVALUATION = "evaluation is the benchmark's: read eval_results"
_NOT_OFFERED = {
    "eval_model": _EVALUATION,
    "_build_input_queue": "data_selection is given the batches",
    "init_model_fn": "the model is built and given to init_optimizer_state",
    "output_activation_fn": "there are no logits: model and loss are one graph",
    "num_validation_examples": 'eval_results has "validation/num_examples"',
    "num_test_examples": 'eval_results has "test/num_examples"',
}


class Modes:
    """Dropout and batch norm of the model: set where they differ from what is set already."""

    def __init__(self, context: TrainingContext) -> None:
        self._context = context
        self._built_with = {module: module.p for module in context.model.modules() if hasattr(module, "p")}
        self._batch_norm: BatchNormMode | None = None
        self._dropout: float | None = None

    def set_once(self, dropout_rate: float, auxiliary_rate: float | None) -> None:
        """Set the rates that hold where ``model_fn`` is given none, as a runner of v0.5 and v0.6 does.

        Args:
            dropout_rate: Of most layers.
            auxiliary_rate: Of attention or input; ``None`` for the workload's own.
        """
        self._context.set_dropout(dropout_rate)
        self._context.set_auxiliary_dropout(auxiliary_rate)
        self._built_with = {module: module.p for module in self._built_with}

    def apply(self, batch_norm: BatchNormMode, dropout_rate: float | None) -> None:
        """Make the next forward pass one of these modes."""
        if batch_norm is not self._batch_norm:
            self._context.set_batch_norm(batch_norm)
            self._batch_norm = batch_norm
        if dropout_rate == self._dropout:
            return
        if dropout_rate is None:
            for module, rate in self._built_with.items():
                module.p = rate
        else:
            self._context.set_dropout(dropout_rate)
        self._dropout = dropout_rate


class WorkloadView:
    """Their workload.

    Args:
        context: What a submission is given.
        queue: Their view of the batches.
        draws: What the model draws from, where that is not what the submission draws from.
    """

    def __init__(self, context: TrainingContext, queue: InputQueue, draws: RankDraws | None = None) -> None:
        self._context = context
        self._queue = queue
        self._draws = draws
        self._first_sums: LossSums | None = None
        self.modes = Modes(context)
        self.step_hint = context.step_hint
        self.max_allowed_runtime_sec = context.max_submission_time_s
        self.eval_period_time_sec = context.eval_period_s
        self.target_metric_name = presented_metric(context.target)
        self.validation_target_value = context.target.threshold
        self.loss_type = their_loss_type(context.loss_type)
        self.metrics_logger = None
        if context.num_train_examples is not None:
            self.num_train_examples = context.num_train_examples
        self.param_shapes = {
            name: spec_names.ShapeTuple(tuple(parameter.shape)) for name, parameter in context.model.named_parameters()
        }
        self.model_params_types = {
            name: spec_names.ParameterType[role.value.upper()] for name, role in context.roles.items()
        }

    def model_fn(
        self,
        params: nn.Module,
        augmented_and_preprocessed_input_batch: Batch,
        model_state: object = None,
        mode: spec_names.ForwardPassMode = spec_names.ForwardPassMode.TRAIN,
        rng: object = None,  # noqa: ARG002 - theirs; the model draws from torch's generator
        update_batch_norm: bool = True,  # noqa: FBT001, FBT002 - theirs
        dropout_rate: float | None = None,
    ) -> tuple[Logits, object]:
        """Return a token for the logits, and no model state; without gradients the forward pass is run at once."""
        if params is not self._context.model:
            refuse("model_fn was given another model", hint="give it current_param_container, as it is")
        if mode is not spec_names.ForwardPassMode.TRAIN:
            refuse(f"model_fn in mode {getattr(mode, 'name', mode)}", hint=_EVALUATION, kind=NotOffered)
        batch = augmented_and_preprocessed_input_batch
        own = own_batch(batch)
        batch_norm = BatchNormMode.UPDATE if update_batch_norm else BatchNormMode.FREEZE
        logits = Logits(own, batch.get("targets"), batch_norm, dropout_rate)
        if not torch.is_grad_enabled():
            logits.sums = self._sums(logits, label_smoothing=0.0)
        return logits, model_state

    def loss_fn(
        self,
        label_batch: object,
        logits_batch: object,
        mask_batch: object = None,
        label_smoothing: float = 0.0,
    ) -> dict[str, Tensor]:
        """Return this rank's sums of the loss that belongs to a token."""
        if not isinstance(logits_batch, Logits):
            refuse(
                f"loss_fn was given logits of type {type(logits_batch).__name__}",
                hint="give it what model_fn returned, untouched",
            )
        if label_batch is not logits_batch.labels:
            refuse("loss_fn was given other labels than the batch's", hint='give it batch["targets"] as it is')
        if mask_batch is not None and mask_batch is not logits_batch.batch.get("weights"):
            refuse("loss_fn was given another mask than the batch's", hint='give it batch.get("weights") as it is')
        sums = logits_batch.sums
        if sums is None:
            sums = self._sums(logits_batch, label_smoothing=label_smoothing)
        elif label_smoothing:  # the forward pass was run without gradients; its statistics have moved already
            logits_batch.batch_norm = BatchNormMode.FREEZE
            with torch.no_grad():
                sums = self._sums(logits_batch, label_smoothing=label_smoothing)
        if self._first_sums is None:
            self._first_sums = sums
        return {"summed": sums.summed, "n_valid_examples": sums.num_valid, "per_example": sums.per_example}

    def has_reached_validation_target(self, eval_result: dict[str, float]) -> bool:
        """Tell whether metrics of theirs reach the target."""
        value = eval_result[f"validation/{self.target_metric_name}"]
        is_small = self._context.target.direction is Direction.MINIMIZE
        return bool(value <= self.validation_target_value if is_small else value >= self.validation_target_value)

    def attach_metrics_logger(self, metrics_logger: object) -> None:
        """Do nothing: what a step tells is the loss, and the benchmark records it."""

    def reported_loss(self) -> Tensor:
        """Return the mean loss of the first ``loss_fn`` since the last call, not a number if there was none."""
        sums, self._first_sums = self._first_sums, None
        if sums is None:
            return torch.full((), float("nan"), device=self._context.device)
        detached = LossSums(sums.summed.detach(), sums.num_valid.detach(), sums.per_example.detach())
        return self._context.global_mean(detached)

    def _sums(self, logits: Logits, *, label_smoothing: float) -> LossSums:
        self.modes.apply(logits.batch_norm, logits.dropout_rate)
        drawing = nullcontext() if self._draws is None else self._draws.drawing()
        with drawing, nullcontext() if averages(self._context.model) else self._context.no_sync():
            return self._context.loss(logits.batch, label_smoothing=label_smoothing)

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse every other member, by name."""
        hint = _NOT_OFFERED.get(name, "what a submission may know is in docs/how-to/algoperf.md")
        refuse(f"workload.{name} is not offered", hint=hint, kind=NotOffered)


class EvalResults:
    """Evaluations in their form: a list that grows with the trial's measurements."""

    def __init__(self, measurements: Sequence[Measurement], target: Target) -> None:
        self._measurements = measurements
        self._target = target
        self._listed: list[tuple[int, dict[str, float]]] = []

    def listed(self) -> list[tuple[int, dict[str, float]]]:
        """Return all of them, oldest first."""
        for number in range(len(self._listed), len(self._measurements)):
            measurement = self._measurements[number]
            self._listed.append((measurement.step, their_metrics(measurement, self._target)))
        return self._listed

    def train_state(self) -> dict[str, Any]:
        """Return what their runner knows of the trial's progress; times are of the last evaluation."""
        last = self._measurements[-1] if len(self._measurements) else None
        reached = last is not None and self._target.is_reached_by(last.metrics)
        return {
            "validation_goal_reached": reached,
            "test_goal_reached": False,
            "is_time_remaining": True,
            "last_eval_time": 0.0,
            "training_complete": False,
            "accumulated_submission_time": 0.0 if last is None else last.submission_time_s,
            "accumulated_eval_time": 0.0 if last is None else last.phases.eval,
            "accumulated_logging_time": 0.0 if last is None else last.phases.logging,
            "last_step_end_time": None,
        }


def their_metrics(measurement: Measurement, target: Target) -> dict[str, float]:
    """Return an evaluation under their names, with the target's metric under the name that is presented."""
    metrics: dict[str, float] = {}
    for name, value in measurement.metrics.items():
        split, _, metric = name.partition("/")
        metrics[f"{_SPLITS.get(f'{split}/', f'{split}/')}{metric}"] = value
    split, _, _ = target.metric.partition("/")
    if target.metric in measurement.metrics:
        metrics[f"{split}/{presented_metric(target)}"] = measurement.metrics[target.metric]
    return metrics | {
        "score": measurement.submission_time_s,
        "total_duration": measurement.phases.wall_s(),
        "accumulated_submission_time": measurement.submission_time_s,
        "accumulated_eval_time": measurement.phases.eval,
        "accumulated_logging_time": measurement.phases.logging,
    }


def presented_metric(target: Target) -> str:
    """Return the name of the target's metric for them: their files take what is none of two names for a maximum."""
    name = target.metric.partition("/")[2]
    if target.direction is Direction.MAXIMIZE or name in _MINIMISED:
        return name
    return next((known for known in _MINIMISED if name.startswith(known)), "loss")


def their_loss_type(loss_type: LossType) -> spec_names.LossType:
    """Return a loss type as theirs."""
    return spec_names.LossType["CTC_LOSS" if loss_type is LossType.CTC else loss_type.name]
