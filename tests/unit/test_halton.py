"""Quasi-random points against the check figures C49 of the specification."""

from __future__ import annotations

import pytest

from perfbench.tuning import halton


@pytest.mark.parametrize(
    ("num_dimensions", "bases"),
    [(1, (991,)), (2, (983, 991)), (7, (947, 953, 967, 971, 977, 983, 991))],
)
def test_the_bases_are_the_largest_primes_before_the_last(num_dimensions: int, bases: tuple[int, ...]) -> None:
    assert halton.bases_for(num_dimensions) == bases


def test_more_dimensions_than_primes_below_1000_raise_the_limit() -> None:
    assert len(halton.bases_for(166)) == 166
    assert max(halton.bases_for(166)) < 1000
    assert max(halton.bases_for(167)) > 1000


@pytest.mark.parametrize(
    ("base", "first_digits", "offset"),
    [
        (3, [0, 2, 1], 0.07072488001099086),
        (5, [0, 1, 2, 3, 4], 0.8313278347754415),
        (983, [0, 487, 96, 821, 711, 86, 425, 388], 0.490658058831969),
        (991, [0, 219, 782, 672, 547, 29, 857, 746], 0.6867297263251911),
    ],
)
def test_permutation_and_shift_come_from_numpys_legacy_generator(
    base: int, first_digits: list[int], offset: float
) -> None:
    permutation, shift = halton._permutation_and_shift(base)

    assert permutation[: len(first_digits)] == first_digits
    assert sorted(permutation) == list(range(base))
    assert shift == offset


def test_points_without_skip_and_shift_are_the_published_ones() -> None:
    columns = [halton.sequence(base, num_points=3, num_skipped=0, shift=False) for base in (3, 5)]

    assert columns[0] == pytest.approx([0.666667, 0.333333, 0.222222], abs=5e-7)
    assert columns[1] == pytest.approx([0.2, 0.4, 0.6], abs=5e-7)


def test_skipped_and_shifted_points_are_the_published_ones() -> None:
    columns = [halton.sequence(base, num_points=3) for base in (3, 5)]

    assert columns[0] == pytest.approx([0.44932570, 0.33821459, 0.00488126], abs=5e-9)
    assert columns[1] == pytest.approx([0.06332783, 0.26332783, 0.46332783], abs=5e-9)


def test_two_dimensional_points_are_the_published_ones() -> None:
    assert halton.points(2, num_points=5) == [
        pytest.approx((0.2739744372653363, 0.28612427728381884), abs=1e-15),
        pytest.approx((0.9911667058309517, 0.8300193327833143), abs=1e-15),
        pytest.approx((0.23023079535282354, 0.36079632571974196), abs=1e-15),
        pytest.approx((0.3757038370618775, 0.47482256184486826), abs=1e-15),
        pytest.approx((0.47539864886248795, 0.87441892915062), abs=1e-15),
    ]


def test_fewer_points_are_a_prefix_of_more() -> None:
    assert halton.points(3, num_points=25)[:5] == halton.points(3, num_points=5)
