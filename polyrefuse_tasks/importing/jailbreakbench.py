"""Artifacts of JailbreakBench (arXiv 2404.01318).

The file is an object with `parameters` and a list `jailbreaks` of {goal, prompt, response,
jailbroken}. The last field is the verdict of JailbreakBench's judge, which is called
`jailbreakbench` here. Behaviours without an answer (response null) are left out. `parameters` names
the model, the `method` of the attack and a `defense`, which together are the condition. All files
are in English.
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
    object_in,
    on_harm,
    read_file,
    run_of,
    text_in,
    text_or_none,
)
from polyrefuse_tasks.judges.contract import Measure

NOTHING_DONE = ("none", "direct")
"""Names for no attack, in lower case: the prompt is the request itself."""


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """Yield the run of an artifact.

    Raises:
        BadAnswers: the file does not have this format, or has no answer.
    """
    document, file = read_file(path)
    answers = []
    for number, row in enumerate(entries(document, "jailbreaks", path), 1):
        where = f"{path}, jailbreak {number}"
        if row.get("response") is None:
            continue
        asked = text_or_none(row, "prompt", where)
        answers.append(
            Published(
                text_in(row, "goal", where) if asked is None else asked,
                text_in(row, "response", where),
                {"jailbreakbench": on_harm(flag_in(row, "jailbroken", where))}
                if "jailbroken" in row
                else {},
            )
        )
    if not answers:
        raise BadAnswers(f"{path} has no response; name an artifact with responses.")
    parameters = object_in(document, "parameters", str(path))
    done = [text_or_none(parameters, name, str(path)) for name in ("method", "defense")]
    named = [one for one in done if one and one.lower() not in NOTHING_DONE]
    measures: dict[str, Measure] = {"jailbreakbench": "harm"}
    yield run_of(
        path,
        about,
        answers,
        file,
        measures,
        model=text_or_none(parameters, "model", str(path)),
        condition="+".join(named) or "baseline",
        language="en",
    )
