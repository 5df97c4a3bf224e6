"""The workload: the family's model on speech data."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from perfbench.api.workload import ParameterRole
from perfbench.data.modules import roles_of
from perfbench.data.speech.layers import LayerNorm, MaskedBatchNorm
from perfbench.data.speech.task import SpeechWorkload
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.librispeech_deepspeech.model import DeepSpeech
from perfbench.workloads.librispeech_deepspeech.params import Params


def build(spec: WorkloadSpec, data_folder: Path) -> DeepSpeechWorkload:
    """Build the workload on its prepared data."""
    return DeepSpeechWorkload(spec, data_folder)


class DeepSpeechWorkload(SpeechWorkload):
    """Speech to text with recurrent layers."""

    def __init__(self, spec: WorkloadSpec, data_folder: Path) -> None:
        self.params = Params.from_mapping(spec.params, where="workload.params")
        super().__init__(spec, self.params, data_folder)

    def make_model(self) -> DeepSpeech:
        """Return the initialised model."""
        return DeepSpeech(self.params)

    def parameter_roles(self, model: nn.Module) -> dict[str, ParameterRole]:
        """Return roles by the class of the module that holds the parameter."""
        return roles_of(model, _role)


def _role(module: nn.Module, name: str) -> ParameterRole:
    is_bias = name.startswith("bias")
    match module:
        case LayerNorm():
            return ParameterRole.LAYER_NORM_BIAS if is_bias else ParameterRole.LAYER_NORM_SCALE
        case MaskedBatchNorm():
            return ParameterRole.BATCH_NORM_BIAS if is_bias else ParameterRole.BATCH_NORM_SCALE
        case nn.Conv2d():
            return ParameterRole.BIAS if is_bias else ParameterRole.CONV_WEIGHT
        case _:
            return ParameterRole.BIAS if is_bias else ParameterRole.WEIGHT
