"""How a submission of the competition behaves where what ran is not what its authors meant."""

from __future__ import annotations

from enum import StrEnum


class Behaviour(StrEnum):
    """As the competition ran it, or as its authors (or their paper) meant it; the option's text says what each is."""

    AS_RUN = "as_run"
    AS_INTENDED = "as_intended"
