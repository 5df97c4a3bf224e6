"""What torchrec's users bring and what they know: its converter's files, and the model on its own modules."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from perfbench.compose import compose_workload
from perfbench.errors import DataError, PerfbenchError
from perfbench.workloads.criteo import planted, prepare
from perfbench.workloads.criteo.bags import Bags
from perfbench.workloads.criteo.model import ClickModel
from perfbench.workloads.criteo.params import Params
from perfbench.workloads.criteo.tsv import parse
from perfbench.workloads.criteo.workload import CriteoWorkload
from tests.unit.test_criteo_model import VARIANTS
from tests.unit.test_criteo_prepare import all_rows, request

ROWS_PER_DAY = 40


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole days of text."""
    pieces, folder = tmp_path_factory.mktemp("pieces"), tmp_path_factory.mktemp("text")
    planted.write_rows(pieces, lambda *_: None, seed=4, num_train_rows=23 * ROWS_PER_DAY, num_held_out_rows=107)
    for day in range(24):
        (folder / f"day_{day}").write_bytes(b"".join(p.read_bytes() for p in sorted(pieces.glob(f"day_{day}_*"))))
    return folder


@pytest.fixture(scope="module")
def converted(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same days as torchrec's own converter writes them."""
    from torchrec.datasets.criteo import BinaryCriteoUtils

    folder = tmp_path_factory.mktemp("converted")
    # torchrec opens files by a package that it does not require, and that adds nothing for those of this machine.
    opener = SimpleNamespace(open=open, set_strict_kwargs_checking=lambda _enabled: None)
    module = SimpleNamespace(PathManagerFactory=lambda: SimpleNamespace(get=lambda _key: opener))
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "iopath.common.file_io", module)
        for path in text.iterdir():
            names = [str(folder / f"{path.name}_{kind}.npy") for kind in ("dense", "sparse", "labels")]
            BinaryCriteoUtils.tsv_to_npys(str(path), *names)
    return folder


def test_days_of_torchrec_s_converter_become_the_rows_of_the_text(text: Path, converted: Path, tmp_path: Path) -> None:
    manifest = prepare.prepare(request(converted, tmp_path / "out"))

    expected = parse(b"".join((text / f"day_{day}").read_bytes() for day in range(23)), where="text")
    stored = all_rows(tmp_path / "out", manifest, "train")
    assert np.array_equal(stored.labels, expected.labels)
    assert np.array_equal(stored.integers, expected.integers)
    assert np.array_equal(stored.buckets, expected.buckets)
    from_text = prepare.prepare(request(text, tmp_path / "text"))
    assert {name: entry.blake2b for name, entry in manifest.files.items()} == {
        name: entry.blake2b for name, entry in from_text.files.items()
    }


def test_tokens_in_int32_are_the_same(converted: Path, tmp_path: Path) -> None:
    source = tmp_path / "int32"
    shutil.copytree(converted, source)
    for path in source.glob("*_sparse.npy"):
        np.save(path, np.load(path).astype(np.uint32).view(np.int32))

    narrow = prepare.prepare(request(source, tmp_path / "narrow"))

    wide = prepare.prepare(request(converted, tmp_path / "wide"))
    assert narrow.files == wide.files


