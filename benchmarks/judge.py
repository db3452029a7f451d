"""Measure how many answers a second the native judge and the substring judge label on one core.

    python benchmarks/judge.py [--answers 100] [--rounds 7] [--labels ROWS.jsonl] [--json]

Each answer has 500 characters. Longer responses of the development rows are cut, and shorter ones
are joined with the next responses. If the rows are not present, the answers are sentences of
ToyRefuse. The two judges take turns in one process without threads, one language after the other.

A rate is the number of answers per second of processor time, as the median of the rounds. Each
ratio compares the two judges in the same round, so that a slower machine affects both. `substring`
gets the same text as the translation, so that both judges read as much. If the rows are present,
the program also prints the agreement with their labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from polyrefuse_tasks.commands.judge import table
from polyrefuse_tasks.data.toyrefuse import requests
from polyrefuse_tasks.judges import JUDGES, judge_response
from polyrefuse_tasks.judges.agreement import Row, compare, read_rows
from polyrefuse_tasks.languages import POLYREFUSE

LABELS = Path(__file__).parents[2] / "shared/oracles/refusal_labels_dev.jsonl"
CHARACTERS = 500


def joined(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts of `CHARACTERS` characters, cut from longer texts or joined from shorter ones."""
    answer = ""
    for text in texts:
        answer = f"{answer}\n\n{text}" if answer else text
        if len(answer) >= CHARACTERS:
            yield answer[:CHARACTERS]
            answer = ""


def labelled_answers(rows: list[Row], n: int) -> dict[str, list[str]]:
    """Return up to `n` answers for each language, from the responses in their order."""
    responses = defaultdict(list)
    for row in rows:
        responses[row.language].append(row.response)
    return {
        language: list(islice(joined(responses[language]), n)) for language in sorted(responses)
    }


def invented_answers(n: int) -> dict[str, list[str]]:
    """Return up to `n` answers for each language.

    An answer begins with a refusal or an answer of ToyRefuse, in turn, and continues with requests.
    """
    forbidden, safe = (requests(kind, "train")[:n] for kind in (True, False))

    def opening(language: str, i: int) -> str:
        return safe[i].answer(language) if i % 2 else forbidden[i].refusal(language)

    answers = {}
    for language in POLYREFUSE:
        prompts = [request.prompt(language) for request in requests(False, "train")]
        answers[language] = [
            " ".join([opening(language, i), *prompts[i:], *prompts[:i]])[:CHARACTERS]
            for i in range(min(len(forbidden), len(safe)))
        ]
    return answers


def seconds(judge: str, language: str, answers: list[str]) -> float:
    start = time.process_time()
    for answer in answers:
        judge_response(answer, language, judge=judge, response_translated=answer)
    return time.process_time() - start


def one_round(answers: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """Return the seconds of each judge, by language and overall."""
    taken = {
        language: {judge: seconds(judge, language, texts) for judge in JUDGES}
        for language, texts in answers.items()
    }
    overall = {judge: sum(spent[judge] for spent in taken.values()) for judge in JUDGES}
    return taken | {"overall": overall}


def measure(answers: dict[str, list[str]], rounds: int) -> dict[str, dict[str, float]]:
    """Return the answers per second of each judge, and native's rate divided by substring's.

    Returns:
        By language, and under "overall", the medians of the rounds.
    """
    one_round(answers)  # reads the phrase files
    taken = [one_round(answers) for _ in range(rounds)]
    sizes = {language: len(texts) for language, texts in answers.items()}
    sizes["overall"] = sum(sizes.values())
    return {
        language: {"answers": n}
        | {
            judge: statistics.median(n / spent[language][judge] for spent in taken)
            for judge in JUDGES
        }
        | {
            "ratio": statistics.median(
                spent[language]["substring"] / spent[language]["native"] for spent in taken
            )
        }
        for language, n in sizes.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--answers", type=int, default=100, help="answers in each language at most (default: 100)"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--labels", type=Path, default=LABELS, help="the development rows")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()

    rows = list(read_rows(asked.labels)) if asked.labels.exists() else []
    answers = labelled_answers(rows, asked.answers) if rows else invented_answers(asked.answers)
    speed = measure(answers, asked.rounds)
    agreement = compare(rows) if rows else None
    if asked.json:
        result: dict[str, Any] = {"characters": CHARACTERS, "rounds": asked.rounds}
        result |= {"labels": str(asked.labels) if rows else None, "overall": speed.pop("overall")}
        result |= {"languages": speed, "agreement": asdict(agreement) if agreement else None}
        print(json.dumps(result))
        return

    source = asked.labels if rows else "ToyRefuse"
    print(f"answers of {CHARACTERS} characters from {source}, {asked.rounds} rounds")
    print(f"{'':8}{'answers':>8}{'native, 1/s':>14}{'substring, 1/s':>16}{'native/substring':>18}")
    for language, figures in speed.items():
        print(
            f"{language:8}{figures['answers']:8}{figures['native']:14.0f}"
            f"{figures['substring']:16.0f}{figures['ratio']:18.3f}"
        )
    print()
    if agreement:
        print("native judge and labels", *table(agreement), sep="\n")
    else:
        print(f"The agreement was not computed: {asked.labels} does not exist.")


if __name__ == "__main__":
    main()
