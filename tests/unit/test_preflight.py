"""What is checked and prepared before a trial starts."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.errors import DataError
from perfbench.launch import preflight


def test_data_that_two_trials_miss_at_once_is_prepared_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepared: list[Path] = []

    def prepare(request: PrepareRequest) -> None:
        time.sleep(0.1)
        prepared.append(request.destination)
        (request.destination / "manifest.json").write_text("{}")

    preparer = SimpleNamespace(prepare=prepare, required_bytes=lambda _: 0, verify=lambda *_, **__: None)
    monkeypatch.setattr(preflight, "preparer_of", lambda _: preparer)
    workload = compose_workload("criteo", scale="mini")

    with ThreadPoolExecutor(3) as threads:
        starts = [
            threads.submit(preflight.ensure_data, workload, tmp_path, lambda *_: None, may_prepare=True)
            for _ in range(3)
        ]
        for start in starts:
            start.result()

    assert prepared == [tmp_path / "criteo" / "mini" / "flights"]


@pytest.mark.parametrize(("written_bytes", "is_enough"), [(0, False), (599, False), (600, True)])
def test_what_an_interrupted_preparation_wrote_needs_no_room_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written_bytes: int, is_enough: bool
) -> None:
    (tmp_path / "part.bin").write_bytes(bytes(written_bytes))
    prepared: list[PrepareRequest] = []
    preparer = SimpleNamespace(required_bytes=lambda _: 1000, prepare=prepared.append)
    monkeypatch.setattr(preflight, "preparer_of", lambda _: preparer)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=400))
    workload = compose_workload("criteo", scale="mini")
    request = PrepareRequest(workload=workload, destination=tmp_path, source=None, progress=lambda *_: None, options={})

    if is_enough:
        preflight.prepare_data(request)
    else:
        with pytest.raises(DataError, match=r"preparing needs 0.0 GB, the disk has 0.0 GB free"):
            preflight.prepare_data(request)

    assert len(prepared) == is_enough
