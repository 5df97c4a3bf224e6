"""What the fastmri tests share: parameters, the specification's fixed sequence, small volumes in the public form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.spec.workload import WorkloadSpec
from perfbench.workloads.fastmri.params import Params


def pseudo_random(count: int) -> NDArray[np.float64]:
    """Return the specification's fixed sequence in [-0.5, 0.5)."""
    h = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    h ^= h >> np.uint64(16)
    h = h * np.uint64(2246822519) % np.uint64(2**32)
    h ^= h >> np.uint64(13)
    return h / 2**32 - 0.5


def workload_of(variant: str = "fastmri", scale: str = "full", /, **changes: object) -> WorkloadSpec:
    """Return a workload with changed parameters."""
    spec = compose_workload(variant, scale=scale)
    return spec.model_copy(update={"params": {**spec.params, **changes}})


def params_of(variant: str = "fastmri", scale: str = "full", /, **changes: object) -> Params:
    """Return parameters with changes."""
    return Params.from_mapping(workload_of(variant, scale, **changes).params)


def request_for(workload: WorkloadSpec, source: object, destination: object) -> PrepareRequest:
    """Ask for a conversion."""
    return PrepareRequest(workload=workload, destination=destination, source=source, progress=_ignore, options={})  # type: ignore[arg-type]


def _ignore(what: str, done: int, total: int) -> None:
    """Take no notice of progress."""
