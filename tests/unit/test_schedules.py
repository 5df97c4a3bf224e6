"""Learning-rate schedules against the check figures C47 of the specification and against torch's own."""

from __future__ import annotations

import warnings

import pytest
import torch

from perfbench.api.schedules import (
    CyclicCosine,
    NestedCosine,
    WarmupConstant,
    WarmupCosine,
    WarmupLinear,
    WarmupPeriodicCosine,
)


@pytest.mark.parametrize(
    ("k", "rate"),
    [(0, 0.0), (1, 0.001), (50, 0.05), (100, 0.1), (101, 0.0999997), (300, 0.08830222), (550, 0.05), (999, 3e-7)],
)
def test_the_jax_form_has_the_published_rates(k: int, rate: float) -> None:
    schedule = WarmupCosine(peak=0.1, horizon=1000, warmup=100)

    assert schedule(k) == pytest.approx(rate, abs=5e-8)


@pytest.mark.parametrize("k", [1000, 1001, 2500])
def test_the_jax_form_stays_at_zero_after_its_horizon(k: int) -> None:
    assert WarmupCosine(peak=0.1, horizon=1000, warmup=100)(k) == pytest.approx(0.0, abs=1e-18)


def test_the_jax_form_without_warmup_starts_at_the_peak() -> None:
    assert WarmupCosine(peak=0.1, horizon=1000, warmup=0)(0) == 0.1


@pytest.mark.parametrize(
    ("k", "rate"),
    [
        (0, 1e-11),
        (5, 0.05),
        (10, 0.1),
        (11, 0.0999695414),
        (55, 0.05),
        (99, 3.04586e-5),
        (100, 0.0),
        (101, 3.04586e-5),
        (150, 0.0586824089),
        (190, 0.1),
        (200, 0.096984631),
    ],
)
def test_the_torch_form_rises_again_after_its_horizon(k: int, rate: float) -> None:
    schedule = WarmupPeriodicCosine(peak=0.1, horizon=100, warmup=10)

    assert schedule(k) == pytest.approx(rate, abs=5e-11)


@pytest.mark.parametrize(
    ("k", "rate"),
    [
        (0, 1.4382e-13),
        (1, 4.508384e-6),
        (319, 0.00143817440),
        (3000, 8.518098e-4),
        (6400, 1.5356e-11),
        (8000, 2.321289e-4),
        (9000, 5.570579e-4),
        (10665, 0.0011444506),
    ],
)
def test_the_torch_form_has_the_rates_of_shampoos_second_point_on_criteo(k: int, rate: float) -> None:
    horizon = 0.6 * 10_666
    schedule = WarmupPeriodicCosine(peak=0.0014381744028656841, horizon=horizon, warmup=int(0.05 * horizon))

    assert schedule(k) == pytest.approx(rate, rel=5e-5)


@pytest.mark.parametrize(("horizon", "warmup"), [(60, 6), (47.3, 5), (40.0, 1)])
def test_the_torch_form_is_torchs_own_chain_of_schedulers(horizon: float, warmup: int) -> None:
    schedule = WarmupPeriodicCosine(peak=0.3, horizon=horizon, warmup=warmup)

    expected = torch_rates(peak=0.3, horizon=horizon, warmup=warmup, num_updates=150)

    assert [schedule(k) for k in range(150)] == pytest.approx(expected, abs=1e-13)


def test_a_fractional_warmup_peaks_between_two_updates() -> None:
    schedule = WarmupPeriodicCosine(peak=0.1, horizon=213, warmup=10.65)

    assert schedule(10) == pytest.approx(0.1 * 10 / 10.65, rel=1e-9)
    assert schedule(11) == pytest.approx(0.0999992618, abs=5e-11)


def torch_rates(*, peak: float, horizon: float, warmup: int, num_updates: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    rising = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-10, end_factor=1.0, total_iters=warmup)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=horizon - warmup)  # type: ignore[arg-type] # fractions work
    chain = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, falling], milestones=[warmup])
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own calls to scheduler.step(epoch)
        for _ in range(num_updates):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            chain.step()
    return rates


