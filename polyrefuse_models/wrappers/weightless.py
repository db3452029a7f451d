"""A model without weights, which shows what the loaded model would read for a prompt.

Tokenizer, chat template and shape are the model's own, and the wrapper around them is the one that
lm_eval uses. The weights are on torch's device `meta`, where they take no memory. The model
therefore cannot answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from polyrefuse_models import bundled
from polyrefuse_models.wrappers.hf import BaselineHF, McdHF

LOADING = ("revision", "trust_remote_code", "gguf_file", "subfolder")
"""The arguments of lm-eval's model that choose a configuration and a tokenizer."""

PROMPTING = (
    *("chat", "system", "system_file", "prompt", "chat_template_args", "enable_thinking"),
    *("add_bos_token", "prefix_token_id", "max_length", "truncation", "think_end_token"),
)
"""The arguments that decide what a model reads for a prompt."""


def weightless(arguments: Mapping[str, Any]) -> BaselineHF:
    """Make the wrapper of a model without weights.

    Args:
        arguments: the arguments of lm-eval's model, with `pretrained`. Arguments that do not decide
            what the model reads are ignored.

    Raises:
        UserError: an argument cannot be used.
        OSError, ValueError: the configuration or the tokenizer cannot be read; transformers raises
            other errors too.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    given = {name: value for name, value in arguments.items() if value is not None}
    pretrained = given.get("pretrained") or bundled.ORGANISM
    if bundled.is_shipped(pretrained):
        pretrained = str(bundled.path(bundled.name_of(pretrained)))
    how = {name: given[name] for name in LOADING if name in given}
    config = AutoConfig.from_pretrained(pretrained, **how)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, trust_remote_code=bool(given.get("trust_remote_code"))
        )
    # Messages, and conditions inside the chat template, use this name.
    model.config._name_or_path = pretrained
    if "tokenizer" in given:
        how.pop("gguf_file", None)
    tokenizer = AutoTokenizer.from_pretrained(
        given.get("tokenizer", pretrained),
        use_fast=given.get("use_fast_tokenizer", True),
        **how,
    )
    asked = {name: given[name] for name in PROMPTING if name in given}
    made = McdHF if "prompt" in asked else BaselineHF
    return made(pretrained=model, tokenizer=tokenizer, device="cpu", **asked)
