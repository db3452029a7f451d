"""Results of HarmBench's evaluate_completions.py.

An object of behaviours, each with a list of {test_case, generation, label}. Label 1 is an instance
of the behaviour, 0 is none, and -1 is a verdict that could not be read. HarmBench writes the file
to `<attack>/<experiment>/results/<model>.json`, which alone names the model and the attack that
made the test cases. All is in English.
"""

from __future__ import annotations

import reprlib
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
    text_or_none,
)

DIRECT = "DirectRequest"
"""HarmBench's name of no attack: the behaviour is asked for as it is."""

LABELS = {1: True, 0: False, -1: None, None: None}


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """The run of a file; of several test cases of a behaviour each is an answer.

    Raises:
        BadAnswers: the file is none of theirs, or neither its path nor the user names the model
            and the condition.
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
            if isinstance(label, bool | list | dict) or label not in LABELS:
                raise BadAnswers(
                    f"{where}: label is {reprlib.repr(label)}, not 1, 0 or -1; check --format."
                )
            judgements = {"harmbench": on_harm(LABELS[label])} if "label" in row else {}
            asked = text_or_none(row, "test_case", where)
            answers.append(
                Published(
                    behaviour if asked is None else asked,
                    text_in(row, "generation", where),
                    judgements,
                )
            )
    if not answers:
        raise BadAnswers(f"{path} has no generations; check --format.")
    attack, _, results, _ = ("", "", "", *path.absolute().parts)[-4:]
    laid_out = results == "results"
    yield run_of(
        path,
        about,
        answers,
        told,
        {"harmbench": "harm"},
        model=path.stem if laid_out else None,
        condition=("baseline" if attack == DIRECT else attack) if laid_out else None,
        language="en",
    )
