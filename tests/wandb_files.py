"""Reads the files that W&B writes in offline mode: a log of framed records, each a message of the wandb package."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perfbench.results.store import TrialFolder

_BLOCK_BYTES = 32 * 1024
_FILE_HEADER_BYTES = 7
_RECORD_HEADER = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def payloads(path: Path) -> Iterator[bytes]:
    """Yield the records of a file in the framing of LevelDB's log, checking every checksum."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    place, parts = _FILE_HEADER_BYTES, b""
    while place < len(content):
        left_in_block = _BLOCK_BYTES - place % _BLOCK_BYTES
        if left_in_block < _RECORD_HEADER.size:
            place += left_in_block
            continue
        checksum, length, kind = _RECORD_HEADER.unpack_from(content, place)
        place += _RECORD_HEADER.size
        part = content[place : place + length]
        assert checksum == zlib.crc32(bytes([kind]) + part) & 0xFFFFFFFF
        place += length
        parts = part if kind in (_WHOLE, _FIRST) else parts + part
        if kind in (_WHOLE, _LAST):
            yield parts


class OfflineRun:
    """What one ``.wandb`` file says."""

    def __init__(self, path: Path) -> None:
        from wandb.proto import wandb_internal_pb2  # its messages are made when it is loaded

        self.rows: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.metrics: dict[str, str] = {}
        """Name or pattern to the name of its x axis."""
        self.run_id = self.project = self.group = self.job_type = ""
        self.tags: list[str] = []
        self.artifacts: dict[str, list[str]] = {}
        """Name to the files in it."""
        self.exit_code: int | None = None
        for payload in payloads(path):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(payload)
            self._take(record)

    def _take(self, record: Any) -> None:
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                self.run_id, self.project, self.group, self.job_type = (
                    run.run_id,
                    run.project,
                    run.run_group,
                    run.job_type,
                )
                self.tags = list(run.tags)
                self._update(self.config, run.config.update)
            case "config":
                self._update(self.config, record.config.update)
            case "summary":
                self._update(self.summary, record.summary.update)
            case "history":
                row: dict[str, Any] = {}
                self._update(row, record.history.item)
                self.rows.append(row | {"_step": record.history.step.num})
            case "metric":
                metric = record.metric
                self.metrics[metric.name or metric.glob_name] = metric.step_metric
            case "artifact":
                self.artifacts[record.artifact.name] = [entry.path for entry in record.artifact.manifest.contents]
            case "exit":
                self.exit_code = record.exit.exit_code

    def _update(self, into: dict[str, Any], items: Any) -> None:
        for item in items:
            name = item.key or ".".join(item.nested_key)
            into[name] = json.loads(item.value_json)


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Return every offline run under a folder, oldest first."""
    return [OfflineRun(path) for path in sorted(folder.rglob("*.wandb"))]


def has_ended(folder: Path) -> bool:
    """Tell whether the summary of a trial's end is written."""
    return any(run.summary.get("outcome") for run in offline_runs(folder))


def assert_one_offline_run(folder: Path) -> None:
    """All attempts of a trial are one run, which holds exactly the measurements that count."""
    (run,) = offline_runs(folder)
    wanted = [(m.step, m.submission_time_s) for m in TrialFolder(folder).measurements()]
    shown = [(row["step"], row["submission_time_s"]) for row in run.rows if "validation/loss" in row]
    assert shown == wanted
    assert run.run_id == TrialFolder(folder).tracking_id()
    result = TrialFolder(folder).result()
    assert result is not None
    assert run.summary["outcome"] == result.outcome.kind
