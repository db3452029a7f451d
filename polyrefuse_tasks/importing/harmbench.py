"""Results of HarmBench's evaluate_completions.py.

An object of behaviours, each with a list of {test_case, generation, label}. Label 1 is an instance
of the behaviour, 0 is none, and -1 is a verdict that could not be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyrefuse_tasks.importing.answers import (
    About,
    BadAnswers,
    Published,
    PublishedRun,
    on_harm,
    read_file,
    run_of,
    text_in,
)

LABELS = {1: True, 0: False, -1: None, None: None}


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """The run of a file; of several test cases of a behaviour each is an answer.

    Raises:
        BadAnswers: the file is none of theirs, or the model is not named.
    """
    document, told = read_file(path)
    if not isinstance(document, dict) or not document:
        raise BadAnswers(f"{path} is no object of behaviours; check --format.")
    answers = []
    for behaviour, rows in document.items():
        where = f"{path}, {behaviour}"
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadAnswers(f"{where} is no list of generations; check --format.")
        for row in rows:
            label = row.get("label")
            if isinstance(label, bool) or label not in LABELS:
                raise BadAnswers(f"{where}: label is {label!r}, not 1, 0 or -1; check --format.")
            judgements = {"harmbench": on_harm(LABELS[label])} if "label" in row else {}
            asked = row.get("test_case")
            answers.append(
                Published(
                    asked if isinstance(asked, str) else behaviour,
                    text_in(row, "generation", where),
                    judgements,
                )
            )
    if not answers:
        raise BadAnswers(f"{path} has no generations; check --format.")
    yield run_of(path, about, answers, told, {"harmbench": "harm"})
