"""`direction=auto`: a model's refusal direction, extracted once and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from polyrefuse_models import bundled
from polyrefuse_models.anatomy import width
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.select import DEFAULT, Rule
from polyrefuse_models.weights import weights_checksum
from polyrefuse_shared.drafts import discard
from polyrefuse_shared.log import logger
from polyrefuse_shared.versions import versions
from polyrefuse_shared.writing import CannotWrite
from polyrefuse_tasks.data import cache

if TYPE_CHECKING:
    from pathlib import Path

    from polyrefuse_models.chat_model import ChatModel
    from polyrefuse_models.directions.prompts import Prompts

FOLDER = "directions"
"""Where the kept directions are, in the data cache."""


def find_direction(
    chat: ChatModel,
    prompts: Prompts,
    *,
    tokens: list[int] | None = None,
    rule: Rule = DEFAULT,
) -> Direction:
    """Extract a refusal direction, or take the one that was extracted from the same before.

    Args:
        chat: the model.
        prompts: what `prompts.sample` chose.
        tokens: refusal tokens; derived from the training prompts where None.
        rule: by which a candidate is chosen.

    Raises:
        NoDirection: the rule has no choice, or every candidate scored NaN.
    """
    if any(weight.is_meta for weight in chat.model.state_dict().values()):
        # Weights that are offloaded to the disk have no checksum, and so no key.
        direction = make_direction(chat, prompts, tokens=tokens, rule=rule)
    else:
        direction = _once(chat, prompts, tokens, rule)
    for warning in direction.metadata.get("warnings", []):
        logger.warning("direction=auto: %s.", warning)
    return direction


def key(chat: ChatModel, prompts: Prompts, tokens: list[int] | None, rule: Rule = DEFAULT) -> str:
    """sha256 of everything that a direction depends on.

    The weights themselves are hashed, in memory: name and revision are the same with an adapter,
    a quantisation or more training in a folder, and file headers are equal for two trainings of
    one architecture. The token ids are hashed as well: the chat template and its arguments, the
    tokenizer and the prompts are in them. Hashing takes about 0.6 s a GB.
    """
    config = chat.model.config
    inputs = [ids.tolist() for ids in chat.token_ids(prompts.every())]
    parts = {
        "model": bundled.name_of(config.name_or_path),
        "revision": getattr(config, "_commit_hash", None),
        "config": config.to_json_string(use_diff=False),
        "weights": weights_checksum(chat.model),
        "system": chat.system,
        "inputs": hashlib.sha256(json.dumps(inputs).encode()).hexdigest(),
        "suffix": chat.suffix,
        "dataset": prompts.dataset,
        "source_lang": prompts.language,
        "seed": prompts.seed,
        "data": prompts.sha256,
        "tokens": tokens,
        "rule": asdict(rule),
        "versions": versions(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _once(chat: ChatModel, prompts: Prompts, tokens: list[int] | None, rule: Rule) -> Direction:
    """The direction that was kept; where none was, a new one, which is then kept."""
    folder = cache.cache() / FOLDER / key(chat, prompts, tokens, rule)
    direction = _read(folder, width(chat.model))
    if direction is None:
        direction = make_direction(chat, prompts, tokens=tokens, rule=rule)
        _keep(direction, folder)
    else:
        logger.info("direction=auto: extracted before, read from %s", folder)
    return direction


def _read(folder: Path, d: int) -> Direction | None:
    """The kept direction; None where there is none that can be used."""
    if not folder.is_dir():
        return None
    try:
        direction = artifact.load(folder)
        direction.check(d, str(folder))
    except BadDirection as damaged:
        logger.warning("direction=auto: extracting anew, since %s", damaged)
        return None
    return direction


def _keep(direction: Direction, folder: Path) -> None:
    # What is there was found to be damaged.
    discard(folder)
    try:
        artifact.save(direction, folder)
    except CannotWrite as error:
        # A full disk, or another process that kept it first: the direction is good all the same.
        logger.warning("direction=auto: the direction was not kept (%s)", error)
