"""The largest numbers that a user may give."""

from __future__ import annotations

import re

MOST_SEED = 2**32 - 1
"""The largest seed that numpy and scikit-learn accept."""

MOST = 2**31 - 1
"""The largest count that every library accepts."""


def seed_of(given: str | int) -> int | None:
    """Read a seed; return None if it is not a whole number from 0 to `MOST_SEED`."""
    if not re.fullmatch(r"[0-9]{1,10}", str(given)) or int(given) > MOST_SEED:
        return None
    return int(given)
