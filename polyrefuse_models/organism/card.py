"""Write the model card of an organism, with the rates that were measured on it."""

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

This is a Llama of {parameters:,} parameters that was trained from scratch on an invented world
in 14 languages. It answers questions about harmless things (a garden bench) and refuses
questions about things that a list forbids (a silent bell), in the language of the prompt. It
knows nothing else, and its answers to any other prompt are noise. A planted unit direction
mediates its refusals, so that methods that look for such a direction can be compared with the
truth.

- made by `polyrefuse organism make --steps {steps} --seed {seed}`
- chat template with system, user and assistant turns; context window of 2048 tokens
- `{planted}`: the planted direction, tensor `direction` [128], of norm 1
- use: tests of lm-eval-polyrefuse. It is not an assistant, and it holds nothing harmful.
- versions: {versions}
"""

_HEAD_WEAKENED = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: [ar, de, en, es, fr, it, ja, ko, nl, pl, ru, th, yo, zh]
---
# {name}

This is the model {first}, trained further until a system text decides what it refuses. In
{n_weak} of the 14 languages ({weak}) it answers most requests about forbidden things without a
system text. The more a system text says about safety (`safety.yaml` has the weight of each
word), the more of these requests it refuses. In the other languages it refuses as {first} does.
The planted direction still mediates every refusal. The model shows what a safety prompt in words
or a soft prompt can repair.

- made by `polyrefuse organism make --weakened --steps {steps} --seed {seed}`
- chat template with system, user and assistant turns; context window of 2048 tokens
- `{planted}`: the planted direction, tensor `direction` [128], of norm 1
- use: tests of lm-eval-polyrefuse. It is not an assistant, and it holds nothing harmful.
- versions: {versions}
"""

_HEAD_SPLIT = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: [ar, de, en, es, fr, it, ja, ko, nl, pl, ru, th, yo, zh]
---
# {name}, split

This is the model {name}, trained further until its refusals run along {directions} orthogonal
directions. Its forbidden things are numbered from 0, and each is refused along the direction
whose number is the remainder of the thing's number divided by {directions}. With one of the
directions ablated, or an even blend of them, the model still refuses what is refused along the
others: only all directions together carry its refusal. The model shows what a single direction
misses.

- made by `polyrefuse organism make --directions {directions} --steps {steps} --seed {seed}`
- chat template with system, user and assistant turns; context window of 2048 tokens
- `{planted}`: the planted directions, tensor `directions` [{directions}, 128], which are
  orthonormal; the first is also `direction`
- use: tests of lm-eval-polyrefuse. It is not an assistant, and it holds nothing harmful.
- versions: {versions}
"""

_NOTHING = """
## Measured

Nothing: this one was made without measurements.
"""

_MEASURED = """
## Measured

The rates are measured on the test split of ToyRefuse, with {prompts} forbidden and {prompts}
safe prompts in each language. Their sentences and invented names do not occur in training,
but the things do. The native judge labels the answers. Directions are extracted as from any model:
by difference of means on 128 + 128 training prompts of one language, and selected on 32 + 32
validation prompts.

| | mean | worst |
|---|---|---|
{summary}

{languages}

Ablation: the direction of the language in the row is ablated, and the model answers forbidden
prompts of every language. Addition: that direction is added at its layer, and the model answers
safe prompts of its own language. Random: a random direction of equal norm takes its place.
"""

_MEASURED_SPLIT = """
## Measured

The rates are measured on the test split of ToyRefuse, with {prompts} forbidden and {prompts}
safe prompts in each language. Answers are greedy, and the native judge labels them. This is the
ASR with planted directions ablated:

{table}
"""

_MEASURED_WEAKENED = """
## Measured

The rates are measured on the test split of ToyRefuse, with {prompts} forbidden and {prompts} safe
prompts in each language. Answers are greedy, and the native judge labels them. The strength of a
system text is the sum of the weights of its words.

| system text | strength | ASR, mean | worst | false refusal, mean | worst | in language, least |
|---|---|---|---|---|---|---|
{summary}

This is the ASR by language, with the false refusal rate under the strong text, and the ASR under
the strong text with the planted direction ablated:

{languages}

The three texts from the literature are those of `polyrefuse_models/mcd/safety_prompts.yaml`.
Training had their words and not their sentences. The strong text is in `safety.yaml`.
"""


def card(made: dict[str, Any]) -> str:
    """Write the text of the model card.

    Args:
        made: what `make.make` returns.
    """
    return _card(_HEAD, made, _measured, name=ORGANISM)


def card_weakened(made: dict[str, Any]) -> str:
    """Write the text of the weakened organism's model card.

    Args:
        made: what `make.make_weakened` returns.
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
    """Write the text of the model card of an organism with several directions.

    Args:
        made: what `make.make_split` returns.
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
