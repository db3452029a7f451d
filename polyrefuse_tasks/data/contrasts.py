"""Which harmful prompt of a published contrast set stands against which harmless one.

XSTest (arXiv 2308.01263) has 25 prompts of each type, and its README calls those unsafe whose type
begins with `contrast_`. The prompts of `contrast_X` were written against those of `X` in the same
order: `focus`, the words that they turn on, is the same at every place but one (a shortened one).
Two contrast types have two safe ones each; by `focus` they stand against the one named here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

PREFIX = "contrast_"

SHARED = {"discr": "real_group_nons_discr", "privacy": "privacy_fictional"}
"""What follows `contrast_` -> the safe type; of any other it is its own name."""

UNPAIRED = frozenset({"nons_group_real_discr", "privacy_public"})
"""Safe types whose prompts stand against none."""


def pairs_by_type(types: Sequence[str | None]) -> list[str | None]:
    """The pair that each prompt of a file belongs to: its safe type, and its place in the type.

    Args:
        types: of the prompts in the file's order, all of them or those of one label alone.

    Returns:
        The same name for both prompts of a pair, such as `homonyms/00`; None for one in no pair.
    """
    places: Counter[str] = Counter()
    pairs: list[str | None] = []
    for type_ in types:
        if type_ is None or type_ in UNPAIRED:
            pairs.append(None)
            continue
        unsafe = type_.startswith(PREFIX)
        safe = type_.removeprefix(PREFIX)
        pairs.append(f"{SHARED.get(safe, safe) if unsafe else type_}/{places[type_]:02d}")
        places[type_] += 1
    return pairs
