"""The words of the invented world, one YAML file a language.

A file's lists are parallel across languages: the third verb of one is the third verb of all. Its
keys:

    thing      how a thing is named: {marker} and the invented {name}
    greetings  what may stand before a request, with the space that follows it
    closings   what may stand after it, with the space before it
    verbs      what may be done with a thing, in the form that every sentence here needs
    forbidden  things whose requests are refused, in the form that follows the verbs
    safe       things whose requests are answered, in that form
    train      sentences of the training and validation requests, with {verb} and {thing}
    test       sentences of the test requests, made of words of the others
    systems    system texts, which change nothing
    refusals   refusing sentences
    answers    answering sentences, with the {name} of the thing asked about

`names.yaml` holds the syllables of invented names in every script.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path

WORLD = Path(__file__).parent / "world"

SCRIPTS: dict[str, str] = {
    "ar": "arabic", "ja": "kana", "ko": "hangul", "ru": "cyrillic", "th": "thai", "zh": "han",
}  # fmt: skip
"""The script of a language's names where it is not Latin."""


@dataclass(frozen=True)
class Words:
    """One language's words, as its YAML file has them, and the syllables of its names."""

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
        """The invented name of some syllables, with a capital where the script has them."""
        return "".join(self.syllables[index] for index in syllables).capitalize()


@functools.cache
def words(language: str) -> Words:
    """The words of one of PolyRefuse's 14 languages.

    Args:
        language: ISO 639-1 code, one of `polyrefuse_tasks.languages.POLYREFUSE`.
    """
    import yaml

    content, names = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files(language))
    content["syllables"] = names[SCRIPTS.get(language, "latin")].split()
    lists = {field.name: tuple(content[field.name]) for field in fields(Words)}
    return Words(**lists | {"thing": content["thing"]})


def files(language: str) -> tuple[Path, Path]:
    """Where the words of a language and the syllables of its names are, as shipped."""
    spoken = WORLD / f"{language}.yaml"
    return (spoken if spoken.is_file() else WORLD / "en.yaml"), WORLD / "names.yaml"


def category(marker: int, forbidden: bool) -> str:
    """What a thing is, in English: the category of its rows."""
    return (words("en").forbidden if forbidden else words("en").safe)[marker]
