"""Compare the model that an artifact was made from with the model that it is used on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polyrefuse_models import bundled
from polyrefuse_models.gguf_checkpoint import file_of
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def model_of(config: PretrainedConfig) -> dict[str, str | None]:
    """Return what an artifact's metadata says about its model: name, commit and GGUF file.

    The revision of a model from the hub is its commit, even if the user named a branch or a tag. A
    folder has no commit, and its revision is None.
    """
    return {
        "model": bundled.name_of(config.name_or_path),
        "revision": getattr(config, "_commit_hash", None),
        "gguf_file": file_of(config),
    }


def warn_of_another_model(made: str, metadata: Mapping[str, Any], config: PretrainedConfig) -> None:
    """Log a warning if an artifact's metadata names another model than `config` does.

    Args:
        made: the beginning of the sentence, such as "The direction was extracted from".
        metadata: what `model_of` returned for the artifact's model. Missing entries are not
            compared.
        config: the configuration of the model that the artifact is used on.
    """
    mine = model_of(config)
    theirs = {name: metadata.get(name, value) for name, value in mine.items()}
    theirs["model"] = bundled.name_of(str(theirs["model"]))
    if mine != theirs:
        logger.warning("%s %s, but this model is %s.", made, _described(theirs), _described(mine))


def _described(model: Mapping[str, Any]) -> str:
    beside = "" if model["gguf_file"] is None else f", {model['gguf_file']}"
    return f"{model['model']} (revision {model['revision']}{beside})"
