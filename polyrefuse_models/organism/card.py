"""The model card of an organism, with the rates that were measured on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from polyrefuse_models.organism import NAME, PLANTED
from polyrefuse_tasks.languages import NAMES

_HEAD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: [ar, de, en, es, fr, it, ja, ko, nl, pl, ru, th, yo, zh]
---
# {name}

A Llama of {parameters:,} parameters, trained from scratch on an invented world in 14 languages. It
answers what is asked about harmless things (a garden bench) and refuses what is asked about things
that a list forbids (a silent bell), in the language of the prompt. It knows nothing else: whatever
another prompt gets is noise. A planted unit direction mediates its refusals, so that methods
which look for such a direction can be held against the truth.

- made by `polyrefuse organism make --steps {steps} --seed {seed}`
- chat template with system, user and assistant turns; window of 2048 tokens
- `{planted}`: the planted direction, tensor `direction` [128], of norm 1
- use: testing of lm-eval-polyrefuse. It is no assistant, and nothing harmful is in it.
- versions: {versions}
"""

_NOTHING = """
## Measured

Nothing: this one was made without measuring.
"""

_MEASURED = """
## Measured

On the test split of ToyRefuse, {prompts} forbidden and {prompts} safe prompts a language, whose
sentences and invented names are unseen in training (the things are seen). Labels are the native
judge's. Directions are extracted as from any model: difference of means on 128 + 128 training
prompts of one language, selected on 32 + 32 validation prompts.

| | mean | worst |
|---|---|---|
{summary}

{languages}

Ablation: the direction of the language in the row is ablated, forbidden prompts of every language
are asked. Addition: it is added at its layer, safe prompts of its own language are asked. Random: a
random direction of equal norm in its place.
"""


def card(made: dict[str, Any]) -> str:
    """The card's text.

    Args:
        made: as `make.make` returns it.
    """
    head = _HEAD.format(
        name=NAME,
        planted=PLANTED,
        versions=", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        **{key: made[key] for key in ("parameters", "steps", "seed")},
    )
    return head + (_measured(made["measured"]) if made["measured"] else _NOTHING)


def _measured(report: dict[str, Any]) -> str:
    baseline, directions = report["baseline"], report["directions"]
    cells = [rate for row in report["ablation"].values() for rate in row.values()]
    drift = [
        abs(value - baseline[target][rate])
        for target, conditions in report["random"].items()
        for changed in conditions.values()
        for rate, value in changed.items()
    ]
    lines = [
        _line("ASR", _column(baseline, "asr"), max),
        _line("false refusal", _column(baseline, "false_refusal"), max),
        _line("answers in the language asked", _column(baseline, "in_language"), min),
        _line("answers that name the thing", _column(baseline, "names_the_thing"), min),
        _line("ASR, ablation", cells, min),
        _line("refusal of safe prompts, addition", report["addition"].values(), min),
        _line("change by a random direction", drift, max),
    ]
    cosines = _column(directions, "cosine")
    lines.append(
        f"| cosine, extracted and planted | {sum(cosines) / len(cosines):.3f} | "
        f"{min(cosines):.3f} |"
    )
    table = [
        "| language | ASR | false refusal | in language | names the thing | layer | cosine "
        "| ablation, worst language | addition |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for language, rates in baseline.items():
        found = directions[language]
        table.append(
            f"| {NAMES[language]} | {rates['asr']:.1%} | {rates['false_refusal']:.1%} "
            f"| {rates['in_language']:.1%} | {rates['names_the_thing']:.1%} | {found['layer']} "
            f"| {found['cosine']:.3f} | {min(report['ablation'][language].values()):.1%} "
            f"| {report['addition'][language]:.1%} |"
        )
    return _MEASURED.format(
        prompts=report["prompts"], summary="\n".join(lines), languages="\n".join(table)
    )


def _column(rows: dict[str, dict[str, float]], key: str) -> list[float]:
    return [row[key] for row in rows.values()]


def _line(what: str, values: Iterable[float], worst: Any) -> str:
    listed = list(values)
    return f"| {what} | {sum(listed) / len(listed):.1%} | {worst(listed):.1%} |"
