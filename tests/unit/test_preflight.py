"""What is checked and prepared before a trial starts."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from perfbench.compose import compose_workload
from perfbench.data.preparation import PrepareRequest
from perfbench.launch import preflight


def test_data_that_two_trials_miss_at_once_is_prepared_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prepared: list[Path] = []

    def prepare(request: PrepareRequest) -> None:
        request.destination.mkdir(parents=True)
        time.sleep(0.1)
        prepared.append(request.destination)
        (request.destination / "manifest.json").write_text("{}")

    monkeypatch.setattr(preflight, "prepare_data", prepare)
    monkeypatch.setattr(preflight, "preparer_of", lambda _: SimpleNamespace(verify=lambda *_, **__: None))
    workload = compose_workload("criteo", scale="mini")

    with ThreadPoolExecutor(3) as threads:
        starts = [
            threads.submit(preflight.ensure_data, workload, tmp_path, lambda *_: None, may_prepare=True)
            for _ in range(3)
        ]
        for start in starts:
            start.result()

    assert prepared == [tmp_path / "criteo" / "mini" / "flights"]
