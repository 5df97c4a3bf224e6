"""Damaged trees end in a result or in one error that names the file; nothing else, whatever the damage."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from perfbench.errors import PerfbenchError, ScoringError
from perfbench.results.algoperf import read_algoperf_logs
from perfbench.results.benchmark import Benchmark, benchmark_of, split_by_setting
from perfbench.results.reader import read_trials
from perfbench.scoring.board import leaderboard
from perfbench.scoring.uncertainty import bootstrap
from perfbench.scoring.verify import contradictions, verify_trials
from tests.scoring_logs import benchmark
from tests.trial_folders import write_reaching_trial

_HEADER = "accumulated_submission_time,global_step,score,validation/loss\n"
_NUM_TREES = 5000
_VALUES = ("", "nan", "inf", "-inf", "1e308", "1e999", "-1", "9" * 400, "0x10", "1_0", "٣", "None", " 5 ", "\0", '"')


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: thousands of trees are made and removed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def _tree(root: Path) -> list[Path]:
    files = []
    for submission in ("a", "b"):
        for trial in (1, 2):
            path = root / submission / "study_0" / "w_jax" / f"trial_{trial}" / "eval_measurements.csv"
            path.parent.mkdir(parents=True)
            rows = "".join(f"{10.0 * step},{step},0,{0.9 - 0.1 * step}\n" for step in range(1, 6))
            path.write_text(_HEADER + rows)
            files.append(path)
    return files


def _truncated(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def _swapped_columns(path: Path, chance: random.Random) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    one, other = chance.randrange(4), chance.randrange(4)
    for line in lines[chance.randrange(2) :]:
        line[one], line[other] = line[other], line[one]
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


def _odd_value(path: Path, chance: random.Random) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    line = chance.choice(lines)
    line[chance.randrange(len(line))] = chance.choice(_VALUES)
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


def _other_encoding(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_text().encode(chance.choice(["utf-16", "utf-32", "utf-8-sig", "cp037", "utf-7"])))


def _random_bytes(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.randrange(1, 20)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path.write_bytes(bytes(content))


def _lines_shuffled(path: Path, chance: random.Random) -> None:
    lines = path.read_text().splitlines(keepends=True)
    chance.shuffle(lines)
    path.write_text("".join(lines))


def _repeated(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() * chance.randrange(2, 4))


def _looped(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(chance.choice([path, path.parent, path.parents[3], path.with_name("nowhere")]))


def _looped_folder(path: Path, chance: random.Random) -> None:
    (path.parents[chance.randrange(4)] / "loop").symlink_to(path.parents[chance.randrange(4)])


def _a_folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _moved(path: Path, chance: random.Random) -> None:
    names = ["study_x", "study_-1", "study_" + "9" * 30, "trial_2", "trial_٣", "other", "w_pytorch", "\udcff"]
    target = path.parents[chance.randrange(3)]
    new = target.with_name(chance.choice(names))
    if not new.exists():
        target.rename(new)


def _removed(path: Path, chance: random.Random) -> None:
    shutil.rmtree(path.parents[chance.randrange(3)])


_MUTATIONS: tuple[Callable[[Path, random.Random], None], ...] = (
    _truncated,
    _swapped_columns,
    _odd_value,
    _other_encoding,
    _random_bytes,
    _lines_shuffled,
    _repeated,
    _looped,
    _looped_folder,
    _a_folder,
    _moved,
    _removed,
)


def _mutate(files: list[Path], chance: random.Random) -> str:
    """Damage a few files; a file that the last damage took away or garbled is left alone."""
    done = []
    for path in chance.sample(files, chance.randrange(1, 4)):
        mutation = chance.choice(_MUTATIONS)
        try:
            mutation(path, chance)
        except (OSError, UnicodeError, IndexError):
            continue
        done.append(f"{mutation.__name__} {path}")
    return "; ".join(done)


def _assert_ends_well(root: Path, rules: Benchmark) -> None:
    try:
        logs, complaints = read_algoperf_logs([root], rules)
        board = leaderboard(logs, rules)
    except PerfbenchError as error:
        assert str(root) in str(error) or error.where == rules.name  # noqa: PT017 - either ending is right
        return
    for complaint in complaints:
        assert str(complaint.path).startswith(str(root))
    assert all(0 <= score <= 1 for score in board.score.values())
    assert not np.isnan(board.ratios()).any()
    uncertainty = bootstrap(board, num_samples=20)
    assert all(interval is None or 0 <= interval.low <= interval.high <= 1 for interval in uncertainty.score.values())


@pytest.mark.parametrize(("first", "last"), [(0, 300), pytest.param(300, _NUM_TREES, marks=pytest.mark.slow)])
def test_a_damaged_log_tree_ends_in_a_result_or_an_error_that_names_it(scratch: Path, first: int, last: int) -> None:
    rules = benchmark("w", num_studies=1, num_trials=2).model_copy(update={"name_suffixes": ("_jax", "_pytorch")})
    for number in range(first, last):
        root = scratch / str(number)
        damage = _mutate(_tree(root), random.Random(number))
        try:
            _assert_ends_well(root, rules)
        except Exception as error:
            raise AssertionError(f"tree {number}: {damage}") from error
        shutil.rmtree(root)


@pytest.mark.parametrize(("first", "last"), [(0, 100), pytest.param(100, 1000, marks=pytest.mark.slow)])
def test_damaged_trial_folders_end_in_a_result_or_an_error_that_names_them(
    scratch: Path, first: int, last: int
) -> None:
    pristine = scratch / "pristine"
    for trial in (1, 2):
        write_reaching_trial(pristine, time_s=10.0, trial=trial)
    for number in range(first, last):
        chance = random.Random(number)
        root = scratch / str(number)
        shutil.copytree(pristine, root)
        names = ("run.json", "measurements.jsonl", "result.json")
        files = [path for path in sorted(root.rglob("*")) if path.name in names]
        for path in chance.sample(files, 2):
            mutation = chance.choice([_truncated, _random_bytes, _other_encoding, _repeated, _looped, _a_folder])
            mutation(path, chance)
        reading = read_trials([root])
        complaints = list(reading.complaints)
        for name, trials in split_by_setting(reading.trials).items():
            rules, kept = benchmark_of(name, trials, complaints)
            try:
                board = leaderboard([trial.log() for trial in kept], rules)
            except ScoringError as error:  # without their results both trials may be unfinished
                assert error.where == name  # noqa: PT017 - either ending is right
                continue
            assert all(0 <= score <= 1 for score in board.score.values())
        verify_trials(reading.trials)
        contradictions(reading.trials)
        assert len(reading.trials) == 2 or complaints
        assert all(os.fspath(complaint.path).startswith(str(root)) for complaint in complaints)
        shutil.rmtree(root)
