"""Benchmarks' trials go on whatever the metric."""

from __future__ import annotations

import argparse

import pytest

from benchmarks.harness import planned
from perfbench.config_files import choices
from perfbench.registry import workload_families


@pytest.mark.parametrize("name", workload_families())
def test_no_metric_reaches_the_harness_s_target(name: str) -> None:
    assert name in choices("workload")
    target = planned(argparse.Namespace(workload=name, blocks=2, steps=3)).target

    assert not any(target.is_reached_by({target.metric: value}) for value in (-1.0, 0.0, 1.0, 100.0))
