"""Prepared data that all integration tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import small_criteo


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a few thousand planted rows."""
    root = tmp_path_factory.mktemp("data")
    small_criteo.prepare_data(root)
    return root


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they are: parallel pytest says that there is a terminal of 80 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)
