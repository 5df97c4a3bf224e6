"""Learning-rate schedules against the check figures C47 of the specification and against torch's own."""

from __future__ import annotations

import warnings

import pytest
import torch

from perfbench.api.schedules import WarmupCosine, WarmupPeriodicCosine


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
