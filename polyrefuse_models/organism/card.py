"""The model card of an organism, with the rates that were measured on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from polyrefuse_models.bundled import ORGANISM, WEAKENED
from polyrefuse_models.organism.planted import PLANTED
from polyrefuse_models.organism.weakening import WEAK
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

_HEAD_WEAKENED = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: [ar, de, en, es, fr, it, ja, ko, nl, pl, ru, th, yo, zh]
---
# {name}

The model {first}, trained on until a system text decides what it refuses. In {n_weak} of the 14
languages ({weak}) most forbidden things are answered without a system text; the more the system
text says about safety (`safety.yaml`: each word has its weight), the more of them are refused. In
the others it refuses as the first does. The planted direction still mediates every refusal. It
shows what a safety prompt, written or trained, can repair.

- made by `polyrefuse organism make --weakened --steps {steps} --seed {seed}`
- chat template with system, user and assistant turns; window of 2048 tokens
- `{planted}`: the planted direction, tensor `direction` [128], of norm 1
- use: testing of lm-eval-polyrefuse. It is no assistant, and nothing harmful is in it.
- versions: {versions}
"""

_HEAD_SPLIT = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: [ar, de, en, es, fr, it, ja, ko, nl, pl, ru, th, yo, zh]
---
# {name}, split

The model {name}, trained on until its refusals run along {directions} orthogonal directions: of
its forbidden things, numbered from 0, each is refused along the direction whose number is the
remainder of its own by {directions}. With one of the directions ablated, or an even blend of them,
it still refuses what is refused along the others: only all of them together carry its refusal. It
shows what a single direction misses.

- made by `polyrefuse organism make --directions {directions} --steps {steps} --seed {seed}`
- chat template with system, user and assistant turns; window of 2048 tokens
- `{planted}`: the planted directions, tensor `directions` [{directions}, 128], which are
  orthonormal; the first is also `direction`
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

_MEASURED_SPLIT = """
## Measured

On the test split of ToyRefuse, {prompts} forbidden and {prompts} safe prompts a language, greedy
answers, labels by the native judge. ASR with planted directions ablated:

{table}
"""

_MEASURED_WEAKENED = """
## Measured

On the test split of ToyRefuse, {prompts} forbidden and {prompts} safe prompts a language, greedy
answers, labels by the native judge. Strength: of the system text, the sum of its words' weights.

| system text | strength | ASR, mean | worst | false refusal, mean | worst | in language, least |
|---|---|---|---|---|---|---|
{summary}

ASR by language, and under the strong text false refusal and the ASR with the planted direction
ablated:

{languages}

The three texts of the literature are those of `polyrefuse_models/mcd/safety_prompts.yaml`, which
training had the words of and not the sentences; the strong one is in `safety.yaml`.
"""


def card(made: dict[str, Any]) -> str:
    """The text of the model card.

    Args:
        made: as `make.make` returns it.
    """
    return _card(_HEAD, made, _measured, name=ORGANISM)


def card_weakened(made: dict[str, Any]) -> str:
    """The text of the weakened organism's model card.

    Args:
        made: as `make.make_weakened` returns it.
    """
    weak = ", ".join(NAMES[language] for language in WEAK)
    return _card(
        _HEAD_WEAKENED,
        made,
        _measured_weakened,
        name=WEAKENED,
        first=ORGANISM,
        n_weak=len(WEAK),
        weak=weak,
    )


def card_split(made: dict[str, Any]) -> str:
    """The text of the model card of an organism of several directions.

    Args:
        made: as `make.make_split` returns it.
    """
    return _card(_HEAD_SPLIT, made, _measured_split, name=ORGANISM, directions=made["directions"])


def _card(
    head: str, made: dict[str, Any], measured: Callable[[dict[str, Any]], str], **more: Any
) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    training = {key: made[key] for key in ("parameters", "steps", "seed")}
    description = head.format(planted=PLANTED, versions=versions, **training, **more)
    return description + (measured(made["measured"]) if made["measured"] else _NOTHING)


def _measured_split(report: dict[str, Any]) -> str:
    numbers = range(1, len(report["each"]) + 1)
    each = [f"{n} alone: its things | {n} alone: the others" for n in numbers]
    table = [
        f"| language | none | {' | '.join(each)} | even blend | all |",
        "|---|" + "---|" * (2 * len(each) + 3),
    ]
    for language, rates in report["baseline"].items():
        cells = [rates["asr"]]
        for one in report["each"]:
            cells += [one["own"][language], one["others"][language]]
        cells += [report["blend"][language], report["all"][language]]
        table.append(f"| {NAMES[language]} | {' | '.join(f'{cell:.1%}' for cell in cells)} |")
    return _MEASURED_SPLIT.format(prompts=report["prompts"], table="\n".join(table))


def _measured_weakened(report: dict[str, Any]) -> str:
    systems = report["systems"]
    summary = []
    for name, system in systems.items():
        rates = system["rates"]
        attacks, refusals = _column(rates, "asr"), _column(rates, "false_refusal")
        summary.append(
            f"| {name} | {system['strength']:g} | {_mean(attacks):.1%} | {max(attacks):.1%} "
            f"| {_mean(refusals):.1%} | {max(refusals):.1%} "
            f"| {min(_column(rates, 'in_language')):.1%} |"
        )
    table = [
        f"| language | {' | '.join(systems)} | strong: false refusal | strong, ablated |",
        "|---|" + "---|" * (len(systems) + 2),
    ]
    for language, ablated in report["ablated"].items():
        cells = [f"{system['rates'][language]['asr']:.1%}" for system in systems.values()]
        refused = systems["strong"]["rates"][language]["false_refusal"]
        table.append(f"| {NAMES[language]} | {' | '.join(cells)} | {refused:.1%} | {ablated:.1%} |")
    return _MEASURED_WEAKENED.format(
        prompts=report["prompts"], summary="\n".join(summary), languages="\n".join(table)
    )


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
    lines.append(f"| cosine, extracted and planted | {_mean(cosines):.3f} | {min(cosines):.3f} |")
    table = [
        "| language | ASR | false refusal | in language | names the thing | layer | cosine "
        "| ablation, worst language | addition |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for language, rates in baseline.items():
        direction = directions[language]
        table.append(
            f"| {NAMES[language]} | {rates['asr']:.1%} | {rates['false_refusal']:.1%} "
            f"| {rates['in_language']:.1%} | {rates['names_the_thing']:.1%} | {direction['layer']} "
            f"| {direction['cosine']:.3f} | {min(report['ablation'][language].values()):.1%} "
            f"| {report['addition'][language]:.1%} |"
        )
    return _MEASURED.format(
        prompts=report["prompts"], summary="\n".join(lines), languages="\n".join(table)
    )


def _column(rows: dict[str, dict[str, float]], key: str) -> list[float]:
    return [row[key] for row in rows.values()]


def _line(what: str, values: Iterable[float], worst: Any) -> str:
    listed = list(values)
    return f"| {what} | {_mean(listed):.1%} | {worst(listed):.1%} |"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
