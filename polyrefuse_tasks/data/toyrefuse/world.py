"""The words of the invented world, one YAML file for each language.

The lists are parallel across languages: the third verb of one language is the third verb of all.
A file has these keys:

    thing      the name of a thing, with {marker} and the invented {name}
    greetings  texts that may come before a request, each with the space that follows it
    closings   texts that may come after a request, each with the space before it
    verbs      actions on a thing, in the form that every sentence here needs
    forbidden  things whose requests are refused, in the form that follows the verbs
    safe       things whose requests are answered, in the same form
    train      sentences of the training and validation requests, with {verb} and {thing}
    test       sentences of the test requests, made of words of the training sentences
    systems    system texts, which change nothing
    refusals   sentences that refuse
    answers    sentences that answer, with the {name} of the thing

`names.yaml` has the syllables of invented names in every script.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path

WORLD = Path(__file__).parent / "world"

SCRIPTS: dict[str, str] = {
    "ar": "arabic", "ja": "kana", "ko": "hangul", "ru": "cyrillic", "th": "thai", "zh": "han",
}  # fmt: skip
"""The script of a language's names, if it is not Latin."""


@dataclass(frozen=True)
class Words:
    """The words of one language, as in its YAML file, and the syllables of its names."""

    thing: str
    greetings: tuple[str, ...]
    closings: tuple[str, ...]
    verbs: tuple[str, ...]
    forbidden: tuple[str, ...]
    safe: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    systems: tuple[str, ...]
    refusals: tuple[str, ...]
    answers: tuple[str, ...]
    syllables: tuple[str, ...]

    def name(self, syllables: tuple[int, ...]) -> str:
        """Return the name with these syllables, with a capital if the script has capitals."""
        return "".join(self.syllables[index] for index in syllables).capitalize()


@functools.cache
def words(language: str) -> Words:
    """Return the words of one of PolyRefuse's 14 languages.

    Args:
        language: an ISO 639-1 code of `polyrefuse_tasks.languages.POLYREFUSE`.
    """
    import yaml

    content, names = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files(language))
    content["syllables"] = names[SCRIPTS.get(language, "latin")].split()
    lists = {field.name: tuple(content[field.name]) for field in fields(Words)}
    return Words(**lists | {"thing": content["thing"]})


def files(language: str) -> tuple[Path, Path]:
    """Return the shipped files with the words of a language and the syllables of its names."""
    spoken = WORLD / f"{language}.yaml"
    return (spoken if spoken.is_file() else WORLD / "en.yaml"), WORLD / "names.yaml"


def category(marker: int, forbidden: bool) -> str:
    """Return the English name of a kind of thing, which is the category of its rows."""
    return (words("en").forbidden if forbidden else words("en").safe)[marker]
