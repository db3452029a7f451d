"""Answers that the authors of arXiv 2505.17306 published (mainlp/Multilingual-Refusal on GitHub).

`<model>/<lang>/<date>/<run>/completions/harmful_{baseline|harm_ablation}_evaluations.json`, an
object with a list `completions` of {category, prompt, response, response_translated,
is_jailbreak_substring_matching, wildguard: {refusal, response_harmful}}.
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
    on_both,
    on_refusal,
    read_file,
    run_of,
    text_in,
)
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.languages import NAMES

CONDITIONS = {"baseline": "baseline", "harm_ablation": "ablation"}

_NAME = re.compile(rf"harmful_({'|'.join(CONDITIONS)})_evaluations\.json")
_SOURCE = re.compile(r"([a-z]{2})_vector")


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """The run of a file; its path says model, language, date and condition.

    Raises:
        BadAnswers: the path or the file is none of theirs.
    """
    named = _NAME.fullmatch(path.name)
    parts = path.absolute().parts
    if named is None or len(parts) < 7 or parts[-2] != "completions":
        raise BadAnswers(
            f"{path} is no <model>/<lang>/<date>/<run>/completions/harmful_baseline_evaluations"
            ".json or harmful_harm_ablation_evaluations.json; check --format."
        )
    model, language, made, run = parts[-6:-2]
    language = about.language or language
    if language not in NAMES:
        raise BadAnswers(f"{path}: {language!r} is no language of ours; name it with --language.")
    document, told = read_file(path)
    answers = []
    for number, row in enumerate(entries(document, "completions", path), 1):
        where = f"{path}, answer {number}"
        wildguard = row.get("wildguard")
        labelled = wildguard if isinstance(wildguard, dict) else {}
        jailbroken = flag_in(row, "is_jailbreak_substring_matching", where)
        translated = row.get("response_translated")
        answers.append(
            Published(
                prompt=text_in(row, "prompt", where),
                response=text_in(row, "response", where),
                judgements={
                    "substring": on_refusal(None if jailbroken is None else not jailbroken),
                    "wildguard": on_both(
                        flag_in(labelled, "refusal", where),
                        flag_in(labelled, "response_harmful", where),
                    ),
                },
                response_english=translated if isinstance(translated, str) else None,
            )
        )
    source = _SOURCE.match(run)
    measures: dict[str, Measure] = {"substring": "refusal", "wildguard": "both"}
    yield run_of(
        path,
        about,
        answers,
        told,
        measures,
        model=model,
        language=language,
        condition=CONDITIONS[named[1]],
        intervention={"source_lang": source[1]}
        if source
        else {"direction_sha256": f"published as {run}"},
        made=made,
    )
