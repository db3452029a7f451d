"""The registry against the published checksums, and its refusals."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from polyrefuse_tasks import data
from polyrefuse_tasks.data import registry
from polyrefuse_tasks.languages import MULTIJAIL, POLYREFUSE

UNUSED = {"overrefusal/oktest_100.json", "overrefusal/xstest.json"}

FURTHER = {
    "xstest/xstest_prompts.csv": (
        "https://raw.githubusercontent.com/paul-rottger/xstest/"
        "d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d/xstest_prompts.csv",
        "11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
    ),
}
"""Files of sources that are not in the reference data, with their own pins. The sum is that of the
file in a copy of the repository at that commit; the address itself could not be reached when it was
written down."""


def test_every_file_is_as_published(shared: Path) -> None:
    with (shared / "data" / "SOURCES.tsv").open(encoding="utf-8") as table:
        published = {row["path"]: row for row in csv.DictReader(table, delimiter="\t")}
    files = {file.path: file for source in data.datasets().values() for file in source.files}
    assert set(files) == (set(published) - UNUSED) | FURTHER.keys()
    for path, pin in FURTHER.items():
        assert (files[path].url, files[path].sha256) == pin
    for path, file in files.items():
        if path in FURTHER:
            continue
        row = published[path]
        assert file.sha256 == row["sha256"]
        assert file.repository is not None
        assert file.repository.name == row["repository"]
        assert file.url == (
            f"https://raw.githubusercontent.com/{row['repository']}/{row['commit']}/"
            f"{row['upstream_path']}"
        )


def test_datasets_speak_the_languages_of_their_papers() -> None:
    for name in ("harmful", "harmless", "jailbreakbench", "advbench", "malicious_instruct"):
        assert data.dataset(name).languages == POLYREFUSE
    assert set(data.dataset("multijail").languages) == set(MULTIJAIL)
    for name in ("xstest_safe", "xstest_unsafe", "oktest", "orbench_hard"):
        assert data.dataset(name).languages == ("en",)


def test_which_datasets_are_harmful() -> None:
    harmless = {name for name in data.DATASETS if not data.dataset(name).harmful}
    toys = {"toyrefuse_harmless"}
    assert harmless - toys == {
        *("harmless", "xstest_safe", "oktest", "orbench_hard", "mcd_harmless"),
        "xstest_original_harmless",
    }
    assert toys <= harmless


def test_every_dataset_names_its_licence_and_papers() -> None:
    for source in data.datasets().values():
        assert source.licence
        assert source.citation.startswith("arXiv:") or source.invented


def test_unknown_dataset_is_answered_with_what_was_meant() -> None:
    with pytest.raises(data.UnknownDataset, match="'advbnch': did you mean 'advbench'"):
        data.load("advbnch")


def test_unknown_split_names_the_splits() -> None:
    with pytest.raises(data.UnknownSplit, match=r"harmful has no split 'dev'.*train, val, test"):
        data.needed("harmful", split="dev")


def test_reading_the_registry_twice_is_reading_it_once() -> None:
    assert registry.datasets() is registry.datasets()
