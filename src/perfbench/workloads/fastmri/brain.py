"""Real anatomy in the public form: slices of the ICBM 2009a brain (package ``nilearn``), with invented phase and noise.

The magnitude is measured: an average over 152 people, without the skull. K-space is made from it. There is one head:
sagittal and coronal slices train, axial ones validate and test. Good for measuring training speed on real anatomy, and
no result about reconstructing another head.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import PrepareRequest
from perfbench.workloads.fastmri.anatomy import SEED, cut, read_nifti, write_volumes
from perfbench.workloads.fastmri.params import Params

NAME = "brain"
_FILE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
PACKAGE = PackagedFiles(
    name="nilearn",
    version="0.14.1",
    module="nilearn",
    folder="datasets/data",
    sha256={_FILE: "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"},
    instead="phantoms",
)


def write_raw(folder: Path, params: Params, request: PrepareRequest) -> dict[str, JsonValue]:
    """Write the slices as ``singlecoil_train`` and ``singlecoil_val``; return where they come from.

    Raises:
        DataError: If the package is not installed, or its file is not what it was.
    """
    path = PACKAGE.checked(dataset=NAME) / _FILE
    head = cut(read_nifti(path, hint=f"install {PACKAGE.name} again"), params, patient_id="icbm-2009a")
    write_volumes(folder, params, request.progress, train=[head.sagittal, head.coronal], held_out=head.axial)
    return PACKAGE.origin() | {"seed": SEED}
