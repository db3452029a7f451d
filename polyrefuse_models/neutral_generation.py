"""Generation without a checkpoint's own settings: the one way in which this package generates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from polyrefuse_tasks.generation_settings import NEUTRAL, departures

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class NeutralConfig(GenerationConfig):
    """A generation_config that `neutralise` made: what is set in it later is ours."""


def neutralise(model: PreTrainedModel) -> dict[str, Any]:
    """Set a model's own generation settings aside, all but the ids of its special tokens.

    `generate` fills what a call does not name from `model.generation_config`. That gets neutral
    values, once; what a call names still wins, and so does what is set there later, as a soft
    prompt suppresses its tokens. What transformers does not know stays, for a model's own code.

    Args:
        model: any that generates; one without a generation_config is left alone.

    Returns:
        The settings that were set aside and would have changed answers; nothing the second time.
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
    # Named in the constructor, some would be warned of as having no effect on greedy answers.
    for name, value in NEUTRAL.items():
        setattr(neutral, name, value)
    # peft's model looks it up in the one that it is around.
    whole: Any = model
    owner = whole.get_base_model() if hasattr(model, "get_base_model") else model
    owner.generation_config = neutral
    return departures(settings)


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """The settings that a call of `generate` starts from, with the tokens that end an answer."""
    config = getattr(model, "generation_config", None)
    names = (*NEUTRAL, "eos_token_id", *sorted(_unknown(config)))
    return {name: getattr(config, name, None) for name in names}


def _unknown(config: GenerationConfig | None) -> set[str]:
    """Settings that transformers does not know and a model's own code may need."""
    return (
        set() if config is None else config.to_dict().keys() - GenerationConfig().to_dict().keys()
    )
