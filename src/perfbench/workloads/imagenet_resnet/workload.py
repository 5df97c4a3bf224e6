"""The workload: the family's model on photographs."""

from __future__ import annotations

from pathlib import Path

from perfbench.data.images.loading import Augmentation
from perfbench.data.images.task import ImageWorkload
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.imagenet_resnet.model import ImageModel
from perfbench.workloads.imagenet_resnet.params import Params


def build(spec: WorkloadSpec, data_folder: Path) -> ResnetWorkload:
    """Build the workload on its prepared data."""
    return ResnetWorkload(spec, data_folder)


class ResnetWorkload(ImageWorkload):
    """Name what a photograph shows with a residual network; there is no dropout."""

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.params = Params.from_mapping(spec.params, where="workload.params")
        super().__init__(spec, self.params, Augmentation(), data_folder)

    def make_model(self) -> ImageModel:
        """Return the initialised model."""
        return ImageModel(self.params)
