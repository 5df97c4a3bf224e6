"""Parts of the page without a browser: looks that can be told apart, gaps by cause, bands, tables, one file."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from perfbench.registry import submission_names
from perfbench.results.trials import TrialLog
from perfbench.scoring.board import Board, leaderboard
from perfbench.scoring.gap import Cause, Gap
from perfbench.scoring.page_shell import self_contained
from perfbench.scoring.report_notes import gaps, headline
from perfbench.scoring.report_tables import fill, time_grid
from perfbench.scoring.report_tables import leaderboard as score_grid
from perfbench.scoring.style import COLOURS, DARK_COLOURS, look_of, looks_of
from perfbench.scoring.uncertainty import bootstrap, profile_bands
from tests.scoring_logs import benchmark, reaching

_PAGES = {"#ffffff": COLOURS, "#12161c": DARK_COLOURS}
# Machado, Oliveira and Fernandes (2009): what is seen with one kind of cones missing; rows of linear RGB.
_CONES = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
_PUBLISHED = (
    *("amos", "baseline", "caspr_adaptive", "cyclic_lr", "generalized_adam", "lawa_ema", "lawa_queue", "nadamp"),
    *("schedule_free_adamw", "schedule_free_prodigy", "shampoo_submission"),
)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIELAB of linear RGB, D65."""
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(matrix @ rgb / [0.9505, 1.0, 1.089], 0.008856, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", _PAGES)
def test_colours_stand_out_from_the_page(page: str) -> None:
    assert min(contrast(colour, page) for colour in _PAGES[page]) >= 3.0


@pytest.mark.parametrize("page", _PAGES)
@pytest.mark.parametrize("cones", _CONES)
def test_colours_are_told_apart_with_any_vision(page: str, cones: str) -> None:
    seen = [lab(np.clip(np.asarray(_CONES[cones]) @ linear(colour), 0, 1)) for colour in _PAGES[page]]

    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 20


def test_no_two_submissions_that_are_known_look_alike() -> None:
    names = sorted({*submission_names(), *_PUBLISHED})

    assert len({look_of(name) for name in names}) == len(names) > 40
    assert len({(look_of(name).colour, look_of(name).dash) for name in _PUBLISHED}) == len(_PUBLISHED)


def test_a_look_does_not_depend_on_who_else_is_drawn() -> None:
    many = [f"submission_{number}" for number in range(60)]
    looks = dict(zip(many, looks_of(many), strict=True))

    assert all(looks[name].colour == look_of(name).colour for name in many)
    assert len(set(looks.values())) == len(many)
    assert looks_of(many[:3]) == [look_of(name) for name in many[:3]]


def board() -> Board:
    logs: list[TrialLog] = [
        reaching(10.0 * number + study, submission=name, workload=workload, study=study)
        for number, name in enumerate(("<b>", "b", "c"), start=1)
        for workload in ("v", "w")
        for study in range(3)
        if (name, workload) != ("c", "w")
    ]
    return leaderboard(logs, benchmark("v", "w", num_studies=3, num_trials=1))


def test_a_profile_lies_in_its_band_which_widens_where_studies_differ() -> None:
    taus = np.linspace(1.0, 4.0, 13)

    bands = profile_bands(board(), taus)

    assert set(bands) == {"<b>", "b", "c"}
    for low, high in bands.values():
        assert (low <= high).all()
        assert (np.diff(low) >= 0).all()
    assert bands["<b>"].tolist() == [[1.0] * 13, [1.0] * 13]
    low, high = bands["b"]
    assert ((low <= 1.0) & (high == 1.0)).tolist()[4:] == [True] * 9  # 20 s to 22 s against 10 s to 12 s
    assert low[3] < high[3]  # tau 1.75: with some draws


def test_gaps_stand_below_their_cause_with_their_number() -> None:
    found = [
        Gap(Cause.STUDIES, "a", "1 of 5 studies on w", "a"),
        Gap(Cause.CRASHED, "a", "2 trials crashed on <w>", "a"),
        Gap(Cause.STUDIES, "b", "2 of 5 studies on w", "b"),
    ]

    text = gaps(3, found)

    assert re.findall(r"<summary>(.*?) <span class=\"count\">(\d+)</span>", text) == [
        ("Fewer studies than the rules ask for", "2"),
        ("Trials that crashed", "1"),
    ]
    assert text.count("<li>") == 3
    assert "a: 2 trials crashed on &lt;w&gt;" in text
    assert 'id="missing-3"' in text
    assert gaps(0, []) == ""


def test_a_board_is_told_in_a_sentence_and_what_is_missing_stands_beside_the_score() -> None:
    made = board()
    uncertainty = bootstrap(made, num_samples=200)

    assert headline(made, uncertainty).startswith("<strong>&lt;b&gt;</strong> scores highest: 1.00 (95% interval ")
    assert headline(made, uncertainty).endswith("It beats b in 100% of resampled studies: that order is settled.")
    rows = score_grid(made, uncertainty).split("<tr>")
    assert ["1 gap" in row for row in rows[2:]] == [False, False, True]
    cells = re.findall(
        r"data-seconds=\"(.*?)\" data-share=\"(.*?)\" data-ratio=\"(.*?)\"", time_grid(made, uncertainty)
    )
    assert cells[:2] == [("11", "0.110", "1.000"), ("21", "0.210", "1.909")]


def test_a_cell_is_read_with_a_contrast_of_four_and_a_half() -> None:
    for share in np.linspace(0.0, 1.0, 101):
        found = re.fullmatch(r"background:(#.{6});color:(#.{3})", fill(float(share)))
        assert found is not None
        background, ink = found.groups()
        assert contrast(background, "#" + 2 * ink[1:]) >= 4.5


def test_data_of_a_page_cannot_end_its_element() -> None:
    page = self_contained("<title>", "<main></main>", [{"name": "</script><!--<script>"}])

    assert "<title>&lt;title&gt;</title>" in page
    assert page.count("</script>") == 3
    assert r'[{"name":"\u003c/script>\u003c!--\u003cscript>"}]' in page
