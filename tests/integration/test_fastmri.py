"""The workload as the engine uses it: order, exactness, whole compilation, two ranks, full-size shapes."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from perfbench.api.workload import Batch, Shard
from perfbench.results.store import TrialFolder
from perfbench.spec.workload import Split, WorkloadSpec
from perfbench.workloads.fastmri import phantoms, prepare
from perfbench.workloads.fastmri.masks import kept_columns
from perfbench.workloads.fastmri.phantoms import Layout
from perfbench.workloads.fastmri.workload import FastMriWorkload, build
from tests.integration import small_criteo
from tests.integration.one_graph import ONE_FOR_TRAINING_ONE_FOR_EVALUATION, graphs_of_training_and_evaluating
from tests.unit.fastmri_figures import params_of, request_for, workload_of

VARIANTS = ("fastmri", "fastmri_model_size", "fastmri_tanh", "fastmri_layernorm")
LAYOUT = Layout(num_train=4, num_validation=2, num_test=1, slices_per_volume=10)
CHANGES: dict[str, object] = {
    "channels": 4,
    "num_pools": 2,
    "image_size": 32,
    "kspace_rows": 64,
    "eval_train_examples": 12,
    "expected_examples": {"train": 40, "validation": 17, "test": 10},
    "expected_volumes": {"train": 4, "validation": 2, "test": 1},
}


def prepared(folder: Path, workload: WorkloadSpec, layout: Layout) -> Path:
    raw = folder / "raw"
    phantoms.write_volumes(raw, params_of(**workload.params), lambda *_: None, layout, seed=3)
    prepare.prepare(request_for(workload, raw, folder / "fastmri" / "mini" / "phantoms"))
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("data"), workload_of("fastmri", "mini", **CHANGES), LAYOUT)


def small(root: Path, variant: str = "fastmri", **changes: object) -> FastMriWorkload:
    spec = workload_of(variant, "mini", **CHANGES, **changes)
    return build(spec, root / "fastmri" / "mini" / "phantoms")


def first_batches(workload: FastMriWorkload, count: int, *, seed: int = 0) -> list[Batch]:
    stream = workload.train_batches(global_batch_size=8, seed=seed, shard=Shard())
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def metrics(
    workload: FastMriWorkload, model: nn.Module, split: Split, *, size: int, num_ranks: int = 1
) -> dict[str, float]:
    total: dict[str, Tensor] = {}
    with torch.no_grad():
        for rank in range(num_ranks):
            shard = Shard(rank=rank, num_ranks=num_ranks)
            for batch in workload.eval_batches(split, global_batch_size=size, seed=0, shard=shard):
                for name, value in workload.eval_sums(model, batch, split=split).items():
                    total[name] = total[name] + value if name in total else value
    return workload.finish_metrics(split, total)


@pytest.mark.parametrize("split", list(Split))
def test_evaluation_does_not_depend_on_ranks_batches_or_threads(root: Path, split: Split) -> None:
    workload = small(root)
    model = workload.build_model(seed=0).eval()
    expected = metrics(workload, model, split, size=1)

    for size, num_ranks in ((4, 1), (4, 4), (6, 2), (64, 1), (64, 2)):
        actual = metrics(workload, model, split, size=size, num_ranks=num_ranks)
        assert actual == pytest.approx(expected, rel=1e-6)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        threaded = small(root)
        again = metrics(threaded, model, split, size=1)
    finally:
        torch.set_num_threads(before)
    assert again == pytest.approx(expected, rel=1e-6)


def test_threads_change_no_bit_of_a_batch(root: Path) -> None:
    alone = first_batches(small(root), 2)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        together = first_batches(small(root), 2)
    finally:
        torch.set_num_threads(before)

    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_slice_keeps_its_mask_over_epochs_and_changes_it_with_the_seed(root: Path) -> None:
    workload = small(root)

    def means_by_slice(seed: int, skip: int) -> dict[int, float]:
        stream = workload.train_batches(global_batch_size=8, seed=seed, shard=Shard())
        batches = list(itertools.islice(stream, skip, skip + 5))
        ids = [int(i) for index in range(skip, skip + 5) for i in stream.example_ids(index)]
        stream.close()
        return dict(zip(ids, torch.cat([batch["mean"] for batch in batches]).tolist(), strict=True))

    first, later, other = means_by_slice(1, 0), means_by_slice(1, 5), means_by_slice(2, 0)

    assert set(first) == set(range(40))
    assert first == later
    assert first != other


def test_validation_slices_have_the_one_published_mask(root: Path) -> None:
    workload = small(root)
    (batch,) = workload.eval_batches(Split.VALIDATION, global_batch_size=17, seed=5, shard=Shard())
    record = workload._loaders["validation"]._reader.read(3)
    kept = kept_columns((0, 0), record.hybrid.shape[1], acceleration=4, center_fraction=0.08)
    image = torch.fft.ifft(torch.fft.ifftshift(torch.from_numpy(record.hybrid * kept), dim=-1), norm="ortho")
    image = torch.fft.fftshift(image, dim=-1).abs()
    left = (image.shape[1] - 32) // 2

    assert float(batch["mean"][3]) == pytest.approx(float(image[:, left : left + 32].mean()), rel=1e-5)


def test_missing_examples_are_an_error(root: Path) -> None:
    from perfbench.errors import WorkloadError

    sums = {name: torch.tensor(9.0) for name in ("ssim", "loss", "num_examples")}
    with pytest.raises(WorkloadError, match="test: evaluated 9 examples instead of 10"):
        small(root).finish_metrics(Split.TEST, sums)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fastmri_layernorm"])  # the conformance suite compiles the others
def test_one_graph_and_no_recompilation_over_epochs_splits_and_last_batches(variant: str, root: Path) -> None:
    workload = small(root, variant)
    graphs = graphs_of_training_and_evaluating(workload, train_batch_size=8, eval_batch_size=6, num_steps=11)

    assert graphs == ONE_FOR_TRAINING_ONE_FOR_EVALUATION


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_full_size_shapes_train_compile_and_evaluate(variant: str, tmp_path: Path) -> None:
    """Data in the public form at its size: 640 rows, 368 and 400 columns, images of 320 pixels."""
    layout = Layout(num_train=1, num_validation=1, num_test=1, slices_per_volume=2)
    counts = {"train": 2, "validation": 2, "test": 2}
    spec = workload_of(
        variant,
        "full",
        expected_examples={**counts, "validation": 7},
        expected_volumes={"train": 1, "validation": 1, "test": 1},
    )
    prepared(tmp_path, spec, layout)
    workload = build(spec, tmp_path / "fastmri" / "mini" / "phantoms")
    model = workload.build_model(seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    compiled = torch.compile(
        lambda batch: workload.loss(model, batch), fullgraph=True, dynamic=False, backend="aot_eager"
    )
    stream = workload.train_batches(global_batch_size=2, seed=0, shard=Shard())
    batch = next(stream)
    stream.close()

    sums = compiled(batch)
    (sums.summed / sums.num_valid).backward()
    optimizer.step()
    model.eval()
    after = metrics(workload, model, Split.TEST, size=2)

    assert batch["inputs"].shape == (2, 320, 320)
    assert 0.2 < float(sums.summed.detach()) / 2 < 2.5
    assert -1 <= after["ssim"] <= 1


@pytest.mark.slow
def test_metrics_of_two_ranks_equal_those_of_one(root: Path, tmp_path: Path) -> None:
    found = []
    for num_ranks in (1, 2):
        runs = tmp_path / str(num_ranks)
        command = [
            *(sys.executable, "-m", "perfbench", "run", "workload=fastmri", "submission=baseline", "trial=3"),
            *(f"data_root={root}", f"runs_root={runs}", f"cluster.nproc_per_node={num_ranks}"),
            *(f"workload.params.{name}={_hydra(value)}" for name, value in CHANGES.items()),
            *("workload.step_hint=8", "evaluation=every_steps", "evaluation.every_steps=2"),
            *("workload.targets.smoke.threshold=1.0", small_criteo.UNCOMPILED),
        ]
        environment = small_criteo.environment(compiled=False)  # how sums are added over ranks is the subject
        ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
        assert ended.returncode == 0, ended.stderr
        folder = TrialFolder(runs / "baseline" / "study_0" / "fastmri" / "trial_3")
        found.append([m.metrics for m in folder.measurements()])

    assert len(found[0]) == len(found[1]) == 4
    for one, two in zip(*found, strict=True):
        assert two == pytest.approx(one, rel=1e-4)


def _hydra(value: object) -> str:
    return str(value).replace("'", "")
