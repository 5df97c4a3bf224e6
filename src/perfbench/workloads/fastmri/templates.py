"""Two heads in the public form, a person's and a macaque's, of Debian's ``mricron-data``; phase and noise are invented.

Both magnitudes are measured. Colin27 (``ch2``) is the mean of many scans of one person, with the skull; INIA19 is an
average of macaques, without it. The person's axial slices validate and test; all others train, those of the same head
in the other two directions among them: no result about reconstructing another head.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from perfbench.data.packages import PackagedFiles
from perfbench.data.preparation import PrepareRequest
from perfbench.workloads.fastmri.anatomy import SEED, cut, read_nifti, write_volumes
from perfbench.workloads.fastmri.params import Params

NAME = "brain_templates"
PERSON_FILE, MACAQUE_FILE = "ch2.nii.gz", "inia19-t1-brain.nii.gz"
PACKAGE = PackagedFiles(
    name="mricron-data",
    version="1.2.20211006+dfsg-4",
    folder="usr/share/mricron/templates",
    sha256={
        PERSON_FILE: "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309",
        MACAQUE_FILE: "3f0707f4999a0c6b56d6c9a0145310cba17753e2b4612f577d8dbfe65a89e231",
    },
)


def write_raw(
    folder: Path, params: Params, request: PrepareRequest, *, package: PackagedFiles = PACKAGE
) -> dict[str, JsonValue]:
    """Write the slices as ``singlecoil_train`` and ``singlecoil_val``; return where they come from.

    Raises:
        DataError: If the package is not there, or a file of it is another one.
    """
    source = package.checked(request.source, dataset=NAME)
    person, macaque = (
        cut(read_nifti(source / file, hint=f"install {package.name} again"), params, patient_id=patient_id)
        for file, patient_id in ((PERSON_FILE, "colin27"), (MACAQUE_FILE, "inia19"))
    )
    write_volumes(
        folder,
        params,
        request.progress,
        train=[person.sagittal, person.coronal, *macaque],
        held_out=person.axial,
    )
    return package.origin() | {"seed": SEED}
