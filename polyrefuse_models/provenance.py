"""What an artifact was made from, beside the model that it is used on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyrefuse_models import bundled
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def warn_of_another_model(made: str, metadata: Mapping[str, Any], config: PretrainedConfig) -> None:
    """Say so where an artifact's metadata names another model or revision than `config` does.

    Args:
        made: how it came from its model, such as "The direction was extracted from".
        metadata: `model` and `revision` of that model; what is not there is not compared.
    """
    mine = bundled.name_of(config.name_or_path), getattr(config, "_commit_hash", None)
    theirs = (
        bundled.name_of(str(metadata.get("model", mine[0]))),
        metadata.get("revision", mine[1]),
    )
    if mine != theirs:
        logger.warning("%s %s (revision %s) and this is %s (revision %s).", made, *theirs, *mine)
