"""What a person, a log and a program see while trials run."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from perfbench.cli.output import add_output_options, console_and_view
from perfbench.errors import TrialFailedError
from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.spec.run import TrialSpec
from perfbench.tracking.views import DetailedView, JsonView, LineView, View
from tests.trial_folders import measurement, result_of, trial_spec, write_trial


def console(*, is_terminal: bool = False) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=150, force_terminal=is_terminal, color_system=None), text


def played(view: View, runs: Path, trial: TrialSpec | None = None) -> TrialFolder:
    """Show a trial of one evaluation and a warning, from its start to its result."""
    trial = trial or trial_spec()
    folder = write_trial(runs, trial, [], is_finished=False)
    with view.showing(trial, folder) as watch:
        watch()
        for step in (5, 10):
            pulse = {"phase": "training", "at_step": step, "submission_time_s": step / 2, "next_evaluation_s": 1.0}
            folder.append_telemetry("pulse", pulse)
        used = {"at_step": 10, "submission_time_s": 5.0, "host_memory_bytes": 2 * 2**30}
        folder.append_telemetry("resources", used)
        folder.append_telemetry("warning", {"text": "a [checkpoint] is damaged"})
        folder.append(measurement(step=10, time_s=5.0, loss=0.4))
        watch()
        watch()
    view.finished(trial, end_of(folder), folder)
    return folder


def end_of(folder: TrialFolder) -> TrialResult:
    return result_of(folder.trial(), folder.measurements())


def test_a_log_gets_plain_lines_and_the_summary(tmp_path: Path) -> None:
    shown, text = console()

    played(DetailedView(shown), tmp_path)

    lines = text.getvalue().splitlines()
    assert "warning a [checkpoint] is damaged" in lines
    assert "  step      10       5.0 s  validation/loss 0.40000  (target 0.5) reached" in lines
    assert any("scored target reached in 5.0 s (step 10)" in line for line in lines)
    assert "\x1b" not in text.getvalue()
    assert text.getvalue().count("a [checkpoint] is damaged") == 1


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"explored": "x=1"}, "explored by hand: never scored"),
        ({"evaluation": {"kind": "every_steps", "every_steps": 5}}, "evaluated after fixed steps"),
        ({}, ""),
    ],
)
def test_the_summary_says_why_a_trial_is_never_scored(tmp_path: Path, changes: dict[str, object], note: str) -> None:
    shown, text = console()

    played(DetailedView(shown), tmp_path, trial_spec(changes))

    assert note in text.getvalue()
    assert ("never scored" in text.getvalue()) is bool(note)


def test_a_terminal_gets_a_panel_that_knows_of_several_ranks(tmp_path: Path) -> None:
    shown, text = console(is_terminal=True)

    played(DetailedView(shown), tmp_path, trial_spec({"num_ranks": 2}))

    assert "ranks  2, each with 4 of 8 examples" in text.getvalue()
    assert "rank 0  2.0 GiB of memory" in text.getvalue()
    assert "training, next evaluation in 1 s" in text.getvalue()


def test_a_sweep_leaves_one_line_per_trial(tmp_path: Path) -> None:
    shown, text = console()
    view = LineView(shown)

    for number in (1, 2):
        played(view, tmp_path, trial_spec(trial=number))
    view.failed(trial_spec(trial=3), TrialFailedError("out of [memory]", where="trial_3"))

    lines = [line for line in text.getvalue().splitlines() if not line.startswith("warning")]
    expected = "scored target reached in 5.0 s (step 10), best validation/loss 0.40000, 6.0 s in all, 17% evaluation"
    assert lines == [
        f"adamw on criteo, study 0, trial 1: {expected}",
        f"adamw on criteo, study 0, trial 2: {expected}",
        "adamw on criteo, study 0, trial 3: failed: trial_3: out of [memory]",
    ]


def test_on_a_terminal_the_line_of_a_running_trial_lives(tmp_path: Path) -> None:
    shown, text = console(is_terminal=True)

    played(LineView(shown), tmp_path)

    line = "training, step 10, 5.0 s of 100 s, validation/loss 0.40000 (target 0.5), 2.0 steps/s, budget in 1:35 min"
    assert f"adamw on criteo, study 0, trial 1: {line}" in text.getvalue()


def test_quiet_is_warnings_and_the_end(tmp_path: Path) -> None:
    shown, text = console(is_terminal=True)

    folder = played(LineView(shown, is_quiet=True), tmp_path)

    lines = text.getvalue().replace("\n", "").split("adamw on criteo")
    assert lines[0] == "warning a [checkpoint] is damaged"
    assert len(lines) == 2
    assert lines[1].endswith(str(folder.path))


def test_programs_get_every_event_as_an_object(tmp_path: Path) -> None:
    lines: list[str] = []
    view = JsonView(lines.append)

    folder = played(view, tmp_path)
    view.failed(trial_spec(trial=2), TrialFailedError("out of memory", where="trial_2", hint="again"))

    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == ["started", "warning", "measurement", "result", "failed"]
    assert all(event["workload"] == "criteo" for event in events)
    assert events[2]["measurement"]["metrics"]["validation/loss"] == 0.4
    assert TrialResult.from_json(json.dumps(events[3]["result"])) == end_of(folder)
    assert (events[4]["what"], events[4]["trial"]) == ("out of memory", 2)


@pytest.mark.parametrize(
    ("options", "expected", "is_silent"),
    [([], DetailedView, False), (["--quiet"], LineView, True), (["--json"], JsonView, True)],
)
def test_the_options_choose_the_view(options: list[str], expected: type, is_silent: bool) -> None:
    parser = argparse.ArgumentParser()
    add_output_options(parser)

    chosen, view = console_and_view(parser.parse_args(options), lines=False)

    assert isinstance(view, expected)
    assert chosen.quiet is is_silent


def test_quiet_and_json_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_output_options(parser)

    with pytest.raises(SystemExit):
        parser.parse_args(["--quiet", "--json"])

    assert "not allowed with argument" in capsys.readouterr().err
