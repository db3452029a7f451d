"""Set a checkpoint's own generation settings aside, as this package does everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from polyrefuse_tasks.generation_settings import NEUTRAL, departures

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class NeutralConfig(GenerationConfig):
    """A generation_config that `neutralise` made. Settings that differ from neutral are our own."""


def neutralise(model: PreTrainedModel) -> dict[str, Any]:
    """Set a model's own generation settings aside, except the ids of its special tokens.

    `generate` takes settings that a call does not name from `model.generation_config`. This
    function gives these settings neutral values, once. A setting that a call names still takes
    precedence, and so does one that is changed there later, as by a soft prompt that suppresses its
    tokens. Settings that transformers does not know stay, because a model's own code may need them.

    Args:
        model: any model that generates. A model without a generation_config is left alone.

    Returns:
        The settings that were set aside and would have changed answers. A second call returns none.
    """
    given = getattr(model, "generation_config", None)
    if given is None or isinstance(given, NeutralConfig):
        return {}
    settings = given.to_dict()
    kept = {
        name: settings[name]
        for name in settings
        if name not in NEUTRAL and (name.endswith("_token_id") or name in _unknown(given))
    }
    neutral = NeutralConfig(**kept)
    # The constructor would warn that some of them have no effect on greedy answers.
    for name, value in NEUTRAL.items():
        setattr(neutral, name, value)
    # A model of peft looks the config up in the model that it wraps.
    whole: Any = model
    owner = whole.get_base_model() if hasattr(model, "get_base_model") else model
    owner.generation_config = neutral
    return departures(settings)


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """Return the settings that `generate` starts from, with the tokens that end an answer."""
    config = getattr(model, "generation_config", None)
    names = (*NEUTRAL, "eos_token_id", *sorted(_unknown(config)))
    return {name: getattr(config, name, None) for name in names}


def _unknown(config: GenerationConfig | None) -> set[str]:
    """Return the settings that transformers does not know and a model's own code may need."""
    return (
        set() if config is None else config.to_dict().keys() - GenerationConfig().to_dict().keys()
    )
