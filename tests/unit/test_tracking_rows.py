"""Rows for dashboards: the same from growing files and from finished ones, in bounded number and memory."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from perfbench.results.store import TrialFolder
from perfbench.spec.result import Resumed
from perfbench.tracking.follow import Follower, GrowingFile
from perfbench.tracking.rows import Row, RowMaker
from tests.trial_folders import measurement, trial_spec

Event = tuple[str, str]
"""A file's kind, ``telemetry`` or ``records``, and a line of it: in the order in which a trial writes them."""


def steps(at_step: int, attempt: int) -> Event:
    end = {"at_step": at_step, "submission_time_s": at_step + attempt / 10, "data_wait_s": 0.0}
    return "telemetry", json.dumps({"kind": "steps", "step": [at_step - 1, at_step], "loss": [2.0, 1.0], **end})


def pulse(at_step: int) -> Event:
    values = {"kind": "pulse", "phase": "training", "at_step": at_step, "submission_time_s": 1.0}
    return "telemetry", json.dumps(values | {"next_evaluation_s": None})


def evaluation(at_step: int, attempt: int) -> Event:
    time_s = at_step + attempt / 10
    return "records", measurement(step=at_step, time_s=time_s, loss=1.0, attempt=attempt).to_json(indent=None)


def course(num_segments: int, kills: set[int]) -> list[Event]:
    """Return what a trial writes that is killed after some evaluations, before they are saved."""
    attempt = 1
    events: list[Event] = [("telemetry", '{"kind": "started", "attempt": 1}')]
    for segment in range(1, num_segments + 1):
        step = 10 * segment
        events += [pulse(step - 5), steps(step, attempt), evaluation(step, attempt), pulse(step)]
        if segment in kills:
            attempt += 1
            resumed = Resumed(attempt=attempt, from_step=step - 10, submission_time_s=1.0, wall_time_utc="")
            events += [
                ("telemetry", json.dumps({"kind": "started", "attempt": attempt})),
                ("records", resumed.to_json(indent=None)),
                *(steps(step, attempt), evaluation(step, attempt)),
            ]
    return events


def all_rows(events: list[Event]) -> list[Row]:
    maker = RowMaker(trial_spec())
    telemetry = [line for kind, line in events if kind == "telemetry"]
    records = [line for kind, line in events if kind == "records"]
    return [*maker.take(telemetry, records), *maker.rest()]


@given(
    num_segments=st.integers(1, 6),
    kills=st.sets(st.integers(1, 6)),
    cuts=st.sets(st.integers(0, 60)),
    ahead=st.booleans(),
)
def test_growing_files_give_the_rows_of_finished_ones(
    num_segments: int, kills: set[int], cuts: set[int], ahead: bool
) -> None:
    """``ahead``: the records may be read further than the telemetry, never less far."""
    events = course(num_segments, kills)
    maker = RowMaker(trial_spec())
    grown: list[Row] = []
    places = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
    num_records = 0
    for start, end in itertools.pairwise(places):
        telemetry = [line for kind, line in events[start:end] if kind == "telemetry"]
        records = [line for kind, line in events[: end + 2 * ahead] if kind == "records"]
        grown += maker.take(telemetry, records[num_records:])
        num_records = max(num_records, len(records))
    grown += maker.rest()

    whole = all_rows(events)

    shown = {row.number: row.values for row in grown}
    assert [row.number for row in grown] == sorted(shown)
    assert all(shown[row.number] == row.values for row in whole)
    extra = [shown[number] for number in shown.keys() - {row.number for row in whole}]
    assert all("validation/loss" in values for values in extra), "only what was void later was shown before"


def test_every_measurement_is_there_and_what_a_resume_voids_is_not() -> None:
    rows = all_rows(course(4, {2}))

    shown = [(row.values["attempt"], row.values["step"]) for row in rows if "validation/loss" in row.values]
    assert shown == [(1, 10), (2, 20), (2, 30), (2, 40)]
    numbers = [row.number for row in rows]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == max(numbers), "the number of the void measurement is left out"


def test_damaged_lines_cost_only_themselves() -> None:
    events = course(2, set())
    damaged = [event for event in events for event in (event, (event[0], event[1][:-3]), (event[0], "[1]"))]

    assert [row.values for row in all_rows(damaged)] == [row.values for row in all_rows(events)]


NUM_MEASUREMENTS = 10_000
NUM_POINTS = 1_000_000


def large_folder(path: Path) -> TrialFolder:
    """Write 10,000 measurements and 1,000,000 telemetry points: 20 segments of 5 points to each 2 measurements."""
    folder = TrialFolder.of(path, trial_spec())
    folder.claim(trial_spec())
    per_segment = NUM_POINTS // NUM_MEASUREMENTS // 2
    record: dict[str, Any] = json.loads(evaluation(1, 1)[1])
    with (
        (folder.path / "telemetry.jsonl").open("w") as telemetry,
        (folder.path / "measurements.jsonl").open("w") as records,
    ):
        telemetry.write('{"kind": "started", "attempt": 1}\n')
        for number in range(1, NUM_MEASUREMENTS + 1):
            last = per_segment * number
            columns = {"step": list(range(last - per_segment + 1, last + 1)), "loss": [1.0] * per_segment}
            end = {"at_step": last, "submission_time_s": float(number), "data_wait_s": 0.0}
            telemetry.write(json.dumps({"kind": "steps", **columns, **end}) + "\n")
            line = json.dumps({"kind": "pulse", "phase": "training", **end, "next_evaluation_s": None}) + "\n"
            telemetry.writelines([line] * per_segment)
            records.write(json.dumps(record | {"step": last, "submission_time_s": float(number)}) + "\n")
    return folder


def rows_of(folder: TrialFolder) -> Iterator[Row]:
    """Yield the rows as the mirror makes them."""
    maker = RowMaker(folder.trial())
    telemetry = GrowingFile(folder.path / "telemetry.jsonl", from_start=True)
    records = GrowingFile(folder.path / "measurements.jsonl", from_start=True)
    while lines := telemetry.new_lines():
        yield from maker.take(lines, list(records.all_new_lines()))
    yield from maker.rest()


def test_a_million_points_are_thinned_and_take_little_memory(tmp_path: Path) -> None:
    folder = large_folder(tmp_path)
    size_bytes = sum((folder.path / name).stat().st_size for name in ("telemetry.jsonl", "measurements.jsonl"))
    tracemalloc.start()
    num_measurements = num_rows = 0
    for row in rows_of(folder):
        num_rows += 1
        num_measurements += "validation/loss" in row.values
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert num_measurements == NUM_MEASUREMENTS
    assert num_rows - NUM_MEASUREMENTS < 20_000
    assert size_bytes > 60e6
    assert most_bytes < 0.4 * size_bytes
    assert folder.num_attempts() == 1
    follower = Follower(folder)
    progress = follower.look()
    assert len(progress.new_measurements) == NUM_MEASUREMENTS
    assert follower.look().new_measurements == []
