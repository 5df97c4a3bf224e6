"""``perfbench show submission=NAME`` prints the points that a study will run."""

from __future__ import annotations

import pytest

from perfbench.cli.main import main


def test_every_point_of_the_study_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "submission=schedule_free_prodigy", "seed=7"]) == 0

    shown = capsys.readouterr().out
    assert "study 0 of run seed 7: 5 trial(s)" in shown
    for decay in (0.3, 0.1, 0.03, 0.01, 0.003):
        assert f"weight_decay={decay}" in shown


def test_a_self_tuning_submission_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "submission=schedule_free_adamw_self_tuning"]) == 0

    assert "none: it tunes itself" in capsys.readouterr().out
