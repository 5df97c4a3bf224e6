"""The workload: the family's model on speech data."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from perfbench.api.workload import ParameterRole
from perfbench.data.speech.layers import LayerNorm, MaskedBatchNorm
from perfbench.data.speech.task import SpeechWorkload
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.librispeech_conformer.model import (
    Conformer,
    ConvolutionModule,
    SelfAttention,
)
from perfbench.workloads.librispeech_conformer.params import Params


def build(spec: WorkloadSpec, data_folder: Path) -> ConformerWorkload:
    """Build the workload on its prepared data."""
    return ConformerWorkload(spec, data_folder)


class ConformerWorkload(SpeechWorkload):
    """Speech to text with a Conformer."""

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.params = Params.from_mapping(spec.params, where="workload.params")
        super().__init__(spec, self.params, data_folder)

    def make_model(self) -> Conformer:
        """Return the initialised model."""
        return Conformer(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return the published roles: dense layers of the convolution module count as convolutions."""
        modules = dict(model.named_modules())
        roles: dict[str, ParameterRole] = {}
        for path, module in modules.items():
            owner = modules.get(path.rpartition(".")[0])
            for name, _ in module.named_parameters(recurse=False):
                roles[f"{path}.{name}"] = _role(owner, module, path.rpartition(".")[2], name)
        return roles


def _role(owner: nn.Module | None, module: nn.Module, own_name: str, name: str) -> ParameterRole:
    is_bias = name == "bias"
    match owner, module:
        case _, LayerNorm():
            return ParameterRole.LAYER_NORM_BIAS if is_bias else ParameterRole.LAYER_NORM_SCALE
        case _, MaskedBatchNorm():
            return ParameterRole.BATCH_NORM_BIAS if is_bias else ParameterRole.BATCH_NORM_SCALE
        case SelfAttention(), nn.Linear():
            weight = ParameterRole.ATTENTION_QKV if own_name == "in_proj" else ParameterRole.ATTENTION_OUT
            return ParameterRole.ATTENTION_BIAS if is_bias else weight
        case (ConvolutionModule(), _) | (_, nn.Conv2d()):
            return ParameterRole.BIAS if is_bias else ParameterRole.CONV_WEIGHT
        case _:
            return ParameterRole.BIAS if is_bias else ParameterRole.WEIGHT
