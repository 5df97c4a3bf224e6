"""Pulses of a trial, read back: twice a second its referee wrote down how far it was."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfbench.results.files import iterate_lines
from perfbench.results.trials import Floats, Integers

_MOST_BYTES = 1 << 30
"""Of telemetry: two months of pulses."""


class Pulses(NamedTuple):
    """Columns, a pulse per element, oldest first."""

    attempts: Integers
    steps: Integers
    submission_times_s: Floats


def read_pulses(folder: Path) -> Pulses:
    """Read the pulses of a trial folder; lines that a crash tore, or that are none of ours, are left out.

    Raises:
        OSError: If the telemetry is there and cannot be read, or is larger than any trial's.
    """
    path = folder / "telemetry.jsonl"
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise OSError(errno.EFBIG, f"more than {_MOST_BYTES / 1e9:.1f} GB", str(path))
    attempt = 0
    rows: list[tuple[int, int, float]] = []
    for line in iterate_lines(path):
        if '"pulse"' not in line and '"started"' not in line:
            continue
        try:
            values = json.loads(line)
            if values["kind"] == "started":
                attempt = int(values["attempt"])
            elif values["kind"] == "pulse":
                rows.append((attempt, int(values["at_step"]), float(values["submission_time_s"])))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            continue
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return Pulses(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2])
