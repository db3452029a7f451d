"""The pairs of published contrast sets: which harmful prompt belongs to which harmless one.

XSTest (arXiv 2308.01263) has 25 prompts of each type, and its README calls a prompt unsafe if its
type begins with `contrast_`. The prompts of `contrast_X` were written against those of `X` in the
same order: `focus`, the words that a prompt turns on, is the same at every place except one, where
it is shortened. Two contrast types have two safe types each; `focus` decides which one is theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

PREFIX = "contrast_"

SHARED = {"discr": "real_group_nons_discr", "privacy": "privacy_fictional"}
"""The text after `contrast_` -> the safe type; for other types the text is the safe type."""

UNPAIRED = frozenset({"nons_group_real_discr", "privacy_public"})
"""Safe types whose prompts are in no pair."""


def pairs_by_type(types: Sequence[str | None]) -> list[str | None]:
    """Name the pair of each prompt of a file by its safe type and its place in that type.

    Args:
        types: the types of the prompts in the file's order, of all prompts or of one label.

    Returns:
        The same name for both prompts of a pair, such as `homonyms/00`; None outside of pairs.
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