@pytest.mark.parametrize(
    ("k", "rate"),
    [
        (0, 0.1),
        (1, 0.0100000001),
        (5, 0.0500000001),
        (10, 0.1),
        (11, 0.0999695414),
        (30, 0.0883022222),
        (55, 0.0500000001),
        (99, 3.04587e-5),
        (100, 1e-10),
        (250, 1e-10),
    ],
)
def test_one_cycle_has_the_published_rates_and_starts_at_the_peak(k: int, rate: float) -> None:
    assert CyclicCosine(peak=0.1, horizon=100, warmup=10)(k) == pytest.approx(rate, abs=6e-11)


@pytest.mark.parametrize(
    ("k", "rate"),
    [
        (10, 0.1),
        (11, 0.0998458667),
        (20, 0.0853553391),
        (30, 0.0500000001),
        (50, 1e-10),
        (51, 0.0100000001),
        (60, 0.1),
        (75, 0.0691341716),
        (80, 0.0500000001),
        (100, 1e-10),
        (101, 1e-10),
    ],
)
def test_two_cycles_have_the_published_rates(k: int, rate: float) -> None:
    assert CyclicCosine(peak=0.1, horizon=100, warmup=10, num_cycles=2)(k) == pytest.approx(rate, abs=6e-11)


def test_the_intended_cycle_starts_low() -> None:
    assert CyclicCosine(peak=0.1, horizon=100, warmup=10, starts_at_peak=False)(0) == 1e-10


@pytest.mark.parametrize(
    ("k", "rate"),
    [
        (0, 0.0),
        (1, 0.00188679),
        (53, 0.1),
        (200, 0.07881104),
        (400, 0.01826832),
        (535, 5.4e-7),
        (536, 0.05249174),
        (600, 0.0416734),
        (749, 2.82e-6),
        (750, 0.01786062),
        (900, 0.00617069),
        (1000, 0.0),
    ],
)
def test_the_nested_cosine_has_the_published_rates(k: int, rate: float) -> None:
    assert NestedCosine(peak=0.1, horizon=1000, warmup_factor=0.1)(k) == pytest.approx(
        rate, abs=1.2e-8
    )  # float32 there


@pytest.mark.parametrize(
    ("k", "rate"),
    [
        (0, 0.0),
        (25, 0.05),
        (50, 0.1),
        (51, 0.09988421),
        (400, 0.05947368),
        (904, 0.00111579),
        (905, 0.001),
        (5000, 0.001),
    ],
)
def test_the_linear_decay_has_the_published_rates(k: int, rate: float) -> None:
    schedule = WarmupLinear(peak=0.1, warmup=50, decay=int((1000 - 50) * 0.9), end_factor=0.01)

    assert schedule(k) == pytest.approx(rate, abs=6e-9)


@pytest.mark.parametrize(
    ("k", "rate"),
    [
        (0, 1e-10),
        (1, 0.00628931),
        (159, 1.0),
        (4000, 0.51587459),
        (7999, 1.0e-8),
        (12000, 0.51607483),
        (15840, 1.0),
        (31997, 0.99093330),
    ],
)
def test_the_torch_form_has_the_rates_of_a_self_tuning_entry_over_three_budgets(k: int, rate: float) -> None:
    assert WarmupPeriodicCosine(peak=1.0, horizon=7999.5, warmup=159)(k) == pytest.approx(rate, abs=6e-9)


def test_the_torch_form_can_stay_at_zero_as_intended() -> None:
    assert WarmupPeriodicCosine(peak=0.1, horizon=100, warmup=10, rises_again=False)(150) == pytest.approx(0, abs=1e-17)


def test_the_constant_rate_is_reached_at_the_last_update_of_the_warmup() -> None:
    schedule = WarmupConstant(peak=0.1, warmup=4, lowest=0.03)

    assert [schedule(k) for k in range(5)] == pytest.approx([0.03, 0.05, 0.075, 0.1, 0.1])
    assert WarmupConstant(peak=0.1, warmup=0)(0) == 0.1
