"""The workload: the family's model on augmented and mixed photographs."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from perfbench.api.workload import ParameterRole
from perfbench.data.images.loading import Augmentation
from perfbench.data.images.task import ImageWorkload
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.imagenet_vit.model import Attention, PoolingAttention, VisionTransformer
from perfbench.workloads.imagenet_vit.params import Params

_ATTENTION_WEIGHTS = {
    "query": ParameterRole.ATTENTION_Q,
    "key": ParameterRole.ATTENTION_K,
    "value": ParameterRole.ATTENTION_V,
    "key_value": ParameterRole.ATTENTION_KV,
    "out": ParameterRole.ATTENTION_OUT,
}


def build(spec: WorkloadSpec, data_folder: Path) -> VitWorkload:
    """Build the workload on its prepared data."""
    return VitWorkload(spec, data_folder)


class VitWorkload(ImageWorkload):
    """Name what a photograph shows with a vision transformer; there is no batch norm."""

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.params = Params.from_mapping(spec.params, where="workload.params")
        augmentation = Augmentation(self.params.rand_augment_operations, self.params.mixup_alpha)
        super().__init__(spec, self.params, augmentation, data_folder)

    def make_model(self) -> VisionTransformer:
        """Return the initialised model."""
        return VisionTransformer(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the module that holds the parameter; the learned query of the pooling is a weight."""
        roles = super().parameter_roles(model)
        for path, module in model.named_modules():
            if isinstance(module, Attention | PoolingAttention):
                for name, role in _ATTENTION_WEIGHTS.items():
                    if hasattr(module, name):
                        roles[f"{path}.{name}.weight"] = role
                        roles[f"{path}.{name}.bias"] = ParameterRole.ATTENTION_BIAS
        return roles
