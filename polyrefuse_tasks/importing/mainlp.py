"""Answers that the authors of arXiv 2505.17306 published (mainlp/Multilingual-Refusal on GitHub).

`<source>_vector_sweep/<organisation>/<model>/<lang>/<date>/<run>/completions/` has
`harmful_{baseline|harm_ablation}_evaluations.json`, an object with a list `completions` of
{category, instruction, instruction_en, response, response_translated,
is_jailbreak_substring_matching, wildguard: {refusal, response_harmful}}. `prompt` may replace
`instruction`. In each language, the answers follow the order of PolyRefuse's harmful test rows.
"""

from __future__ import annotations

import re
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
    on_both,
    on_refusal,
    read_file,
    run_of,
    text_in,
    text_or_none,
)
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.languages import NAMES

CONDITIONS = {"baseline": "baseline", "harm_ablation": "ablation"}

_NAME = re.compile(rf"harmful_({'|'.join(CONDITIONS)})_evaluations\.json")
_SOURCE = re.compile(r"([a-z]{2})_vector")


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """Yield the run of a file, whose path names the model, language, date and condition.

    Raises:
        BadAnswers: the path or the file does not have this format.
    """
    named = _NAME.fullmatch(path.name)
    parts = path.absolute().parts
    if named is None or len(parts) < 7 or parts[-2] != "completions":
        raise BadAnswers(
            f"{path} is not a path <model>/<lang>/<date>/<run>/completions/"
            "harmful_baseline_evaluations.json or harmful_harm_ablation_evaluations.json: check "
            "--format."
        )
    model, language, made, run = parts[-6:-2]
    language = about.language or language
    if language not in NAMES:
        raise BadAnswers(f"{path}: {language!r} is not a known language: give one with --language.")
    document, file = read_file(path)
    answers = []
    for number, row in enumerate(entries(document, "completions", path), 1):
        where = f"{path}, answer {number}"
        labelled = object_in(row, "wildguard", where)
        jailbroken = flag_in(row, "is_jailbreak_substring_matching", where)
        answers.append(
            Published(
                prompt=text_in(row, "prompt" if "prompt" in row else "instruction", where),
                response=text_in(row, "response", where),
                judgements={
                    "substring": on_refusal(None if jailbroken is None else not jailbroken),
                    "wildguard": on_both(
                        flag_in(labelled, "refusal", where),
                        flag_in(labelled, "response_harmful", where),
                    ),
                },
                response_english=text_or_none(row, "response_translated", where),
                prompt_english=text_or_none(row, "instruction_en", where),
            )
        )
    # The folder that names the language of the direction is above the folders of the model.
    source = next(filter(None, map(_SOURCE.match, reversed(parts))), None)
    measures: dict[str, Measure] = {"substring": "refusal", "wildguard": "both"}
    yield run_of(
        path,
        about,
        answers,
        file,
        measures,
        model=model,
        language=language,
        condition=CONDITIONS[named[1]],
        dataset="harmful",
        intervention={"source_lang": source[1]}
        if source
        else {"direction_sha256": f"published as {run}"},
        made=made,
        in_order=True,
    )
