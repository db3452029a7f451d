"""What an artifact was made from, beside the model that it is used on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyrefuse_models import bundled
from polyrefuse_models.gguf_checkpoint import file_of
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def model_of(config: PretrainedConfig) -> dict[str, str | None]:
    """What artifacts and reports say of their model: its name, its commit, and its GGUF file.

    The revision is the commit of a snapshot of the hub, whatever name the snapshot was asked for
    by, and None for a folder, which has no commit.
    """
    return {
        "model": bundled.name_of(config.name_or_path),
        "revision": getattr(config, "_commit_hash", None),
        "gguf_file": file_of(config),
    }


def warn_of_another_model(made: str, metadata: Mapping[str, Any], config: PretrainedConfig) -> None:
    """Say so where an artifact's metadata names another model than `config` does.

    Args:
        made: how it came from its model, such as "The direction was extracted from".
        metadata: `model_of` that model; what is not there is not compared.
    """
    mine = model_of(config)
    theirs = {name: metadata.get(name, value) for name, value in mine.items()}
    theirs["model"] = bundled.name_of(str(theirs["model"]))
    if mine != theirs:
        logger.warning("%s %s and this is %s.", made, _described(theirs), _described(mine))


def _described(model: Mapping[str, Any]) -> str:
    beside = "" if model["gguf_file"] is None else f", {model['gguf_file']}"
    return f"{model['model']} (revision {model['revision']}{beside})"
