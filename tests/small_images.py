"""A few drawn images in each of the public layouts: the archives as they are distributed, and class folders."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from perfbench.compose import compose_workload
from perfbench.data.images.params import ImageParams
from perfbench.data.preparation import PrepareRequest
from perfbench.spec.workload import WorkloadSpec

NUM_CLASSES = 12
"""More than ten: integer folders sorted as text would be in another order."""
WNIDS = [f"n{number:08d}" for number in range(100, 100 + NUM_CLASSES)]
TRAIN_PER_CLASS = 4
VALIDATION = 2 * NUM_CLASSES
COUNTS = {"train": TRAIN_PER_CLASS * NUM_CLASSES, "validation": VALIDATION, "test": NUM_CLASSES}


def jpeg(label: int, number: int, mode: str = "RGB") -> bytes:
    """Return an image whose colours tell its label and number."""
    generator = np.random.default_rng((label, number))
    pixels = generator.integers(0, 256, size=(44 + number % 3, 40, 3), dtype=np.uint8)
    pixels[..., 0] = 20 * label
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, format="JPEG", quality=90)
    return stream.getvalue()


def validation_label(number: int) -> int:
    """Return the class of validation image ``number`` (from 1)."""
    return number * 7 % NUM_CLASSES


def write_folders(folder: Path) -> None:
    """Write ``train``, ``val`` and ``test`` with a folder per class."""
    for label, wnid in enumerate(WNIDS):
        for kind, name in (("train", wnid), ("val", wnid), ("test", str(label))):
            (folder / kind / name).mkdir(parents=True)
        for number in range(TRAIN_PER_CLASS):
            (folder / "train" / wnid / f"{wnid}_{number}.JPEG").write_bytes(jpeg(label, number))
        (folder / "test" / str(label) / "a.jpeg").write_bytes(jpeg(label, 99))
    for number in range(1, VALIDATION + 1):
        label = validation_label(number)
        path = folder / "val" / WNIDS[label] / f"ILSVRC2012_val_{number:08d}.JPEG"
        path.write_bytes(jpeg(label, 50 + number))


def write_archives(folder: Path) -> None:
    """Write the four archives with the same images as :func:`write_folders`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for label, wnid in reversed(list(enumerate(WNIDS))):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode="w") as inner:
                for number in range(TRAIN_PER_CLASS):
                    _add(inner, f"{wnid}_{number}.JPEG", jpeg(label, number))
            _add(outer, f"{wnid}.tar", stream.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as archive:
        for number in range(VALIDATION, 0, -1):
            _add(archive, f"ILSVRC2012_val_{number:08d}.JPEG", jpeg(validation_label(number), 50 + number))
    with tarfile.open(folder / "imagenetv2-matched-frequency.tar.gz", "w:gz") as archive:
        for label in range(NUM_CLASSES):
            _add(archive, f"imagenetv2-matched-frequency-format-val/{label}/a.jpeg", jpeg(label, 99))
    _write_devkit(folder / "ILSVRC2012_devkit_t12.tar.gz")


def _write_devkit(path: Path) -> None:
    """ILSVRC ids run against the order of the wnids, and one synset is no class."""
    ids = {label: NUM_CLASSES - label for label in range(NUM_CLASSES)}
    synsets = np.zeros(
        (NUM_CLASSES + 1, 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)]
    )
    for row, (label, number) in enumerate(ids.items()):
        synsets[row, 0] = (float(number), WNIDS[label], 0.0)
    synsets[NUM_CLASSES, 0] = (float(NUM_CLASSES + 1), "n00000001", 3.0)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    truth = "".join(f"{ids[validation_label(number)]}\n" for number in range(1, VALIDATION + 1))
    with tarfile.open(path, "w:gz") as archive:
        _add(archive, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        _add(archive, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth.encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def spec_of(**changes: object) -> WorkloadSpec:
    """Return a workload at mini scale on these images."""
    spec = compose_workload("imagenet_resnet", scale="mini")
    own = {"num_classes": NUM_CLASSES, "expected_examples": COUNTS, "eval_train_examples": 10}
    return spec.model_copy(update={"params": spec.params | own | changes, "dataset": "drawn"})


def params_of(**changes: object) -> ImageParams:
    """Return the data parameters of :func:`spec_of`."""
    params = spec_of(**changes).params
    return ImageParams.from_mapping({name: params[name] for name in ImageParams.model_fields})


def request(source: Path | None, destination: Path) -> PrepareRequest:
    """Return a request to prepare these images."""
    return PrepareRequest(
        workload=spec_of(),
        destination=destination,
        source=source,
        progress=lambda what, done, total: None,
        options={},
    )