def test_an_interrupted_conversion_continues(converted: Path, tmp_path: Path) -> None:
    whole = prepare.prepare(request(converted, tmp_path / "whole"))
    source = tmp_path / "source"
    shutil.copytree(converted, source)
    sparse = source / "day_3_sparse.npy"
    tokens = np.load(sparse)
    broken = tokens.copy()
    broken[20, 5] = 1 << 32
    np.save(sparse, broken)
    with pytest.raises(DataError, match=r"day_3_sparse.npy, row 20, column 5: 4294967296 is no token of 32 bits"):
        prepare.prepare(request(source, tmp_path / "out"))
    np.save(sparse, tokens)

    assert prepare.prepare(request(source, tmp_path / "out")).files == whole.files


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("day_7_sparse.npy", None, r"day_7_sparse.npy: the file is missing\n  hint: .*contig_freq"),
        ("day_7_sparse.npy", np.zeros((3, 26), dtype=np.float32), r"shape \(3, 26\) and type float32"),
        ("day_7_labels.npy", np.zeros((3, 1), dtype=np.int32), r"different numbers of rows: 40 dense, 40 sparse, 3"),
        ("day_7_labels.npy", np.full((40, 1), 2, dtype=np.int32), r"day_7_labels.npy, row 0, column 0: 2 is no label"),
        ("day_7_dense.npy", np.zeros((40, 13), dtype=np.float32), r"day_7_dense.npy: the most frequent value is 0.0"),
        ("day_7_dense.npy", np.arange(520, dtype=np.float32).reshape(40, 13), r"the most frequent value is 0.0"),
    ],
)
def test_files_of_another_form_are_named(
    converted: Path, tmp_path: Path, name: str, array: np.ndarray | None, message: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(converted, source)
    if array is None:
        (source / name).unlink()
    else:
        np.save(source / name, array)

    with pytest.raises(DataError, match=message):
        prepare.prepare(request(source, tmp_path / "out"))


def test_a_truncated_array_is_named(converted: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(converted, source)
    path = source / "day_7_sparse.npy"
    path.write_bytes(path.read_bytes()[:-8])

    with pytest.raises(DataError, match=r"day_7_sparse.npy: cannot be read as NumPy's"):
        prepare.prepare(request(source, tmp_path / "out"))


def both(variant: str, **changes: object) -> tuple[ClickModel, ClickModel]:
    """Return the default model and torchrec's, of one seed."""
    params = compose_workload(variant, scale="mini").params | changes
    models = []
    for embedding in ("torch", "torchrec"):
        torch.manual_seed(0)
        models.append(ClickModel(Params.from_mapping(params | {"embedding": embedding})))
    return models[0], models[1]


def clicks() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    integers = torch.randint(0, 1000, (64, 13), generator=generator, dtype=torch.int32)
    ids = torch.randint(0, 3_000, (64, 26), generator=generator, dtype=torch.int32)
    return integers, ids, (torch.rand(64, generator=generator) < 0.3).float()


@pytest.mark.parametrize(("variant", "is_compiled"), [*((variant, False) for variant in VARIANTS), ("criteo", True)])
def test_torchrec_s_model_has_the_same_weights_loss_and_gradients(variant: str, is_compiled: bool) -> None:
    integers, ids, targets = clicks()
    gradients, losses = [], []

    for model in both(variant):
        step = torch.compile(model, fullgraph=True, dynamic=False) if is_compiled else model
        loss = nn.functional.binary_cross_entropy_with_logits(step(integers, ids), targets)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append([parameter.grad for parameter in model.parameters()])

    ours, theirs = both(variant)
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
    for mine_grad, other_grad in zip(*gradients, strict=True):
        assert mine_grad is not None
        assert other_grad is not None
        assert not other_grad.is_sparse
        torch.testing.assert_close(other_grad, mine_grad, rtol=1e-5, atol=1e-8)


def test_nothing_of_it_is_on_another_device_or_waits_for_one() -> None:
    with FakeTensorMode(), torch.device("cuda"), torch.no_grad():
        vectors = Bags(1024, 16)(torch.zeros(8, 26, dtype=torch.int32))

    assert vectors.shape == (8, 26, 16)
    assert vectors.is_cuda


def test_a_missing_torchrec_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfbench.workloads.criteo.params.find_spec", lambda _name: None)

    with pytest.raises(PerfbenchError, match=r"no torchrec here: pip install"):
        both("criteo")


def test_roles_are_the_same() -> None:
    roles = [list(CriteoWorkload.parameter_roles(None, model).values()) for model in both("criteo_layernorm")]  # type: ignore[arg-type]  # needs no data

    assert roles[0] == roles[1]
