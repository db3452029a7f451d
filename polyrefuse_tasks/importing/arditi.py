"""Answers that the authors of arXiv 2406.11717 published (andyrdt/refusal_direction on GitHub).

`<model>/completions/<dataset>_{baseline|ablation|actadd}_evaluations.json`, an object with a list
`completions` of {category, prompt, response, is_jailbreak_substring_matching,
is_jailbreak_llamaguard2}; `<dataset>_<condition>_completions.json` is the list alone, without
labels. The dataset `harmless` has no labels of Llama Guard. All files are in English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyrefuse_tasks.importing.answers import (
    About,
    BadAnswers,
    Published,
    PublishedRun,
    entries,
    flag_in,
    on_harm,
    on_refusal,
    read_file,
    run_of,
    text_in,
)
from polyrefuse_tasks.judges.contract import Measure

CONDITIONS = {"baseline": "baseline", "ablation": "ablation", "actadd": "addition"}

_NAME = re.compile(rf"(.+)_({'|'.join(CONDITIONS)})_(?:evaluations|completions)\.json")


def read(path: Path, about: About) -> Iterator[PublishedRun]:
    """Yield the run of a file, whose path names the model, dataset and condition.

    Raises:
        BadAnswers: the path or the file does not have this format.
    """
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise BadAnswers(
            f"{path} is not named <dataset>_baseline_evaluations.json, nor the same with ablation "
            "or actadd: check --format."
        )
    document, file = read_file(path)
    rows = {"completions": document} if isinstance(document, list) else document
    answers = []
    for number, row in enumerate(entries(rows, "completions", path), 1):
        where = f"{path}, answer {number}"
        jailbroken = flag_in(row, "is_jailbreak_substring_matching", where)
        judgements = {}
        if "is_jailbreak_substring_matching" in row:
            judgements["substring"] = on_refusal(None if jailbroken is None else not jailbroken)
        if "is_jailbreak_llamaguard2" in row:
            judgements["llamaguard2"] = on_harm(flag_in(row, "is_jailbreak_llamaguard2", where))
        answers.append(
            Published(text_in(row, "prompt", where), text_in(row, "response", where), judgements)
        )
    model = path.absolute().parent.parent.name
    condition = CONDITIONS[named[2]]
    intervention: dict[str, Any] = {"direction_sha256": f"published for {about.model or model}"}
    if condition == "addition":
        # Their run_pipeline.py subtracts the direction for harmful prompts and adds it for
        # harmless ones, so the two rates belong to different interventions.
        intervention["coefficient"] = 1.0 if named[1] == "harmless" else -1.0
    measures: dict[str, Measure] = {"substring": "refusal", "llamaguard2": "harm"}
    yield run_of(
        path,
        about,
        answers,
        file,
        measures,
        model=model,
        condition=condition,
        dataset=named[1],
        language="en",
        intervention=intervention,
    )
