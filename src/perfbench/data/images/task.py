"""Naming what a photograph shows, without the model: batches, loss, evaluation, metrics. A family adds its model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from perfbench.api.picture import Picture
from perfbench.api.workload import Batch, BatchNormMode, LossSums, LossType, ParameterRole, Shard, TrainStream
from perfbench.data.classification import (
    classification_picture,
    classification_sums,
    finished_classification,
    roles_by_module,
    softmax_loss,
)
from perfbench.data.images.invented import invented_images
from perfbench.data.images.loading import Augmentation, ImageLoader
from perfbench.data.images.mixup import mixed
from perfbench.data.images.params import ImageParams
from perfbench.data.inventing import Inventor
from perfbench.data.modules import seeded, set_dropout_rate
from perfbench.spec.workload import Split, WorkloadSpec

_MOMENTUM = 0.1
"""Of batch norms, in every family on photographs."""


class ImageWorkload(ABC):
    """Photographs to classes; the metric is accuracy. Batches: :class:`ImageLoader`.

    The model maps images ``[b, 3, side, side]`` (bytes, or blends of bytes) to logits ``[b, classes]``.

    Args:
        spec: Facts.
        params: The family's parameters.
        augmentation: What is done to training images beyond crop and mirror.
        data_folder: Prepared data.
    """

    loss_type = LossType.SOFTMAX_CROSS_ENTROPY

    def __init__(self, spec: WorkloadSpec, params: ImageParams, augmentation: Augmentation, data_folder: Path) -> None:
        self.spec = spec
        self._params = params
        self._augmentation = augmentation
        self._folder = data_folder
        self._num_classes = params.num_classes

    @cached_property
    def _loader(self) -> ImageLoader:
        command = f"perfbench data prepare {self.spec.family}"
        return ImageLoader(self._folder, self._params, self._augmentation, prepare_command=command)

    @abstractmethod
    def make_model(self) -> nn.Module:
        """Return the model, initialised from the global generator."""

    def build_model(self, *, seed: int) -> nn.Module:
        """Build the initialised model; the global generator is left as it was."""
        with seeded(seed):
            return self.make_model()

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the class of the module that holds the parameter."""
        return roles_by_module(model)

    def loss(self, model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> LossSums:
        """Return the summed cross-entropy, of blended images and labels where the batch has partners."""
        images, targets = mixed(batch, self._num_classes)
        return softmax_loss(model(images), targets, batch["weights"], label_smoothing=label_smoothing)

    def train_batches(self, *, global_batch_size: int, seed: int, shard: Shard) -> TrainStream:
        """Open this rank's stream over shuffled images."""
        return self._loader.train_batches(global_batch_size=global_batch_size, seed=seed, shard=shard)

    def eval_batches(self, split: Split, *, global_batch_size: int, seed: int, shard: Shard) -> Iterator[Batch]:
        """Yield this rank's part of a split, padded to equal shapes."""
        return self._loader.eval_batches(split, global_batch_size=global_batch_size, seed=seed, shard=shard)

    def synthetic_batch(
        self,
        *,
        batch_size: int,
        seed: int,
        split: Split | None = None,
        num_ranks: int = 1,  # noqa: ARG002
    ) -> Batch:
        """Return an invented batch, with partners if training mixes images."""
        mixup_alpha = self._augmentation.mixup_alpha if split is None else 0.0
        return invented_images(Inventor(seed, split), self._params, batch_size=batch_size, mixup_alpha=mixup_alpha)

    def eval_sums(self, model: nn.Module, batch: Batch, *, split: Split) -> dict[str, Tensor]:  # noqa: ARG002
        """Return right predictions, summed loss and count."""
        return classification_sums(model(batch["inputs"]), batch)

    def finish_metrics(self, split: Split, sums: Mapping[str, Tensor]) -> dict[str, float]:
        """Return accuracy and loss.

        Raises:
            WorkloadError: If not every example was counted exactly once.
        """
        return finished_classification(split, sums, num_expected=self._loader.num_examples(split))

    def set_dropout(self, model: nn.Module, rate: float) -> None:
        """Set the rate of every dropout layer."""
        set_dropout_rate(model, rate)

    def set_batch_norm(self, model: nn.Module, mode: BatchNormMode) -> None:
        """Freeze running statistics (momentum 0), or update them; training always normalises with its batch's."""
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = _MOMENTUM if mode is BatchNormMode.UPDATE else 0.0

    def picture(self, model: nn.Module, batch: Batch) -> Picture:
        """Return images with their labels and wrong predictions."""
        return classification_picture(model, batch)
