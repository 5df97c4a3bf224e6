"""The file of the package fastMRI that holds its U-Net, without what ``import fastmri.models`` imports besides.

That is its reader of volumes with pandas, requests and h5py: 0.7 s and 80 MB in each process of a trial, for nothing.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from perfbench.errors import WorkloadError

_NAME = "fastmri.models.unet"


def unet_module() -> ModuleType:
    """Return fastMRI's module ``models.unet``; it has the name that it has there, so either import finds one module.

    Raises:
        WorkloadError: If the package is not installed.
    """
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = find_spec("fastmri")
    if package is None or package.origin is None:
        raise WorkloadError("the package fastmri is not installed", hint="pip install 'perfbench[mri]'")
    spec = spec_from_file_location(_NAME, Path(package.origin).parent / "models" / "unet.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)
    return module
