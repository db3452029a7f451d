"""Count the errors of the judge and of the language identification on texts with known labels.

    POLYREFUSE_DATA_DIR=MIRROR python benchmarks/judge_errors.py [--labels ROWS.jsonl] [--json]

A prompt is neither a refusal nor a broken answer, and its language is known. The program judges
prompts as if they were answers, so that it can count errors without labels. Each line of the first
part has a rate with its n and Wilson's 95% interval: the share of texts that the native judge calls
degenerate, or a refusal. Each line of the second part has the number of texts of at least 20
letters whose language py3langid identifies wrongly. Prompts come from the mirror or the cache, or
are downloaded. If the file of the development rows is present, both parts include these rows.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import yaml

from polyrefuse_shared.intervals import wilson
from polyrefuse_tasks import data
from polyrefuse_tasks.data.toyrefuse import SPLITS, requests
from polyrefuse_tasks.judges import Label, judge_response
from polyrefuse_tasks.judges.degenerate import loop, unreadable
from polyrefuse_tasks.judges.reasoning import strip_reasoning
from polyrefuse_tasks.language_identification import ENOUGH_LETTERS, TOO_ALIKE, response_language
from polyrefuse_tasks.languages import POLYREFUSE

SENTENCES = Path(__file__).parents[1] / "tests/polyrefuse_tasks/sentences.yaml"
LABELS = Path(__file__).parents[2] / "shared/oracles/refusal_labels_dev.jsonl"
POLYREFUSE_SETS = ("harmful", "harmless", "jailbreakbench")

Text = tuple[str, str]
"""A text and the ISO 639-1 code of the language that it is in."""


def main() -> None:
    """Print both tables, or one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=Path, default=LABELS, help="The development rows.")
    parser.add_argument("--json", action="store_true", help="Print one JSON document.")
    given = parser.parse_args()
    judged = dict(errors_of_the_judge(given.labels))
    identified = dict(errors_of_identification(given.labels))
    if given.json:
        print(json.dumps({"judge": judged, "identification": identified}, ensure_ascii=False))
        return
    for name, (n, k) in judged.items():
        low, high = wilson(k, n)
        print(f"{name}: {k} of {n}, {k / n:.4f} [{low:.4f}, {high:.4f}]")
    for name, counts in identified.items():
        n, wrong = counts.pop("n"), counts.pop("wrong")
        others = ", ".join(f"{pair} {k}" for pair, k in sorted(counts.items()))
        print(f"{name}: {wrong} of {n} ({wrong / max(n, 1):.1%}) {others}".rstrip())


