"""One trial as TensorBoard's files: the rows of the W&B mirror, against the step. Imported only where asked for."""

from __future__ import annotations

import shutil

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from perfbench.results.store import TrialFolder
from perfbench.spec.result import TrialResult
from perfbench.tracking.rows import BY_STEP, STEP_KEY, Row


class TensorboardFiles:
    """Writes the files anew from all records, so that nothing is there twice.

    Args:
        folder: Of the trial.
    """

    next_number = 0

    def __init__(self, folder: TrialFolder) -> None:
        path = folder.path / "tensorboard"
        shutil.rmtree(path, ignore_errors=True)
        self._writer = EventFileWriter(str(path))

    def log(self, row: Row) -> None:
        """Write a row."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in row.values.items()
            if name != STEP_KEY and not name.startswith(BY_STEP)
        ]
        step = int(row.values.get(STEP_KEY, 0))
        self._writer.add_event(Event(step=step, summary=Summary(value=values)))

    def finish(self, _result: TrialResult | None, /) -> None:
        """Close the files."""
        self._writer.close()
