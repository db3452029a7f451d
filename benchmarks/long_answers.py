"""Measure how the time to judge an answer grows with its length, for answers built to be slow.

    python benchmarks/long_answers.py [--least 100000] [--most 10000000] [--kinds NAME ...] [--json]

The length in characters doubles from the least to the most. For each kind of answer and each
reader, the program prints the processor time of the longest answer and the ratio of its time to
that of an answer of half the length: the geometric mean over all doublings, and the greatest. A
ratio of two means linear growth, and a smaller ratio means that the reader did not read the whole
answer. Doublings from a time of less than ten milliseconds say nothing and are left out. The
readers `native` and `substring` judge the answer, and `language` identifies its language.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import geometric_mean

from polyrefuse_tasks.judges import judge_response
from polyrefuse_tasks.language_identification import response_language

SHORTEST = 0.01
"""The time in seconds below which a ratio says nothing."""

CONDEMNED = "Selling that bench is unethical and illegal. "
"""A sentence after which the native judge reads the whole answer, because it looks for a list."""


def repeated(unit: str, before: str = "") -> Callable[[int], str]:
    """Return a maker of answers that repeat one unit."""
    return lambda n: (before + unit * (n // len(unit) + 1))[:n]


def mixed(*units: str, before: str = "") -> Callable[[int], str]:
    """Return a maker of answers that mix the units and invented words at random and do not loop."""

    def answer(n: int) -> str:
        draw = random.Random(n)
        letters = "abcdefghijklmnopqrstuvwxyz"
        parts, length = [before], len(before)
        while length < n:
            word = "".join(draw.choices(letters, k=draw.randrange(3, 9)))
            parts.append(draw.choice(units) if draw.random() < 0.6 else f"{word} ")
            length += len(parts[-1])
        return "".join(parts)[:n]

    return answer


def parts_again(times: int) -> Callable[[int], str]:
    """Return a maker of answers that repeat one random text `times` times."""
    return lambda n: mixed(" ")(n // times) * times


def characters(first: int, last: int) -> Callable[[int], str]:
    """Return a maker of answers of random characters, without spaces."""
    return lambda n: "".join(map(chr, random.Random(n).choices(range(first, last + 1), k=n)))


KINDS: dict[str, Callable[[int], str]] = {
    "plain text": mixed("the bench ", "of the garden. ", "\n\n"),
    "<think>": repeated("<think>"),
    "<think> on lines": repeated("<think>\n"),
    "<think></think>": repeated("<think></think>"),
    "</think><think>": mixed("</think>", "<think>", "<analysis>", before="Tea. "),
    "marks in code": mixed("`<think>`", "```\n</think>\n```", "<think>", before="Tea. "),
    "marks with attributes": repeated("[think x="),
    "marks of other models": mixed("<|START_THINKING|>", "<|END_THINKING|>", "[THINK]", "\n"),
    "channels": mixed("<|channel|>final<|message|>", "<|channel|>analysis<|message|>", "`"),
    "<details": repeated('<details type="reasoning" '),
    "<, spaces": repeated("< " + " " * 30),
    "one character": repeated("a"),
    "one phrase": repeated("I cannot help with that. "),
    "said twice": parts_again(2),
    "said three times": parts_again(3),
    "said four times, then more": lambda n: parts_again(4)(n // 2) + mixed(" ")(n // 2),
    "quotations never closed": mixed("«", "“", "「", "'a ", '"', "‹", before="Tea. "),
    "« alone": repeated("« ", before="Tea. "),
    "apostrophes": mixed("'tis ", "don't ", "‘a ", "’n "),
    "dashes": repeated("\n— tea —", before="Tea. "),
    "a line of dashes": repeated("-", before="# Tea "),
    "a heading of marks": repeated("!", before="# Tea "),
    "a heading of spaces": lambda n: f"# {' ' * n}\r\nTea.",
    "block quotes": repeated("> "),
    "bold": mixed("**", "__", "**tea**", before="**"),
    "code fences": mixed("```", "~~~", "`", "\n", before="Tea. "),
    "brackets": repeated("[]", before="Tea. "),
    "JSON": lambda n: '["the tea", ' + ", ".join(['"the tea"'] * (n // 11)) + "]",
    "JSON never closed": repeated('{"tea": ["the tea", '),
    "tags": mixed("<b>", "</b>", "<a href='", "<!", before="Tea. "),
    "entities": mixed("&amp;", "&#39;", "&", "&#1111", before="Tea &amp; "),
    "special tokens": mixed("</s>", "<|im_end|>", "[INST]", "<|", before="Tea. "),
    "slots": mixed("{{tea}}", "{{", "[REDACTED]", "{%", before="Tea. "),
    "list items": repeated("\n- tea"),
    "first steps": mixed("1. ", "Step 1: ", "(1) ", before=CONDEMNED),
    "second steps": mixed("2. ", "Step 2: ", "Step 1: ", before=CONDEMNED),
    "spaces": repeated(" ", before="Tea."),
    "lines": repeated("\n", before="Tea."),
    "full stops": mixed(". ", "... ", ".a", before=CONDEMNED),
    "no full stop": mixed("the bench ", "of the garden ", before=CONDEMNED),
    "no space": repeated("thebenchofthegarden"),
    "instead, nearly": mixed("inste ", "i sugges ", "i would ", before=CONDEMNED),
    "refusals, nearly": mixed("I cann ", "I am not ab ", "I'm sor ", before="Tea. "),
    "marks on a letter": repeated("\u0301\u0316", before=f"{CONDEMNED}Tea a"),
    "marks on letters": mixed("a\u0301", "e\u0316\u0301", before=CONDEMNED),
    "zero width": mixed("\u200b", "\u200d", "\u00ad", before=CONDEMNED),
    "Thai": characters(0x0E01, 0x0E2E),
    "Chinese": characters(0x4E00, 0x9FA5),
    "Korean": characters(0xAC00, 0xD7A3),
    "kana": characters(0x3041, 0x3096),
    "ASCII": characters(0x20, 0x7E),
    "anything": characters(0x20, 0xD7FF),
}
"""Maps the name of each kind to a function that makes an answer of n characters."""

READERS: dict[str, Callable[[str], object]] = {
    "native": lambda answer: judge_response(answer, "en"),
    "substring": lambda answer: judge_response(answer, "en", judge="substring"),
    "language": lambda answer: response_language(answer, "en"),
}


def seconds(read: Callable[[str], object], answer: str) -> float:
    start = time.process_time()
    read(answer)
    return time.process_time() - start


def doublings(least: int, most: int) -> Iterator[int]:
    while least <= most:
        yield least
        least *= 2


def measure(kind: str, least: int, most: int) -> dict[str, dict[str, float | None]]:
    """Return, by reader, the seconds of the longest answer of a kind and the ratios of the times.

    The ratios are None if no doubling took long enough.
    """
    times: dict[str, list[float]] = {reader: [] for reader in READERS}
    for n in doublings(least, most):
        answer = KINDS[kind](n)
        for reader, read in READERS.items():
            times[reader].append(seconds(read, answer))
    figures: dict[str, dict[str, float | None]] = {}
    for reader, taken in times.items():
        ratios = [longer / half for half, longer in pairwise(taken) if half >= SHORTEST]
        figures[reader] = {
            "seconds": taken[-1],
            "mean ratio": geometric_mean(ratios) if ratios else None,
            "greatest ratio": max(ratios, default=None),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--least",
        type=int,
        default=100_000,
        help="characters of the shortest answer (default: 100000)",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=10_000_000,
        help="characters that no answer exceeds (default: 10000000)",
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()

    *_, longest = doublings(asked.least, asked.most)
    for read in READERS.values():
        read("The old bench stands by the pond.")  # loads the phrase files and the model
    if not asked.json:
        print(f"answers of {asked.least:,} to {longest:,} characters")
        heads = (f"{reader + ', s':>13}{'ratio':>7}{'most':>6}" for reader in READERS)
        print(f"{'':28}{''.join(heads)}")
    document = {}
    for kind in asked.kinds:
        document[kind] = measure(kind, asked.least, asked.most)
        if not asked.json:
            print(f"{kind:28}{''.join(map(_cells, document[kind].values()))}", flush=True)
    if asked.json:
        print(json.dumps({"least": asked.least, "longest": longest, "kinds": document}))


def _cells(figures: dict[str, float | None]) -> str:
    taken, mean, most = figures.values()
    return f"{taken:13.2f}{_ratio(mean):>7}{_ratio(most):>6}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1f}"


if __name__ == "__main__":
    main()
