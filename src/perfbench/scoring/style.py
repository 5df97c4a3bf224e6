"""How submissions look in every figure: a look that is theirs for ever, and the corners of a profile."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

COLOURS = ("#615da9", "#972303", "#007d4b", "#884772", "#1996f9", "#a29232", "#1b1f24", "#5b089c")
"""On white: each has a contrast of 3 or more, and no two are closer than 24 in CIELAB, with normal vision or without
one kind of cone (a test has both). Found by hill climbing from Okabe and Ito's (2008), whose closest are 7 apart."""
DARK_COLOURS = ("#4a9ed0", "#f28445", "#56f092", "#be7c8b", "#b7dfff", "#f5d524", "#fffced", "#9175ff")
"""The same in the same order on a dark page."""
DASHES: tuple[tuple[int, ...], ...] = ((), (9, 3), (2, 3), (9, 3, 2, 3), (16, 4))
"""Line and gap in pixels of a line of two pixels, from a solid one on."""
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
PHASE_COLOURS = {
    "scored": "#0072B2",
    "data wait": "#D55E00",
    "eval": "#E69F00",
    "compile": "#CC79A7",
    "checkpoint": "#009E73",
    "logging": "#56B4E9",
    "idle": "#BBBBBB",
}
_SALT = 1496
"""Of the first 60,000 the one whose looks of the submissions of this repository and of the AlgoPerf v0.5 board are all
different, those of that board by colour and dash alone."""


@dataclass(frozen=True, slots=True)
class Look:
    """What tells a line from all others, by any of three means."""

    colour: int
    """Of ``COLOURS``."""
    dash: int
    """Of ``DASHES``."""
    marker: int
    """Of ``MARKERS``."""

    def next(self) -> Look:
        """Return the same colour with another dash, and after the last dash with another marker.

        >>> Look(3, 4, 7).next()
        Look(colour=3, dash=0, marker=0)
        """
        dash = (self.dash + 1) % len(DASHES)
        return replace(self, dash=dash, marker=(self.marker + (dash == 0)) % len(MARKERS))


def look_of(name: str) -> Look:
    """Return how a submission looks on every board, whoever else is on it: it follows from its name.

    >>> look_of("a") == look_of("a")
    True
    """
    digest = hashlib.sha256(f"{_SALT}:{name}".encode()).digest()
    return Look(digest[0] % len(COLOURS), digest[1] % len(DASHES), digest[2] % len(MARKERS))


def looks_of(names: Sequence[str]) -> list[Look]:
    """Return the looks of lines that are drawn together, given whose each is.

    Several lines of one submission share its colour. Of two submissions that share all three means, which is 1 pair in
    320, the later in the alphabet gets another dash.

    >>> first, second = looks_of(["a", "a"])
    >>> first == look_of("a"), second == first.next()
    (True, True)
    """
    looks: dict[int, Look] = {}
    for place in sorted(range(len(names)), key=lambda place: (names[place], place)):
        look, taken = look_of(names[place]), set(looks.values())
        for _ in range(len(DASHES) * len(MARKERS)):
            if look not in taken:
                break
            look = look.next()
        looks[place] = look
    return [looks[place] for place in range(len(names))]


def profile_steps(ratios: Sequence[float], *, tau_max: float) -> tuple[list[float], list[float]]:
    """Return the corners of a performance profile: factors and the shares from there on.

    >>> profile_steps([1.0, 2.0, 2.5, float("inf")], tau_max=4.0)
    ([1.0, 2.0, 2.5, 4.0], [0.25, 0.5, 0.75, 0.75])
    """
    factors, shares = [1.0], [sum(ratio <= 1.0 for ratio in ratios) / len(ratios)]
    for ratio in sorted({ratio for ratio in ratios if 1.0 < ratio <= tau_max}):
        factors.append(ratio)
        shares.append(sum(other <= ratio for other in ratios) / len(ratios))
    return [*factors, tau_max], [*shares, shares[-1]]
