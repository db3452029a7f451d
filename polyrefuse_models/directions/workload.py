"""Count how much a model reads and generates for extraction, transfer and geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyrefuse_models.anatomy import decoder_blocks
from polyrefuse_models.directions import refusals
from polyrefuse_models.directions.prompts import kinds_of
from polyrefuse_models.directions.recipe import n_positions
from polyrefuse_models.directions.scores import common_head
from polyrefuse_models.directions.search import WAVE
from polyrefuse_models.directions.select import DEFAULT, Rule
from polyrefuse_models.workload import Part, Workload
from polyrefuse_tasks import data

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.prompts import Prompts


def of_direction(
    chat: ChatModel, prompts: Prompts, rule: Rule = DEFAULT, *, all_scores: bool = False
) -> Workload:
    """Count the work of `recipe.make_direction`, if its filter by refusal score keeps all prompts.

    The work on the first `WAVE` candidates of the search is counted as certain, because the choice
    is usually among them. Work on further candidates is counted as uncertain.

    Args:
        chat: the model, with or without weights.
        prompts: what `prompts.sample` chose.
        rule: the rule that chooses a candidate.
        all_scores: whether every score of every candidate is computed.
    """
    n_layers = len(decoder_blocks(chat.model))
    looked_at = n_layers if all_scores else rule.layers(n_layers)
    candidates = n_positions(chat) * looked_at
    train = prompts.harmful["train"] + prompts.harmless["train"]
    harmful, harmless = prompts.harmful["val"], prompts.harmless["val"]
    parts = [
        _read_once(chat, "states of training prompts", train),
        Part(
            "answers to harmful validation prompts",
            len(harmful),
            _tokens(chat, harmful),
            answers=len(harmful),
            tokens_each=refusals.TOKENS,
        ),
        _read_once(chat, "logits of validation prompts", harmful + harmless),
    ]
    ranked_by = "refusal scores" if rule.reads_tokens else "states"
    parts.append(_under(chat, f"{ranked_by} with a candidate ablated", candidates, harmful))
    if not rule.reads_tokens:
        parts.append(_under(chat, "states with a candidate added", candidates, harmless))
    if all_scores:
        parts.append(_under(chat, "KL divergence of a candidate", candidates, harmless))
        if rule.reads_tokens:
            parts.append(_under(chat, "steering score of a candidate", candidates, harmless))
        return Workload(len(prompts.every()), tuple(parts))
    first = min(WAVE, chat.batch_size, candidates)
    # If no candidate is within the limits, all are tried again to find the lowest divergence.
    more = candidates - first + (candidates if rule.falls_back else 0)
    steered = 0 if rule.least_steering is None else candidates - 1
    parts.append(_under(chat, "KL divergence of the first candidates", first, harmless))
    if rule.reads_tokens:
        parts.append(_under(chat, "steering score of the choice", min(1, candidates), harmless))
    parts.append(
        _under(chat, "scores of further candidates", more + steered, harmless, certain=False)
    )
    return Workload(len(prompts.every()), tuple(parts))


def of_transfer(
    chat: ChatModel,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    dataset: str,
    limit: int | None,
    max_gen_toks: int,
) -> Workload:
    """Count what `transfer.transfer` does with directions that were extracted before.

    Args:
        chat: the model, with or without weights.
        sources, targets, dataset, limit, max_gen_toks: as in `transfer`.
    """
    harmful, _ = kinds_of(dataset)
    asked = [row.prompt for target in targets for row in data.load(harmful, target)[:limit]]
    times = 1 + len(sources)
    answers = Part(
        f"answers without ablation and with each of {len(sources)} directions ablated",
        times * len(asked),
        times * _tokens(chat, asked),
        answers=times * len(asked),
        tokens_each=max_gen_toks,
    )
    return Workload(len(asked), (answers,), judged=answers.answers)


def of_geometry(
    chat: ChatModel,
    languages: Sequence[str],
    *,
    dataset: str,
    limit: int | None,
    answered: Iterable[str] = (),
) -> Workload:
    """Count what `geometry.geometry` reads.

    Args:
        chat: the model, with or without weights.
        languages, dataset, limit: as in `geometry`.
        answered: the prompts of a run that are measured too.
    """
    asked = [
        row.prompt
        for language in dict.fromkeys(["en", *languages])
        for kind in kinds_of(dataset)
        for row in data.load(kind, language)[:limit]
    ]
    asked += sorted({*answered}.difference(asked))
    return Workload(len(asked), (_read_once(chat, "states of prompts", asked),))


def _read_once(chat: ChatModel, what: str, prompts: list[str]) -> Part:
    return Part(what, len(prompts), _tokens(chat, prompts))


def _under(
    chat: ChatModel, what: str, candidates: int, prompts: list[str], *, certain: bool = True
) -> Part:
    """Count each prompt under each candidate as `scores.SideBySide` reads it, its head once."""
    ids = chat.token_ids(prompts)
    head = len(common_head([row.tolist() for row in ids]))
    tokens = head + sum(len(row) - head for row in ids)
    return Part(what, candidates * len(prompts), candidates * tokens, certain=certain)


def _tokens(chat: ChatModel, prompts: list[str]) -> int:
    return sum(len(row) for row in chat.token_ids(prompts))