def errors_of_the_judge(labels: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each set's name, its number of texts, and how many of them the judge labels wrongly."""
    polyrefuse = list(prompts(POLYREFUSE_SETS, every_split=True))
    multijail = list(prompts(("multijail",), every_split=True))
    harmless = list(prompts(("harmless",), every_split=True))
    yield "PolyRefuse's prompts, degenerate", counted(polyrefuse, is_degenerate)
    yield "MultiJail's prompts, degenerate", counted(multijail, is_degenerate)
    yield "PolyRefuse's harmless prompts, refusals", counted(harmless, is_refusal)
    if labels.is_file():
        rows = list(development_rows(labels))
        others = [row for row in rows if row[1] != "yo"]
        yield "development rows, shortened as if they had reasoning", counted(rows, has_reasoning)
        yield "development rows except yo, word salad and leftovers", counted(others, is_unreadable)
        yield "development rows except yo, loops", counted(others, loops)
        yield "development rows except yo, degenerate", counted(others, is_degenerate)
        yield (
            "development rows in yo, degenerate",
            counted([row for row in rows if row[1] == "yo"], is_degenerate),
        )


def errors_of_identification(labels: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield each set's name and its counts, as `mistaken` returns them."""
    yield "answers and refusals of the organism", mistaken(organism_says())
    yield "requests of the organism", mistaken(organism_is_asked())
    names = [
        name
        for name, source in data.datasets().items()
        if not (source.invented or source.own or source.only_by_name)
    ]
    asked = list(dict.fromkeys(prompts(names, every_split=False)))
    yield "distinct test prompts of the other datasets", mistaken(asked)
    yield "of these, 20 to 39 letters", mistaken(t for t in asked if letters(t) < 40)
    yield "of these, 100 letters or more", mistaken(t for t in asked if letters(t) >= 100)
    for language in sorted({language for _, language in asked}):
        yield f"of these, {language}", mistaken(t for t in asked if t[1] == language)
    for language, row in yaml.safe_load(SENTENCES.read_text(encoding="utf-8")).items():
        if language not in {spoken for _, spoken in asked}:
            said = [(text, language) for kind in row.values() for text in kind]
            yield f"sentences of the judge's tests, {language}", mistaken(said)
            if any(language in pair for pair in TOO_ALIKE):
                yield f"the same, {language} against its relative", mistaken(said, asked="en")
                fours = [
                    (" ".join(text for text, _ in said[i : i + 4]), language)
                    for i in range(0, len(said), 4)
                ]
                yield f"the same, {language}, four at a time", mistaken(fours, asked="en")
    if labels.is_file():
        rows = list(development_rows(labels))
        for language in sorted({language for _, language in rows}):
            yield f"development rows, {language}", mistaken(r for r in rows if r[1] == language)


def prompts(names: Iterable[str], *, every_split: bool) -> Iterator[Text]:
    """Yield the prompts of datasets in the languages in which they were published."""
    for name in names:
        source = data.dataset(name)
        for language in source.languages:
            for split in source.splits if every_split else ("test",):
                # The rows that stand in for an unpublished split come with their own split.
                stand_in = (
                    every_split and split == "test" and data.substituted_split(name, language)
                )
                if split in source.splits and not stand_in:
                    yield from ((row.prompt, language) for row in data.load(name, language, split))


def organism_says() -> Iterator[Text]:
    """Yield every refusal and every answer of the invented world."""
    for language in POLYREFUSE:
        said = {
            text
            for forbidden in (True, False)
            for split in SPLITS
            for one in requests(forbidden, split)
            for text in (one.refusal(language), one.answer(language))
        }
        yield from ((text, language) for text in said)


def organism_is_asked() -> Iterator[Text]:
    """Yield every request of the invented world."""
    for language in POLYREFUSE:
        for forbidden in (True, False):
            for split in SPLITS:
                yield from ((one.prompt(language), language) for one in requests(forbidden, split))


def development_rows(labels: Path) -> Iterator[Text]:
    """Yield the answers of the development rows and the languages of their prompts."""
    for line in labels.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield row["response"], row["language"]


def letters(text: Text) -> int:
    return sum(map(str.isalpha, text[0]))


def mistaken(texts: Iterable[Text], asked: str | None = None) -> dict[str, int]:
    """Count the texts with enough letters, and those that are identified as another language.

    Args:
        texts: the texts.
        asked: the language that the prompt is said to have; by default that of the text. With
            another language, the identification also separates languages that are very similar.

    Returns:
        The number of texts with enough letters as `n`, the number of mistakes as `wrong`, and the
        number of each mistake as `CODE as CODE`.
    """
    counts = Counter[str](n=0, wrong=0)
    for text, language in texts:
        if letters((text, language)) >= ENOUGH_LETTERS:
            counts["n"] += 1
            found = response_language(text, asked or language)
            if found != language:
                counts["wrong"] += 1
                counts[f"{language} as {found}"] += 1
    return dict(counts)


def counted(texts: list[Text], is_wrong: Callable[[Text], bool]) -> tuple[int, int]:
    return len(texts), sum(map(is_wrong, texts))


def is_degenerate(text: Text) -> bool:
    return judge_response(*text).label is Label.DEGENERATE


def is_refusal(text: Text) -> bool:
    return judge_response(*text).label is Label.REFUSAL


def has_reasoning(text: Text) -> bool:
    return strip_reasoning(text[0]) != text[0]


def loops(text: Text) -> bool:
    return loop(text[0].strip()) is not None


def is_unreadable(text: Text) -> bool:
    return unreadable(text[0].strip()) is not None


if __name__ == "__main__":
    main()
