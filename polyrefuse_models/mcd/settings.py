"""How a soft prompt is trained: this package's settings, and those of the published code."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from polyrefuse_models.mcd.loss import Terms
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_shared.errors import UserError


@dataclass(frozen=True)
class Settings:
    """How a soft prompt is trained. The defaults are this package's.

    `PRESETS` has the published code's as well, so far as they can be had here;
    docs/how-to/soft-prompts.md lists the differences.

    Attributes:
        weights: of the four terms.
        learning_rate: of the optimiser, AdamW.
        pivot: basis, probes and base logits are the first language's for all, as in the paper's
            code; otherwise the first two are fitted on every language and each has its own base.
        mixed: the languages in one batch, instead of one after the other.
        reshuffled: every epoch has an order of its own; otherwise each language has the orders of
            the first one.
        init: the safety prompt in words that it begins with, a name of `SAFETY_PROMPTS`.
        epochs: over each language's anchors.
        batch_size: anchors a step.
        clip: greatest norm of the gradient.
        precision: of the vectors in training; "model" is what the model computes in.
        probes: how they are fitted: by regularised regression, or by the published code's gradient
            descent.
        labels: how answers are judged: by the native judge, or by the published code's rule.
        answers: sampled for a soft label.
        max_new_tokens: most tokens of such an answer.
        seed: of sampling, splits and order.
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
        """The languages that basis and probes are fitted on."""
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
"""What `--preset` names."""


def settings_of(options: Mapping[str, Any]) -> Settings:
    """What the options of `polyrefuse mcd train` ask for.

    Args:
        options: by the names of the command's parameters; None where the preset's is taken.

    Raises:
        UserError: a preset, a term or a safety prompt is not known.
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
    """`name`, if it is one of `names`.

    Raises:
        UserError: it is not; the message has the names there are.
    """
    if name not in names:
        raise UserError(f"{option} {name} is not known; use one of {', '.join(names)}.")
    return name
