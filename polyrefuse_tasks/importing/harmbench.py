"""Results of HarmBench's evaluate_completions.py.

The file is an object of behaviours, each with a list of {test_case, generation, label}. Label 1
means that the answer is an instance of the behaviour, 0 that it is not, and -1 that the verdict
could not be read. HarmBench writes the file to `<attack>/<experiment>/results/<model>.json`. Only
this path names the model and the attack that made the test cases. All files are in English.
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
"""HarmBench's name for no attack: the prompt is the behaviour itself."""

LABELS = {1: True, 0: False, -1: None, None: None}


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """Yield the run of a file, with an answer for each test case of a behaviour.

    Raises:
        BadAnswers: the file does not have this format, or neither its path nor the user names the
            model and the condition.
    """
    document, file = read_file(path)
    if not isinstance(document, dict) or not document:
        raise BadAnswers(f"{path} is not an object of behaviours; check --format.")
    answers = []
    for behaviour, rows in document.items():
        where = f"{path}, {behaviour}"
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise BadAnswers(f"{where} is not a list of generations; check --format.")
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
        file,
        {"harmbench": "harm"},
        model=path.stem if laid_out else None,
        condition=("baseline" if attack == DIRECT else attack) if laid_out else None,
        language="en",
    )
