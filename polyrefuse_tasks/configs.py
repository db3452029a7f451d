"""Write the task YAML in `task_configs/`: run `python -m polyrefuse_tasks.configs` in a checkout.

The YAML is generated so that its files cannot drift apart, and a test compares them with what this
module would write. The name of a group has a hyphen where the name of a task has an underscore. The
glob `polyrefuse_*` therefore matches every task once and no group, which lm-eval would refuse as a
duplicate. `mcd_protocol` is outside that glob, and so are its tasks.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from polyrefuse_shared.errors import UserError, first_line
from polyrefuse_shared.log import warn_once
from polyrefuse_shared.task_folder import task_folder
from polyrefuse_shared.writing import write_whole
from polyrefuse_tasks import data, languages
from polyrefuse_tasks.data import cache, own_translations
from polyrefuse_tasks.judges.contract import Measure
from polyrefuse_tasks.metrics import METRICS, TASK_VERSION, Prompts, rates, sampled_rates

FOLDER = Path(__file__).parent.parent / "task_configs"
"""The folder of a checkout in which the YAML is written; `task_folder` says where it is read."""

SAMPLES = 25
"""Answers for each prompt of a sampled family (2505.11835, code: run.sh)."""


@dataclass(frozen=True)
class Family:
    """Tasks that share a template: one dataset, in each of its languages, answered greedily."""

    name: str
    harmful: bool
    languages: tuple[str, ...]
    group: str | None = None
    prefix: str = "polyrefuse_"

    @property
    def folder(self) -> str:
        return self.name

    @property
    def rates(self) -> tuple[str, ...]:
        """The metrics that any judge may give; lm-eval leaves out what a judge does not measure."""
        return rates(self.harmful, "both")

    def task(self, language: str) -> str:
        only_english = self.languages == ("en",) and language == "en"
        return self.prefix + (self.name if only_english else f"{self.name}_{language}")

    @property
    def tasks(self) -> list[str]:
        return [self.task(language) for language in self.languages]

    def prompts(self, language: str) -> dict[str, Any]:
        """The arguments of `harness.load_prompts`."""
        return {"family": self.name, "lang": language}

    def answers(self) -> dict[str, Any]:
        """The part of the template that says how answers are generated and scored."""
        return {
            # 2505.17306, sec. 3: greedy, 512 new tokens. Without `until`, lm-eval stops at the
            # first blank line.
            "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 512},
            "process_results": _Function("polyrefuse_tasks.harness.score_answer"),
        }


@dataclass(frozen=True)
class SampledFamily(Family):
    """Tasks with many sampled answers for each prompt, scored as MCD does (2505.11835).

    Attributes:
        first: how many rows of the English dataset are asked, in English and in the user's own
            translations. The published languages have only the rows that PolyRefuse translated,
            and all of them are asked.
    """

    prefix: str = "mcd_"
    first: int | None = None

    @property
    def folder(self) -> str:
        return f"mcd/{self.name}"

    @property
    def rates(self) -> tuple[str, ...]:
        return sampled_rates(self.harmful, "both")

    def prompts(self, language: str) -> dict[str, Any]:
        whole = language == "en" or language not in self.languages
        return super().prompts(language) | ({"first": self.first} if self.first and whole else {})

    def answers(self) -> dict[str, Any]:
        return {
            # The settings of the paper's code (generate.py, run.sh), which it shares with DRO,
            # 2401.18018. All are given: a model's generation_config would fill in the others.
            "generation_kwargs": {
                "until": [],
                "do_sample": True,
                "temperature": 1.0,
                "top_p": 0.9,
                "top_k": 50,
                "max_gen_toks": 300 if self.harmful else 200,
            },
            "repeats": SAMPLES,
            # It has the name of lm-eval's default filter, so results are `<metric>,none` here too.
            "filter_list": [
                {"name": "none", "filter": [{"function": "take_first_k", "k": SAMPLES}]}
            ],
            "process_results": _Function("polyrefuse_tasks.harness.score_answers"),
        }


FAMILIES: tuple[Family, ...] = (
    Family("harmful", True, languages.POLYREFUSE, "polyrefuse-harmful"),
    Family("harmless", False, languages.POLYREFUSE, "polyrefuse-harmless"),
    Family("jailbreakbench", True, languages.POLYREFUSE, "polyrefuse-jailbreakbench"),
    Family("advbench", True, languages.POLYREFUSE, "advbench"),
    Family("malicious_instruct", True, languages.POLYREFUSE, "malicious_instruct"),
    Family("multijail", True, languages.MULTIJAIL, "polyrefuse-multijail"),
    Family("xstest_safe", False, ("en",)),
    Family("xstest_unsafe", True, ("en",)),
    Family("oktest", False, ("en",)),
    Family("orbench_hard", False, ("en",)),
    # Outside the glob: an invented world measures the bundled organism and no other model.
    Family("toyrefuse_harmful", True, languages.POLYREFUSE, "toyrefuse-harmful", prefix=""),
    Family("toyrefuse_harmless", False, languages.POLYREFUSE, "toyrefuse-harmless", prefix=""),
    # Outside the glob: the prompts are those of xstest_unsafe and xstest_safe.
    Family("xstest_original_harmful", True, ("en",), prefix=""),
    Family("xstest_original_harmless", False, ("en",), prefix=""),
    SampledFamily("advbench", True, languages.POLYREFUSE, "mcd-advbench", first=100),
    SampledFamily("malicious_instruct", True, languages.POLYREFUSE, "mcd-malicious-instruct"),
    SampledFamily("multijail", True, languages.MULTIJAIL, "mcd-multijail"),
    SampledFamily("mcd_harmless", False, ("en",), prefix=""),
)


@dataclass(frozen=True)
class OwnFamily(Family):
    """A dataset of the user, whose tasks name their language even where there is only one."""

    def task(self, language: str) -> str:
        return f"{self.prefix}{self.name}_{language}"


def own_families() -> tuple[OwnFamily, ...]:
    """List the user's own datasets that have test rows.

    Raises:
        UserError: the data folder cannot be used.
    """
    return tuple(
        OwnFamily(name, source.harmful, data.languages(name))
        for name, source in data.datasets().items()
        if source.own and "test" in source.splits
    )


def families() -> tuple[Family, ...]:
    """List the families of this package, then those of the user.

    Raises:
        UserError: the data folder cannot be used.
    """
    return (*FAMILIES, *own_families())


OVERREFUSAL = ("xstest_safe", "oktest", "orbench_hard")
"""Harmless prompts that look harmful; XSTest's unsafe half is their contrast and not a member."""

