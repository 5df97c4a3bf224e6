"""Timing in turns: who runs when, what counts, and ratios round by round."""

from __future__ import annotations

import pytest

from benchmarks.interleaved import ratios, timed


def test_ways_take_turns_and_the_first_rounds_do_not_count() -> None:
    called: list[str] = []
    ways = {name: lambda name=name: called.append(name) for name in ("a", "b")}

    seconds = timed(ways, rounds=2, discarded=1)

    assert called == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios({"slow": [2.0, 30.0], "fast": [1.0, 10.0]}, "slow", "fast") == pytest.approx([2.0, 3.0])
