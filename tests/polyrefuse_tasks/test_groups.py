"""The line under lm-eval's table of groups."""

from __future__ import annotations

from typing import Any

import pytest

from polyrefuse_tasks import configs
from polyrefuse_tasks.group_errors import NOTE, note_on_groups


def results(groups: dict[str, list[str]], sets: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Of tasks by name, each with its dataset and language, and groups of them."""
    return {
        "groups": {name: {"asr,none": 0.5} for name in groups},
        "group_subtasks": groups,
        "configs": {
            name: {"dataset_kwargs": {"family": family, "lang": lang}}
            for name, (family, lang) in sets.items()
        }
        | {"arc": {"dataset_kwargs": {"trust": True}}, "piqa": {"dataset_kwargs": None}},
    }


TWO = {"one": ("harmful", "en"), "two": ("harmful", "de")}


@pytest.mark.parametrize(
    ("groups", "sets"),
    [
        ({"g": ["one", "two"]}, TWO),
        ({"outer": ["g", "arc"], "g": ["one", "two"]}, TWO),
        ({"outer": ["a", "b"], "a": ["one"], "b": ["two"]}, TWO),
    ],
)
def test_languages_of_one_data_set(
    groups: dict[str, list[str]], sets: dict[str, tuple[str, str]]
) -> None:
    assert note_on_groups(results(groups, sets)) == NOTE


@pytest.mark.parametrize(
    ("groups", "sets"),
    [
        ({}, TWO),
        ({"g": ["arc", "piqa"]}, TWO),
        ({"g": ["one", "two"]}, {"one": ("oktest", "en"), "two": ("xstest_safe", "en")}),
        ({"g": ["one", "gone"]}, TWO),
    ],
)
def test_nothing_is_said_of_other_prompts(
    groups: dict[str, list[str]], sets: dict[str, tuple[str, str]]
) -> None:
    assert note_on_groups(results(groups, sets)) is None
    assert note_on_groups({}) is None


def test_the_groups_of_this_package() -> None:
    """All of those that average languages; over-refusal is three sets of English prompts."""
    import yaml

    members: dict[str, list[str]] = {}
    sets: dict[str, tuple[str, str]] = {}
    for path, text in configs.files().items():
        told = yaml.load(text, Loader=yaml.BaseLoader) if "_template" not in path else {}
        if "group" in told:
            members[told["group"]] = told["task"]
        elif told:
            arguments = told["dataset_kwargs"]
            sets[told["task"]] = arguments["family"], arguments["lang"]
    for group in members:
        told = results(members, sets) | {"groups": {group: {}}}
        of_english = group in ("polyrefuse-overrefusal", "xstest-original")
        assert (note_on_groups(told) is None) == of_english, group