MCD_MEMBERS = ("mcd-advbench", "mcd-malicious-instruct", "mcd-multijail", "mcd_harmless")


class _Function(str):
    """The value of a `!function` tag in lm-eval's YAML."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Function, lambda dumper, name: dumper.represent_scalar("!function", str(name))
)


def files() -> dict[str, str]:
    """Return the text of every file of `task_configs/` by its path in that folder."""
    written = {
        f"groups/{name}.yaml": _dump(
            _group(name, [f"{name}-harmful", f"{name}-harmless"], _of_both_halves(rates))
        )
        for name in ("polyrefuse", "toyrefuse")
    }
    written["groups/xstest-original.yaml"] = _dump(
        _group(
            "xstest-original",
            ["xstest_original_harmful", "xstest_original_harmless"],
            _of_both_halves(rates),
        )
    )
    for family in FAMILIES:
        written[f"{family.folder}/_template.yaml"] = _dump(_template(family))
        for language in family.languages:
            name = family.task(language)
            written[f"{family.folder}/{name}.yaml"] = _dump(_task(family, language))
        if family.group:
            written[f"groups/{family.group}.yaml"] = _dump(
                _group(family.group, family.tasks, family.rates)
            )
    overrefusal = [f"polyrefuse_{name}" for name in OVERREFUSAL]
    written["groups/polyrefuse-overrefusal.yaml"] = _dump(
        _group("polyrefuse-overrefusal", overrefusal, rates(False, "both"))
    )
    written["groups/mcd_protocol.yaml"] = _dump(
        _group("mcd_protocol", MCD_MEMBERS, _of_both_halves(sampled_rates))
    )
    return written


def write(folder: Path = FOLDER) -> None:
    """Replace the YAML under `folder` with the files of `files`."""
    for old in folder.iterdir() if folder.exists() else ():
        if old.is_dir():
            shutil.rmtree(old)
    for path, text in files().items():
        write_whole(folder / path, text)


def translated_files() -> dict[str, str]:
    """Return the task files of the user's own translations: file name -> text.

    Raises:
        UserError: the data folder cannot be used.
    """
    tasks = {}
    for family in FAMILIES:
        for language in data.languages(family.name):
            if language not in family.languages:
                try:
                    tasks[f"{family.task(language)}.yaml"] = _translated_task(family, language)
                except (UserError, OSError) as error:
                    # One file that cannot be used must not keep the others from being tasks.
                    warn_once(
                        f"The task {family.task(language)} is left out of this run: "
                        f"{first_line(error)}"
                    )
    return tasks


def own_files() -> dict[str, str]:
    """Return the task and group files of the user's own datasets: file name -> text.

    Raises:
        UserError: the data folder cannot be used.
    """
    written = {}
    for name, families in _own_sets().items():
        for family in families:
            for language in family.languages:
                task = family.task(language)
                try:
                    written[f"{task}.yaml"] = _dump(_own_task(family, language))
                except (UserError, OSError) as error:
                    warn_once(f"The task {task} is left out of this run: {first_line(error)}")
        averaged = _of_both_halves(rates) if len(families) > 1 else families[0].rates
        for group, tasks in own_groups(name).items():
            members = [task for task in tasks if f"{task}.yaml" in written]
            if members:
                written[f"groups_{group}.yaml"] = _dump(_group(group, members, averaged))
    return written


def own_groups(name: str) -> dict[str, list[str]]:
    """Return the groups of one of the user's own datasets, with the tasks of each.

    `polyrefuse-NAME` has all tasks. If the dataset has rows of both kinds, `polyrefuse_NAME_LANG`
    is a group of its two tasks in that language. Otherwise it is a task. A dataset without test
    rows has no tasks, and no groups.
    """
    families = _own_sets().get(name, [])
    groups: dict[str, list[str]] = {f"polyrefuse-{name}": []} if families else {}
    for family in families:
        for language in family.languages:
            groups[f"polyrefuse-{name}"].append(family.task(language))
            if len(families) > 1:
                of_language = f"polyrefuse_{name}_{language}"
                groups.setdefault(of_language, []).append(family.task(language))
    return groups


def _own_sets() -> dict[str, list[OwnFamily]]:
    """Return the families of each of the user's datasets: one, or a harmful and a harmless one."""
    sets: dict[str, list[OwnFamily]] = {}
    for family in own_families():
        sets.setdefault(str(data.dataset(family.name).contrast_set), []).append(family)
    return sets


