"""An attempt that fails by itself gains nothing by it: no free work, no second chance, nothing for the next one."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from perfbench.api import TrainingContext
from perfbench.engine.referee.checkpoints import Checkpoints
from perfbench.engine.referee.link import TrainerEnded
from perfbench.engine.trainer import saving
from perfbench.engine.wire.team import Solo
from perfbench.launch.ending import crash_result, failure_seen
from perfbench.results.history import history_of
from perfbench.results.store import TrialFolder
from perfbench.spec.result import FailureReason
from tests.tiny_trials import Descent, StopAt, run
from tests.trial_folders import measurement, trial_spec, write_trial


def crashed(runs: Path, reason: FailureReason) -> TrialFolder:
    """Return a trial whose first attempt crashed for a reason, and whose second was killed before it had resumed."""
    folder = write_trial(runs, trial_spec(), [measurement(step=10, time_s=10.0, loss=1.0)], is_finished=False)
    folder.append_telemetry("started", {"attempt": 1})
    folder.append_telemetry("pulse", {"phase": "training", "submission_time_s": 24.0})
    folder.write_result(crash_result(folder, failure_seen(1, reason, "whatever"), 1))
    folder.reopen_after_crash()
    folder.append_telemetry("started", {"attempt": 2})
    folder.append_telemetry("started", {"attempt": 3})
    return folder


@pytest.mark.parametrize("reason", list(FailureReason))
def test_what_ended_an_attempt_is_known_from_its_crash(tmp_path: Path, reason: FailureReason) -> None:
    """A trainer can have its referee fail, or hang; that a node was lost is nobody's doing."""
    history = history_of(crashed(tmp_path, reason))

    assert history.failed is (reason is not FailureReason.NODE)
    assert history.reached_s == 24.0


@pytest.mark.parametrize(
    ("echoes", "has_failed"),
    [([], False), ([True], False), ([False], True), ([True, False], True), ([True, True], True)],
)
def test_ranks_that_all_say_that_they_lost_another_have_failed_by_themselves(
    tmp_path: Path, echoes: list[bool], has_failed: bool
) -> None:
    """A rank that was lost with its node says nothing; what a trainer says of a lost connection may be invented."""
    folder = crashed(tmp_path, FailureReason.NODE)
    for rank, is_echo in enumerate(echoes):
        folder.append_telemetry("trainer_ended", {"attempt": 2, "rank": rank, "num_ranks": 2, "is_echo": is_echo})

    assert history_of(folder).failed is has_failed


@pytest.mark.parametrize("failed", [False, True])
def test_a_start_is_free_only_where_the_attempt_before_was_ended_from_outside(tmp_path: Path, failed: bool) -> None:
    def slow(context: TrainingContext) -> Descent:
        time.sleep(1.0)
        return Descent(context, lr=0.0)

    _, folder = run(tmp_path, slow, stop=StopAt(7))
    before_s = folder.telemetry("pulse")[-1]["submission_time_s"]
    if failed:
        folder.append_telemetry("trainer_ended", {"attempt": 1, "rank": 0, "num_ranks": 1, "is_echo": False})

    _, folder = run(tmp_path, slow, attempt=2)

    assert (folder.measurements()[-1].submission_time_s - before_s > 1.0) is failed


def test_a_later_attempt_finds_nothing_but_the_state_that_was_saved(tmp_path: Path) -> None:
    found: list[str] = []
    _, folder = run(tmp_path, stop=StopAt(7))
    newest = max(folder.states.iterdir())
    (newest / "weights").write_text("of a stretch that does not count")
    (newest.parent / "locked").mkdir()
    (newest.parent / "locked" / "weights").write_text("too")
    (newest.parent / "locked").chmod(0)

    def looking(context: TrainingContext) -> Descent:
        found.extend(str(path.relative_to(folder.states)) for path in folder.states.rglob("*"))
        return Descent(context)

    run(tmp_path, looking, attempt=2)

    assert sorted(found) == [newest.name, f"{newest.name}/rank_0.pt"]


def say_nothing(path: Path) -> None:
    """Write no state."""


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("instead", [say_nothing, os.mkfifo, link])
def test_a_state_that_is_no_file_is_the_trainer_s_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instead: object
) -> None:
    assert callable(instead)
    monkeypatch.setattr(saving, "write", lambda _state, folder, _shard: instead(folder / "rank_0.pt"))

    with pytest.raises(TrainerEnded, match=r"rank_0\.pt"):
        run(tmp_path)


def test_neither_holes_nor_more_than_is_declared_make_a_rest_longer(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, tmp_path, trial_identity="a", team=Solo(), most_bytes=100_000)
    state = checkpoints.prepare(1) / "rank_0.pt"

    state.write_bytes(b"x" * 5000)
    os.truncate(state, 2**40)
    assert checkpoints.num_bytes(1) < 2**16

    state.write_bytes(b"x" * 300_000)
    assert checkpoints.num_bytes(1) == 100_000
