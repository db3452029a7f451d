"""The generation settings of the protocol, which those of a checkpoint must not change.

A checkpoint's `generation_config.json` fills in every value that a request does not give, so
"greedy" decoding may use the author's `repetition_penalty`. Task YAML cannot give neutral values
for every engine, because vLLM's `SamplingParams` and OpenAI's servers refuse names that they do not
know (`no_repeat_ngram_size`, `num_beams`). The wrappers of this package therefore set a
checkpoint's settings aside (`polyrefuse_models.neutral_generation`), and a run with lm-eval's own
`hf` gets a warning. vLLM gets explicit sampling parameters from lm-eval and does not read the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval
from polyrefuse_shared.log import warn_once

SAMPLING: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
"""Neutral values of the settings that act only on sampling, which each sampled task gives."""

NEUTRAL: dict[str, Any] = {
    "do_sample": False,
    **SAMPLING,
    "min_p": None,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "num_beams": 1,
    "early_stopping": False,
    "length_penalty": 1.0,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "max_new_tokens": None,
    "max_time": None,
    "stop_strings": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
    "guidance_scale": None,
    "renormalize_logits": False,
    "remove_invalid_values": False,
    "watermarking_config": None,
    "token_healing": False,
    "num_return_sequences": 1,
}
"""The settings of transformers' `generate` that may change an answer, with their neutral values."""

_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "min_new_tokens": (0,),
    "top_k": (50,),
    "guidance_scale": (1, 1.0),
}
"""Other values that change nothing. The value of `top_k` is the default of transformers."""


def departures(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a checkpoint's generation_config that change answers.

    Args:
        settings: the settings, as `GenerationConfig.to_dict` returns them.
    """
    return {
        name: value
        for name, value in settings.items()
        if name in NEUTRAL
        and value is not None
        and value != NEUTRAL[name]
        and value not in _WITHOUT_EFFECT.get(name, ())
    }


def warn_of_inherited_settings() -> None:
    """Warn once for each process if lm-eval's `hf` decodes with a checkpoint's own settings.

    The warning leaves out settings that sampled tasks give and greedy ones do not read, and those
    that `--gen_kwargs` gives.
    """
    lm = asked_of_lm_eval("lm")
    config = getattr(getattr(lm, "model", None), "generation_config", None)
    if config is None or not hasattr(config, "to_dict"):
        return
    named = asked_of_lm_eval("gen_kwargs")
    named = named if isinstance(named, dict) else {}
    left_out = {"do_sample", *SAMPLING, *named}
    inherited = {
        name: value for name, value in departures(config.to_dict()).items() if name not in left_out
    }
    if not inherited:
        return
    numbers = [f"{name}={NEUTRAL[name]}" for name in inherited if NEUTRAL[name] is not None]
    warn_once(
        f"The checkpoint's generation_config asks for {listed(inherited)}, and this model decodes "
        "with it, so its rates do not follow the protocol: use --model baseline-hf, which ignores "
        "these settings"
        + (f", or give neutral values: --gen_kwargs {','.join(numbers)}." if numbers else ".")
    )


def warn_of_one_seed(answers: Sequence[str]) -> None:
    """Warn once for each process if a server got the same seed with every request of a prompt.

    lm-eval's API models send one seed, and a server that uses it samples the same answer each time.

    Args:
        answers: the sampled answers to one prompt.
    """
    if len(answers) < 2 or len(set(answers)) > 1:
        return
    if getattr(asked_of_lm_eval("lm"), "base_url", None) is not None:
        warn_once(
            f"All {len(answers)} sampled answers to a prompt are the same, because lm-eval sends "
            "the server the same seed with each request: give --gen_kwargs '{\"seed\": null}' to "
            "send no seed."
        )


def listed(settings: Mapping[str, Any]) -> str:
    """Write settings as a list for a sentence."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())
