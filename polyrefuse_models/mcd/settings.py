"""Settings of the training of a soft prompt: this package's and the published code's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from polyrefuse_models.mcd.loss import Terms
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_shared.errors import UserError


@dataclass(frozen=True)
class Settings:
    """The settings of a training. The defaults are this package's.

    `PRESETS` also has the settings of the published code, with the differences that
    docs/how-to/soft-prompts.md lists.

    Attributes:
        weights: the weights of the four terms of the loss.
        learning_rate: the learning rate of AdamW.
        pivot: whether the basis, probes and base logits of the first language serve for all, as in
            the paper's code. If not, basis and probes are fitted on all languages, and each
            language has its own base logits.
        mixed: whether a batch mixes all languages. If not, training goes through one language after
            the other.
        reshuffled: whether every epoch of every language has its own order. If not, each language
            repeats the orders of the first.
        init: the safety prompt in words that training starts from, a name of `SAFETY_PROMPTS`.
        epochs: the number of passes over the anchors of each language.
        batch_size: the number of anchors in a step.
        clip: the norm at which the gradient is clipped.
        precision: the number type of the vectors in training; "model" means the model's own.
        probes: how the probes are fitted: by regularised regression, or by gradient descent as in
            the published code.
        labels: how answers are judged: by the native judge, or by the rule of the published code.
        answers: the number of answers sampled for a soft label.
        max_new_tokens: the largest number of tokens in such an answer.
        seed: the seed of sampling, splits and order.
    """

    weights: Terms = Terms(refusal=1.0, harmfulness=1e-2, norm=1.0, multilingual=1e-3)
    learning_rate: float = 3e-4
    pivot: bool = False
    mixed: bool = True
    reshuffled: bool = True
    init: str = "mistral"
    epochs: int = 5
    batch_size: int = 10
    clip: float = 1.0
    precision: Literal["float32", "model"] = "float32"
    probes: Literal["regularised", "published"] = "regularised"
    labels: Literal["native", "published"] = "native"
    answers: int = 20
    max_new_tokens: int = 128
    seed: int = 0

    def fitted(self, languages: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the languages that basis and probes are fitted on."""
        return languages[:1] if self.pivot else languages


PRESETS: dict[str, Settings] = {
    "default": Settings(),
    "paper": Settings(
        weights=Terms(refusal=1.0, harmfulness=1e-2, norm=1e-3, multilingual=1e-3),
        learning_rate=1e-3,
        pivot=True,
        mixed=False,
        reshuffled=False,
        init="default",
        precision="model",
        probes="published",
        labels="published",
        answers=25,
        max_new_tokens=300,
    ),
}
"""The settings that `--preset` names."""


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Make the settings that the options of `polyrefuse mcd train` ask for.

    Args:
        options: the options by the names of the command's parameters. An option that is None has
            the preset's value.

    Raises:
        UserError: a preset, a term or a safety prompt is unknown.
    """
    defaults = PRESETS[_known("--preset", options["preset"], PRESETS)]
    given_weights = {term: options[f"{term}_weight"] for term in Terms._fields}
    weights = {name: value for name, value in given_weights.items() if value is not None}
    without = options["without"]
    for term in [] if without is None else without.split(","):
        weights[_known("--without", term.strip(), Terms._fields)] = 0.0
    pivot, mixed, init = (options[name] for name in ("pivot", "mixed", "init"))
    return replace(
        defaults,
        weights=defaults.weights._replace(**weights),
        learning_rate=options["learning_rate"] or defaults.learning_rate,
        pivot=defaults.pivot if pivot is None else pivot,
        mixed=defaults.mixed if mixed is None else mixed,
        init=defaults.init if init is None else _known("--init", init, SAFETY_PROMPTS),
        epochs=options["epochs"],
        batch_size=options["step_size"],
        answers=options["answers"] or defaults.answers,
        max_new_tokens=options["max_gen_toks"] or defaults.max_new_tokens,
        seed=options["seed"],
    )


def _known(option: str, name: str, names: Collection[str]) -> str:
    """Return `name` if it is one of `names`.

    Raises:
        UserError: it is not one of them; the message lists the names.
    """
    if name not in names:
        raise UserError(f"{option} {name} is not known; use one of {', '.join(names)}.")
    return name
