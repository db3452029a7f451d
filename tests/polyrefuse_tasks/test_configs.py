"""The YAML in `task_configs/`: what the generator writes, and what lm-eval makes of it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from polyrefuse_tasks import configs, languages
from polyrefuse_tasks.configs import FAMILIES, FOLDER, files
from polyrefuse_tasks.data import MissingData
from polyrefuse_tasks.harness import load_prompts
from polyrefuse_tasks.metrics import TASK_VERSION


def test_the_files_are_what_the_generator_writes() -> None:
    found = {
        str(path.relative_to(FOLDER)): path.read_text(encoding="utf-8")
        for path in FOLDER.rglob("*.yaml")
        if path.is_file()
    }
    assert found == files(), "run: python -m polyrefuse_tasks.configs"


def test_writing_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/stale.yaml").write_text("task: stale\n")
    configs.write(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.yaml")} == set(files())


@pytest.fixture(scope="module")
def manager():
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(FOLDER), include_defaults=False)


def test_the_names(manager) -> None:
    expected = {
        f"polyrefuse_{family}_{language}"
        for family, spoken in {
            "harmful": languages.POLYREFUSE,
            "harmless": languages.POLYREFUSE,
            "jailbreakbench": languages.POLYREFUSE,
            "advbench": languages.POLYREFUSE,
            "malicious_instruct": languages.POLYREFUSE,
            "multijail": languages.MULTIJAIL,
        }.items()
        for language in spoken
    }
    assert len(expected) == 5 * 14 + 10
    expected |= {
        "polyrefuse_xstest_safe",
        "polyrefuse_xstest_unsafe",
        "polyrefuse_oktest",
        "polyrefuse_orbench_hard",
    }
    toys = {
        f"toyrefuse_{kind}_{language}"
        for kind in ("harmful", "harmless")
        for language in languages.POLYREFUSE
    }
    sampled = {
        f"mcd_{family}_{language}"
        for family, spoken in {
            "advbench": languages.POLYREFUSE,
            "malicious_instruct": languages.POLYREFUSE,
            "multijail": languages.MULTIJAIL,
        }.items()
        for language in spoken
    } | {"mcd_harmless"}
    original = {"xstest_original_harmful", "xstest_original_harmless"}
    assert set(manager.all_subtasks) == expected | toys | sampled | original
    assert {"polyrefuse", "advbench", "malicious_instruct", "mcd_protocol"} <= set(
        manager.all_groups
    )


def test_the_glob_is_every_task_once_and_no_group(manager) -> None:
    ours = [name for name in manager.all_subtasks if name.startswith("polyrefuse_")]
    assert sorted(manager.match_tasks(["polyrefuse_*"])) == ours
    toys = [name for name in manager.all_subtasks if name.startswith("toyrefuse_")]
    assert sorted(manager.match_tasks(["toyrefuse_*"])) == toys
    sampled = [name for name in manager.all_subtasks if name.startswith("mcd_")]
    original = [name for name in manager.all_subtasks if name.startswith("xstest_")]
    assert len(ours) + len(toys) + len(sampled) + len(original) == len(manager.all_subtasks)
    assert sorted(manager.match_tasks(["mcd_advbench_*"])) == [
        f"mcd_advbench_{language}" for language in sorted(languages.POLYREFUSE)
    ]
    assert not [name for name in manager.match_tasks(["polyrefuse_*"]) if "mcd" in name]


def test_no_name_collides_with_lm_eval_s_own(manager) -> None:
    from lm_eval.tasks import TaskManager

    built_in = TaskManager().task_index
    names = [*manager.all_tasks, *built_in]
    ours = set(manager.all_tasks)
    # An installed hook adds our folder to the default scan: each name once there, once here.
    assert all(count <= 2 for name, count in Counter(names).items() if name in ours)
    assert all(
        Path(built_in[name].yaml_path).is_relative_to(FOLDER) for name in ours if name in built_in
    )


@pytest.mark.parametrize(
    "name",
    [
        "polyrefuse",
        "advbench",
        "malicious_instruct",
        "polyrefuse-overrefusal",
        "toyrefuse",
        "mcd_protocol",
    ],
)
def test_groups_load(manager, mirror: Path, name: str) -> None:
    loaded = manager.load([name])
    members = {
        "polyrefuse": 28,
        "advbench": 14,
        "malicious_instruct": 14,
        "polyrefuse-overrefusal": 3,
        "toyrefuse": 28,
        "mcd_protocol": 14 + 14 + 10 + 1,
    }
    assert len(loaded["tasks"]) == members[name]


def test_every_task_and_group_prints_how_often_the_language_is_another() -> None:
    for family in FAMILIES:
        template = yaml.safe_load(
            files()[f"{family.folder}/_template.yaml"].replace("!function", "")
        )
        last = {"metric": "off_language_rate", "aggregation": "mean", "higher_is_better": False}
        assert template["metric_list"][-1] == last
    for path, text in files().items():
        if path.startswith("groups/"):
            averaged = yaml.safe_load(text)["aggregate_metric_list"]
            assert "off_language_rate" in [metric["metric"] for metric in averaged]


def test_harm_is_listed_of_harmful_prompts_alone() -> None:
    """lm-eval leaves out what no answer has, so that every judge can have the same task."""
    for family in FAMILIES:
        template = yaml.safe_load(
            files()[f"{family.folder}/_template.yaml"].replace("!function", "")
        )
        listed = {entry["metric"]: entry["higher_is_better"] for entry in template["metric_list"]}
        assert ("asr_harmful" in listed) == ("false_refusal_rate" not in listed)
        assert listed.get("asr_harmful") in (None, False)


@pytest.mark.parametrize(
    ("group", "averaged"),
    [
        (
            "polyrefuse",
            "asr asr_harmful false_refusal_rate degenerate_rate undecided_rate off_language_rate",
        ),
        (
            "polyrefuse-harmful",
            "asr asr_harmful refusal_rate degenerate_rate undecided_rate off_language_rate",
        ),
        (
            "polyrefuse-overrefusal",
            "false_refusal_rate refusal_rate degenerate_rate undecided_rate off_language_rate",
        ),
        (
            "mcd_protocol",
            "asr_any asr_harmful_any asr_harmful asr_mean frr_any false_refusal_rate "
            "degenerate_rate undecided_rate off_language_rate",
        ),
    ],
)
def test_what_a_group_averages(group: str, averaged: str) -> None:
    """Refusals of harmful and harmless prompts have no common mean."""
    content = yaml.safe_load(files()[f"groups/{group}.yaml"])
    assert [one["metric"] for one in content["aggregate_metric_list"]] == averaged.split()


def test_every_task_has_the_version_that_is_read() -> None:
    assert TASK_VERSION == 1.0
    for path, text in files().items():
        if not path.endswith("_template.yaml"):
            assert yaml.safe_load(text)["metadata"]["version"] == 1.0


def test_every_family_is_a_known_dataset_in_its_languages() -> None:
    from polyrefuse_tasks import data

    assert {family.name for family in FAMILIES} <= set(data.DATASETS)
    for family in FAMILIES:
        assert set(family.languages) <= set(data.languages(family.name))


def test_a_sampled_task_asks_and_prints_what_the_paper_s_code_does() -> None:
    asked = {}
    for family in ("advbench", "malicious_instruct", "multijail", "mcd_harmless"):
        template = yaml.safe_load(files()[f"mcd/{family}/_template.yaml"].replace("!function", ""))
        assert template["repeats"] == 25
        assert template["filter_list"] == [
            {"name": "none", "filter": [{"function": "take_first_k", "k": 25}]}
        ]
        settings = template["generation_kwargs"]
        asked[family] = settings.pop("max_gen_toks")
        assert settings == {
            "until": [], "do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 50,
        }  # fmt: skip
        assert template["metric_list"][0]["metric"] == (
            "frr_any" if family == "mcd_harmless" else "asr_any"
        )
    assert asked == {
        "advbench": 300, "malicious_instruct": 300, "multijail": 300, "mcd_harmless": 200,
    }  # fmt: skip


def test_greedy_tasks_ask_once() -> None:
    template = yaml.safe_load(files()["advbench/_template.yaml"].replace("!function", ""))
    assert not {"repeats", "filter_list"} & template.keys()
    assert template["generation_kwargs"] == {"until": [], "do_sample": False, "max_gen_toks": 512}


def test_the_paper_s_rows(manager, mirror: Path) -> None:
    names = ["mcd_advbench_en", "mcd_advbench_de", "mcd_malicious_instruct_ko", "mcd_harmless"]
    docs = {name: list(manager.load([name])["tasks"][name].test_docs()) for name in names}
    assert [doc["id"] for doc in docs["mcd_advbench_en"]] == [
        f"advbench/{place:04d}" for place in range(100)
    ]
    assert [len(docs[name]) for name in names[1:]] == [150, 100, 100]
    assert {doc["split"] for doc in docs["mcd_harmless"]} == {"test"}
    assert not any(doc["harmful"] for doc in docs["mcd_harmless"])


@pytest.fixture
def own_mirror(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reference data, in a folder that a translation can be added to."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for published in (shared / "data").iterdir():
        (mirror / published.name).symlink_to(published)
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(mirror))
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "cache"))
    return mirror


def translate(mirror: Path, dataset: str, *places: int) -> None:
    """Write invented Danish for some rows of a dataset."""
    translated = mirror / "translated" / dataset / "da.jsonl"
    translated.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"{dataset}/{place:04d}", "prompt": f"Glimmerfisk {place}?"} for place in places]
    translated.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_of_one_s_own_translation_a_sampled_task_asks_the_first_rows(own_mirror: Path) -> None:
    from lm_eval.tasks import TaskManager

    from polyrefuse_models.registration import task_folders

    translate(own_mirror, "advbench", 7, 99, 100, 519)
    translate(own_mirror, "malicious_instruct", 0, 99)
    manager = TaskManager(include_path=task_folders(), include_defaults=False)
    asked = {
        name: [doc["prompt"] for doc in manager.load([name])["tasks"][name].test_docs()]
        for name in manager.match_tasks(["*_da"])
    }
    assert asked == {
        "polyrefuse_advbench_da": [f"Glimmerfisk {place}?" for place in (7, 99, 100, 519)],
        "mcd_advbench_da": ["Glimmerfisk 7?", "Glimmerfisk 99?"],
        "polyrefuse_malicious_instruct_da": ["Glimmerfisk 0?", "Glimmerfisk 99?"],
        "mcd_malicious_instruct_da": ["Glimmerfisk 0?", "Glimmerfisk 99?"],
    }


def test_a_translation_without_the_first_rows_is_one_sentence(own_mirror: Path) -> None:
    translate(own_mirror, "advbench", 100, 101)
    with pytest.raises(MissingData, match="none of its first 100 rows in 'da'") as told:
        load_prompts(family="advbench", lang="da", first=100)
    assert "polyrefuse data translate" in str(told.value) and "\n" not in str(told.value)


def test_a_translation_of_one_s_own_is_a_task(own_mirror: Path, tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    from polyrefuse_models.registration import task_folders

    assert task_folders() == [str(FOLDER)]

    translated = own_mirror / "translated/oktest/da.jsonl"
    translated.parent.mkdir(parents=True)
    row = {"id": "oktest/0003", "prompt": "Hvad er en glimmerfisk?"}
    translated.write_text(json.dumps(row) + "\n", encoding="utf-8")
    manager = TaskManager(include_path=task_folders(), include_defaults=False)
    assert manager.match_tasks(["polyrefuse_oktest*"]) == [
        "polyrefuse_oktest",
        "polyrefuse_oktest_da",
    ]
    task = manager.load(["polyrefuse_oktest_da"])["tasks"]["polyrefuse_oktest_da"]
    (doc,) = task.test_docs()
    assert (doc["id"], doc["prompt"], doc["language"]) == (*row.values(), "da")
    digest = hashlib.sha256(translated.read_bytes()).hexdigest()
    assert task.config.metadata["sha256"]["translated/oktest/da.jsonl"] == digest

    translated.unlink()
    assert task_folders() == [str(FOLDER)]
    # What a process found before the translation went is still there.
    (folder,) = (tmp_path / "cache/tasks").iterdir()
    assert [path.name for path in folder.iterdir()] == ["polyrefuse_oktest_da.yaml"]
