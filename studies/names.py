"""The names of a study's models on the leaderboard, which are those in the study's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polyrefuse_studies.arguments import arguments_of
from polyrefuse_studies.files import Files
from polyrefuse_studies.jobs import Placed
from polyrefuse_studies.plan import TRANSFER
from polyrefuse_studies.report import RESULTS
from polyrefuse_studies.schema import Study

from polyrefuse_models import bundled


def report_names(study: Study, jobs: Sequence[Placed], beside: Path) -> dict[str, Any]:
    """Return the document for `polyrefuse leaderboard build --model-names` in the study's folder.

    The names are given for the folder of each job's results, because two models of a study may be
    the same model in the results: the same weights with different arguments.

    Args:
        study: the study.
        jobs: all of its jobs.
        beside: the folder of the study's file.
    """
    files = Files(beside)
    document: dict[str, Any] = {}
    names: dict[str, set[str]] = {}
    for one in jobs:
        if one.job.kind not in ("answers", "capability", "transfer"):
            continue
        results = f"{RESULTS}/{Path(one.folder).name}"
        folder = f"{one.folder}/{TRANSFER}" if one.job.kind == "transfer" else results
        model = study.models[one.job.model]
        condition = study.conditions.get(one.job.condition)
        called, own = (
            bundled.name_of(str(files.find(pretrained) or pretrained))
            for pretrained in (
                str(arguments_of(model, under)["pretrained"]) for under in (condition, None)
            )
        )
        # A condition with other weights is another model, and two models with one name would be
        # refused.
        shown = one.job.model if called == own else f"{one.job.model} ({one.job.condition})"
        document[folder] = {called: shown}
        names.setdefault(called, set()).add(shown)
    # Other files name a model by its path. The path is mapped to its name if it has only one.
    return document | {called: min(these) for called, these in names.items() if len(these) == 1}
