"""Find the prompts of a run that are another of its prompts with an attack around it.

A dataset is an attack on another dataset if at least half of its harmful prompts contain a whole
prompt of the other in the same language. The words around that prompt are the attack: a role to
play, a suffix, or an instruction in another language. Prompts of the same dataset are never attacks
on each other, since one request may contain another by chance. Chance also puts a few prompts of
one benchmark into prompts of another, which is why half of the prompts are required.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from polyrefuse_models.directions.answered import AnsweredPrompt

LEAST_SHARE = 0.5
"""The share of an attack's harmful prompts that have to contain a prompt of the other dataset."""


Asked = tuple[str, "AnsweredPrompt"]
"""The words of a prompt with single spaces between them, and the prompt."""


def without_attack(
    prompts: Sequence[AnsweredPrompt],
) -> dict[AnsweredPrompt, AnsweredPrompt | None]:
    """Map each prompt of an attack to the prompt inside it, or to None if the run lacks that."""
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
    """List the datasets that are attacks, each with the dataset that it attacks, sorted by name."""
    return sorted({(one.dataset, of.dataset) for one, of in pairs.items() if of is not None})


def _holds(outer: Sequence[Asked], inner: Sequence[Asked]) -> bool:
    """Whether enough prompts of a dataset contain a prompt of another."""
    lacking = 0
    for words, _ in outer:
        lacking += _inside(words, inner) is None
        if lacking > (1 - LEAST_SHARE) * len(outer):
            return False
    return True


def _inside(words: str, others: Sequence[Asked]) -> AnsweredPrompt | None:
    """Find the longest other prompt that a prompt contains with further words around it.

    Returns:
        None if it contains none, or if it is itself one of the others.
    """
    inside = [asked for asked in others if asked[0] and asked[0] in words]
    within, prompt = max(inside, key=lambda asked: len(asked[0]), default=("", None))
    return None if within == words else prompt
