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


Asked = tuple[str, "AnsweredPrompt"]
"""A prompt's words, with single blanks between, and the prompt."""


def without_attack(
    prompts: Sequence[AnsweredPrompt],
) -> dict[AnsweredPrompt, AnsweredPrompt | None]:
    """Each prompt of an attack -> the same prompt without it; None where that was not asked."""
    harmful: dict[str, dict[str, list[Asked]]] = defaultdict(lambda: defaultdict(list))
    for prompt in prompts:
        if prompt.harmful:
            asked = " ".join(prompt.prompt.split()), prompt
            harmful[prompt.language][prompt.dataset].append(asked)
    pairs: dict[AnsweredPrompt, AnsweredPrompt | None] = {}
    for datasets in harmful.values():
        attacks = {
            outer
            for outer in datasets
            if any(_holds(datasets[outer], datasets[inner]) for inner in datasets if inner != outer)
        }
        plain = [one for name, of in datasets.items() if name not in attacks for one in of]
        for name in attacks:
            pairs |= {prompt: _inside(words, plain) for words, prompt in datasets[name]}
    return pairs


def pairs_of_datasets(
    pairs: Mapping[AnsweredPrompt, AnsweredPrompt | None],
) -> list[tuple[str, str]]:
    """Names of the attacks, each with the data set that it was put around; sorted."""
    return sorted({(one.dataset, of.dataset) for one, of in pairs.items() if of is not None})


def _holds(outer: Sequence[Asked], inner: Sequence[Asked]) -> bool:
    """Whether enough prompts of a data set hold one of another."""
    lacking = 0
    for words, _ in outer:
        lacking += _inside(words, inner) is None
        if lacking > (1 - LEAST_SHARE) * len(outer):
            return False
    return True


def _inside(words: str, others: Sequence[Asked]) -> AnsweredPrompt | None:
    """The longest of other prompts that a prompt's words hold, with more words around it.

    None, too, where the prompt is one of the others itself.
    """
    inside = [asked for asked in others if asked[0] and asked[0] in words]
    within, prompt = max(inside, key=lambda asked: len(asked[0]), default=("", None))
    return None if within == words else prompt
