"""``deterministic=true``: required of this process, part of what a trial is, and undone by whoever only tried it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from perfbench.compose import compose_run
from perfbench.engine.trainer.switches import switches
from perfbench.engine.wire.determinism import determinism_as_before, require_determinism
from perfbench.launch.plan import plan_trial
from perfbench.results.reader import read_trials
from perfbench.scoring.verify_requests import requests_agree
from tests.trial_folders import write_reaching_trial


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = switches()
    with determinism_as_before():
        yield
    assert switches() == before
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_what_is_required_is_on_record_among_the_switches() -> None:
    require_determinism()

    now = switches()
    assert (now["deterministic"], now["cudnn.deterministic"]) == ("True", "True")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_an_operator_without_a_deterministic_form_is_an_error_that_names_it() -> None:
    require_determinism()

    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1), accumulate=False)


def test_it_is_asked_for_and_part_of_what_a_trial_is() -> None:
    request = ["workload=mnist", "submission=adamw"]

    usual = plan_trial(compose_run(request))
    deterministic = plan_trial(compose_run([*request, "deterministic=true"]))

    assert (usual.deterministic, deterministic.deterministic) == (False, True)
    assert usual.identity() != deterministic.identity()
    assert deterministic.is_scorable()


def test_a_board_s_trials_were_all_asked_for_it_or_none(tmp_path: Path) -> None:
    for trial in (1, 2):
        write_reaching_trial(tmp_path, time_s=10.0, trial=trial)
    write_reaching_trial(tmp_path, time_s=10.0, trial=3, deterministic=True)

    found = [finding.what for finding in requests_agree(read_trials([tmp_path]).trials)]

    assert len(found) == 1
    assert found[0].startswith("determinism 'required', but most trials of criteo")
