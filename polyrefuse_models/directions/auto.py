"""Extract the refusal direction of a model once and keep it, for `direction=auto`."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from polyrefuse_models.anatomy import width
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.directions.recipe import make_direction, recipe_checksum
from polyrefuse_models.directions.select import DEFAULT, Rule
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
"""The folder in the data cache in which directions are kept."""

FORMAT = 4
"""The version of what a direction records. After a change, all directions are extracted again."""


def find_direction(
    chat: ChatModel,
    prompts: Prompts,
    *,
    tokens: list[int] | None = None,
    rule: Rule = DEFAULT,
) -> Direction:
    """Extract a refusal direction, or return the one kept for the same model and prompts.

    Args:
        chat: the model.
        prompts: what `prompts.sample` chose.
        tokens: the ids of the refusal tokens; None derives them from the training prompts.
        rule: the rule that chooses a candidate.

    Raises:
        NoDirection: the rule chooses no candidate, or every score is NaN.
    """
    recipe_sha256 = recipe_checksum(chat, prompts, tokens, rule)
    direction = None if recipe_sha256 is None else _kept(key(recipe_sha256), width(chat.model))
    if direction is None:
        direction = make_direction(
            chat, prompts, tokens=tokens, rule=rule, recipe_sha256=recipe_sha256
        )
        if recipe_sha256 is not None:
            _keep(direction, _folder(key(recipe_sha256)), width(chat.model))
    for warning in direction.metadata.get("warnings", []):
        logger.warning("direction=auto: %s.", warning)
    return direction


def key(recipe_sha256: str) -> str:
    """Compute the name that a recipe's direction is kept under.

    The name depends on the versions of the software, since another version may round differently
    or may have corrected a fault.
    """
    text = json.dumps([FORMAT, recipe_sha256, versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _folder(name: str) -> Path:
    return cache.cache() / FOLDER / name


def _kept(name: str, d: int) -> Direction | None:
    """Read the direction that was kept under a name; None if there is none that can be used."""
    folder = _folder(name)
    direction = _read(folder, d)
    if direction is not None:
        logger.info("direction=auto: read the direction that was extracted earlier from %s", folder)
    return direction


def _read(folder: Path, d: int) -> Direction | None:
    """Read the direction in a folder; None if there is none that can be used."""
    if not folder.is_dir():
        return None
    try:
        return _load(folder, d)
    except BadDirection as damaged:
        logger.warning("direction=auto: extracting the direction again, since %s", damaged)
        return None


def _load(folder: Path, d: int) -> Direction:
    """Read the direction in a folder.

    Raises:
        BadDirection: it is missing or cannot be used.
    """
    direction = artifact.load(folder)
    direction.check(d, str(folder))
    return direction


def _keep(direction: Direction, folder: Path, d: int) -> None:
    with suppress(BadDirection):
        _load(folder, d)
        return  # Another process has kept it meanwhile, and others may be reading it.
    discard(folder)
    try:
        artifact.save(direction, folder)
    except CannotWrite as error:
        # The disk is full, or another process keeps it just now. The direction itself is good.
        logger.warning("direction=auto: the direction could not be kept (%s)", error)
