"""Artifacts of JailbreakBench (arXiv 2404.01318).

An object of `parameters` and a list `jailbreaks` of {goal, prompt, response, jailbroken}. The last
is the verdict of the judge that `parameters` names, here the judge `jailbreakbench`. Behaviours
without an answer (response null) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from polyrefuse_tasks.importing.answers import (
    About,
    BadAnswers,
    Published,
    PublishedRun,
    entries,
    flag_in,
    on_harm,
    read_file,
    run_of,
    text_in,
)
from polyrefuse_tasks.judges.contract import Measure


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """The run of an artifact.

    Raises:
        BadAnswers: the file is none of theirs, or holds no answer.
    """
    document, told = read_file(path)
    answers = []
    for number, row in enumerate(entries(document, "jailbreaks", path), 1):
        where = f"{path}, jailbreak {number}"
        if row.get("response") is None:
            continue
        asked = row.get("prompt")
        answers.append(
            Published(
                asked if isinstance(asked, str) else text_in(row, "goal", where),
                text_in(row, "response", where),
                {"jailbreakbench": on_harm(flag_in(row, "jailbroken", where))},
            )
        )
    if not answers:
        raise BadAnswers(f"{path} has no response; name an artifact with responses.")
    parameters = document.get("parameters")
    named = parameters.get("model") if isinstance(parameters, dict) else None
    measures: dict[str, Measure] = {"jailbreakbench": "harm"}
    yield run_of(path, about, answers, told, measures, model=named)