ASKED_FOR = "POLYREFUSE_USER_DATASETS"
"""The environment variable that adds the user's own datasets to the glob `polyrefuse_*`."""


def without_own(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Drop the user's own tasks that a pattern of lm-eval's --tasks matched by accident.

    A pattern matches one of the user's own datasets if it contains its name
    (`polyrefuse_NAME_*`), or if `ASKED_FOR` is set. No pattern matches a group, because lm-eval
    refuses a group beside its tasks.

    Raises:
        UserError: the data folder cannot be used.
    """
    patterns = list(patterns)
    whole = os.environ.get(ASKED_FOR, "").upper() in cache.TRUE
    kept: dict[str, bool] = {}
    for name, families in _own_sets().items():
        tasks = {family.task(language) for family in families for language in family.languages}
        named = [_literal(one) for one in patterns if _literal(one) != one]
        asked = whole or any(one.startswith(f"polyrefuse_{name}") for one in named)
        kept |= dict.fromkeys(own_groups(name), False) | dict.fromkeys(tasks, asked)
    return [name for name in names if name in patterns or kept.get(name, True)]


def _literal(pattern: str) -> str:
    """Return the text that a name must begin with to match the pattern."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]


def _own_task(family: OwnFamily, language: str) -> dict[str, Any]:
    if language not in data.dataset(family.name).languages:
        own_translations.read(own_translations.path(family.name, language))
    task = _task(family, language)
    del task["include"]
    return task | _template(family)


def _translated_task(family: Family, language: str) -> str:
    own_translations.read(own_translations.path(family.name, language))
    template = task_folder() / family.folder / "_template.yaml"
    return _dump(_task(family, language) | {"include": str(template)})


def _template(family: Family) -> dict[str, Any]:
    return {
        "custom_dataset": _Function("polyrefuse_tasks.harness.load_prompts"),
        "test_split": "test",
        "output_type": "generate_until",
        "num_fewshot": 0,
        "doc_to_text": "prompt",
        "doc_to_target": "",
        **family.answers(),
        "metric_list": [
            {"metric": rate, "aggregation": "mean", "higher_is_better": _better(rate, family)}
            for rate in family.rates
        ],
    }


def _better(rate: str, family: Family) -> bool:
    prompts: Prompts = "harmful" if family.harmful else "harmless"
    return prompts in METRICS[rate].higher_is_better_on


def _of_both_halves(of_half: Callable[[bool, Measure], tuple[str, ...]]) -> list[str]:
    """List what a group of both kinds averages: the metrics of each half, then the common ones.

    Refusal rates of the two halves have no common mean: more is better on one half only.
    """
    harmful, harmless = (of_half(kind, "both") for kind in (True, False))
    return [
        *(rate for rate in harmful if rate not in harmless),
        *(rate for rate in harmless if rate not in harmful),
        *(rate for rate in harmful if rate in harmless and not METRICS[rate].higher_is_better_on),
    ]


def _task(family: Family, language: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"version": TASK_VERSION, "judge": "native"}
    substitute = data.substituted_split(family.name, language)
    if substitute:
        metadata["split"] = substitute
        metadata["note"] = (
            f"The test split is not published in this language: these are the {substitute} rows."
        )
    metadata["sha256"] = data.checksums(family.name, language)
    return {
        "include": "_template.yaml",
        "task": family.task(language),
        "dataset_kwargs": family.prompts(language),
        "metadata": metadata,
    }


def _group(name: str, members: Iterable[str], averaged: Iterable[str]) -> dict[str, Any]:
    return {
        "group": name,
        "task": list(members),
        "aggregate_metric_list": [
            {"metric": rate, "aggregation": "mean", "weight_by_size": False} for rate in averaged
        ],
        "metadata": {"version": TASK_VERSION},
    }


def _dump(content: dict[str, Any]) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


if __name__ == "__main__":
    write()
