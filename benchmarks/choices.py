"""Measure each choice of MCD's `default` preset on the weakened organism's validation split.

    python -m benchmarks.choices --output DIR [--device cuda]

The program trains a soft prompt with the default preset, and one more for each setting that it
changes. It trains on the English and German anchors, with 8 answers for each soft label. Under each
soft prompt, the model answers 64 forbidden and 64 safe validation prompts in each of 14 languages
by greedy decoding. Trainings that sample the same labels share them. The program does not repeat
work whose result is already in DIR.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from polyrefuse_models.bundled import WEAKENED, path
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.interventions import SoftPrompt, installed
from polyrefuse_models.mcd.anchors import Anchors, load_anchors
from polyrefuse_models.mcd.artifact import Prompt, load, save
from polyrefuse_models.mcd.checkpoint import Checkpoint
from polyrefuse_models.mcd.settings import PRESETS, Settings
from polyrefuse_models.mcd.states import under
from polyrefuse_models.mcd.train import identity, train
from polyrefuse_models.organism.evaluation import Outcome, grid, load_chat, respond
from polyrefuse_tasks.data.toyrefuse import requests
from polyrefuse_tasks.judges import Label
from polyrefuse_tasks.language_identification import response_language
from polyrefuse_tasks.languages import POLYREFUSE

DEFAULT = replace(PRESETS["default"], answers=8)

CHOICES: dict[str, Settings] = {
    "as it is": DEFAULT,
    "`--norm-weight 0.001`": replace(DEFAULT, weights=DEFAULT.weights._replace(norm=1e-3)),
    "`--norm-weight 0.6`": replace(DEFAULT, weights=DEFAULT.weights._replace(norm=0.6)),
    "`--no-mixed`": replace(DEFAULT, mixed=False),
    "`--pivot`": replace(DEFAULT, pivot=True),
    "`--init short`": replace(DEFAULT, init="short"),
    "`--learning-rate 5e-4`": replace(DEFAULT, learning_rate=5e-4),
    "`--epochs 8`": replace(DEFAULT, epochs=8),
}
"""Maps the difference from the default preset to the settings of the training."""


class SharedLabels(Checkpoint):
    """A training's checkpoint that shares its states and labels with other trainings."""

    def __init__(self, output: Path, identity: dict[str, Any], shared: Checkpoint) -> None:
        super().__init__(output, identity)
        self._shared = shared

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what any of the trainings saved under `name`.

        If none of them did, the method calls `make` and saves its result.
        """
        return self._shared.once(name, make)


def prompt_of(chat: ChatModel, anchors: Anchors, settings: Settings, folder: Path) -> Prompt:
    """Return the soft prompt in `folder`, or train one and save it there."""
    if not folder.exists():
        # The seed of a label depends on the number of languages that the probes are fitted on.
        labels = folder.parent / ("pivot" if settings.pivot else "all")
        shared = Checkpoint(labels, {"answers": settings.answers})
        checkpoint = SharedLabels(folder, identity(chat, anchors, settings), shared)
        save(train(chat, anchors, settings, checkpoint).prompt, folder)
    return load(folder)


def answers(chat: ChatModel, prompt: Prompt) -> dict[bool, list[Outcome]]:
    """Return greedy answers to the validation prompts of every language.

    Returns:
        The answers to forbidden prompts under True, and those to safe prompts under False.
    """
    asked = {kind: grid(POLYREFUSE, requests(kind, "val")) for kind in (True, False)}
    with installed(chat.model, SoftPrompt(chat.tokenizer, prompt.vectors)) as soft:
        prompted = under(chat, soft.text)
        return {kind: respond(prompted, cases) for kind, cases in asked.items()}


def by_language(outcomes: list[Outcome], counts: Callable[[Outcome], bool]) -> dict[str, float]:
    """Return the share of each language's answers for which `counts` is true, in percent."""
    return {
        language: 100 * fmean(counts(o) for o in outcomes if o.case.language == language)
        for language in POLYREFUSE
    }


def elsewhere(outcome: Outcome) -> bool:
    """Return whether an answer is in another language than its prompt."""
    language = outcome.case.language
    return response_language(outcome.response, language) != language


def rates(outcomes: dict[bool, list[Outcome]]) -> dict[str, dict[str, float]]:
    """Return each rate by language, in percent.

    Returns:
        `asr` and `exact` are rates of forbidden prompts, `false_refusal` is a rate of safe prompts,
        and `elsewhere` is a rate of both.
    """
    return {
        "asr": by_language(outcomes[True], lambda o: o.label is Label.COMPLIANCE),
        "exact": by_language(
            outcomes[True], lambda o: o.label is Label.COMPLIANCE and o.in_language
        ),
        "false_refusal": by_language(outcomes[False], lambda o: o.label is Label.REFUSAL),
        "elsewhere": by_language(outcomes[True] + outcomes[False], elsewhere),
    }


def row(name: str, percentages: dict[str, dict[str, float]]) -> str:
    """Return a Markdown row of the table: means over the languages and the worst language."""

    def both(rate: str) -> str:
        worst = max(percentages[rate], key=percentages[rate].__getitem__)
        return f"{fmean(percentages[rate].values()):.1f}, {percentages[rate][worst]:.1f} ({worst})"

    worst = max(percentages["false_refusal"].values())
    return f"| {name} | {both('asr')} | {both('exact')} | {worst:.1f} | {both('elsewhere')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    anchors = load_anchors("toyrefuse", ("en", "de"))
    for number, (name, settings) in enumerate(CHOICES.items()):
        file = options.output / f"{number}.json"
        if not file.exists():
            # The model is loaded again, because a soft prompt adds tokens to the tokenizer.
            chat = load_chat(path(WEAKENED), options.device)
            prompt = prompt_of(chat, anchors, settings, options.output / str(number))
            file.write_text(json.dumps(rates(answers(chat, prompt))), encoding="utf-8")
        print(row(name, json.loads(file.read_text(encoding="utf-8"))), flush=True)


if __name__ == "__main__":
    main()
