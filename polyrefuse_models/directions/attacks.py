"""Which prompts of a run are others of it with an attack around them.

A data set is an attack on another where at least half of its harmful prompts hold a whole prompt of
the other in the same language, with words around it. The words around are the attack, whatever they
are: a role to play, a suffix, an instruction in another language. Prompts of one data set are never
attacks on each other, since one request may contain another by chance, and so may a few prompts of
two benchmarks; hence the half.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polyrefuse_models.directions.answered import AnsweredPrompt

LEAST_SHARE = 0.5
"""Of a data set's harmful prompts have to hold one of another for it to be an attack on that."""


def without_attack(
    prompts: Sequence[AnsweredPrompt],
) -> dict[AnsweredPrompt, AnsweredPrompt | None]:
    """Each prompt of an attack -> the same prompt without it; None where that was not asked."""
    harmful: dict[str, dict[str, list[AnsweredPrompt]]] = defaultdict(lambda: defaultdict(list))
    for prompt in prompts:
        if prompt.harmful:
            harmful[prompt.language][prompt.dataset].append(prompt)
    pairs: dict[AnsweredPrompt, AnsweredPrompt | None] = {}
    for datasets in harmful.values():
        attacks = {
            outer
            for outer in datasets
            if any(_holds(datasets[outer], datasets[inner]) for inner in datasets if inner != outer)
        }
        plain = [one for name, of in datasets.items() if name not in attacks for one in of]
        for name in attacks:
            pairs |= {one: _longest_inside(one, plain) for one in datasets[name]}
    return pairs


def pairs_of_datasets(
    pairs: Mapping[AnsweredPrompt, AnsweredPrompt | None],
) -> list[tuple[str, str]]:
    """Names of the attacks, each with the data set that it was put around; sorted."""
    return sorted({(one.dataset, of.dataset) for one, of in pairs.items() if of is not None})


def _holds(outer: Sequence[AnsweredPrompt], inner: Sequence[AnsweredPrompt]) -> bool:
    """Whether enough prompts of a data set hold one of another."""
    lacking = 0
    for one in outer:
        lacking += _longest_inside(one, inner) is None
        if lacking > (1 - LEAST_SHARE) * len(outer):
            return False
    return True


def _longest_inside(
    prompt: AnsweredPrompt, others: Sequence[AnsweredPrompt]
) -> AnsweredPrompt | None:
    """The longest of other prompts that a prompt holds whole, beside words of its own."""
    whole = _spaced(prompt.prompt)
    inside = (
        one
        for one in others
        if (words := _spaced(one.prompt)) and words != whole and words in whole
    )
    return max(inside, key=lambda one: len(one.prompt), default=None)


def _spaced(words: str) -> str:
    """A prompt whose line breaks and blanks are single blanks."""
    return " ".join(words.split())
