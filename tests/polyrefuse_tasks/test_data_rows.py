"""Rows: how languages pair, what each quirk of the sources becomes, and the real counts.

The invented rows are of `tests.invented_data`. The real files are counted here anew, by other code
than that which loads them.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from polyrefuse_tasks import data
from polyrefuse_tasks.data import cache
from polyrefuse_tasks.languages import MULTIJAIL, POLYREFUSE
from tests.invented_data import World, make_world, sha256

OTHERS = tuple(language for language in POLYREFUSE if language != "en")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path)
    made.use(monkeypatch)
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(made.mirror))
    return made


def translation(world: World, dataset: str, language: str, *lines: str | bytes) -> Path:
    path = world.mirror / "translated" / dataset / f"{language}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = (line if isinstance(line, bytes) else line.encode() for line in lines)
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return path


def line(id_: str, prompt: str) -> str:
    return json.dumps({"id": id_, "prompt": prompt})


class TestInvented:
    def test_a_row_says_everything(self, world: World) -> None:
        assert data.load("harmful", "de")[3] == data.Row(
            id="harmful/test/0003",
            prompt="verboten 3",
            prompt_en="forbidden six",
            language="de",
            category="made up",
            source="h/test_de.json",
            split="test",
            harmful=True,
        )

    def test_train_pairs_by_position(self, world: World) -> None:
        pairs = [(row.id, row.prompt, row.prompt_en) for row in data.load("harmful", "de", "train")]
        assert pairs == [
            ("harmful/train/0000", "verboten eins", "forbidden one"),
            ("harmful/train/0001", "verboten zwei", "forbidden two"),
        ]

    def test_a_prompt_that_stands_twice_keeps_both_rows(self, world: World) -> None:
        twice = [row for row in data.load("harmful", "de") if row.prompt_en == "forbidden four"]
        assert [(row.id, row.prompt) for row in twice] == [
            ("harmful/test/0000", "verboten 0"),
            ("harmful/test/0002", "verboten 2"),
        ]

    def test_missing_rows_leave_their_ids_out(self, world: World) -> None:
        assert [row.id for row in data.load("jailbreakbench", "de")] == [
            "jailbreakbench/0000",
            "jailbreakbench/0002",
        ]

    def test_validation_rows_stand_in_for_the_chinese_test_file(self, world: World) -> None:
        rows = data.load("harmless", "zh")
        assert [(row.id, row.split, row.prompt_en) for row in rows] == [
            ("harmless/val/0000", "val", "safe one"),
            ("harmless/val/0001", "val", "safe two"),
        ]
        assert data.substituted_split("harmless", "zh") == "val"
        assert data.substituted_split("harmless", "de") is None
        assert len(data.load("harmless", "zh", None)) == 2

    def test_matched_rows_carry_the_split_they_are_in(self, world: World) -> None:
        german = data.load("advbench", "de")
        assert [(row.id, row.prompt, row.split, row.source) for row in german] == [
            ("advbench/0001", "verboten zwei", "train", "h/train_de.json"),
            ("advbench/0002", "verboten 0", "test", "h/test_de.json"),
        ]
        english = data.load("advbench")
        assert [(row.id, row.split) for row in english] == [
            ("advbench/0000", "test"),
            ("advbench/0001", "train"),
            ("advbench/0002", "test"),
            ("advbench/0003", "test"),
        ]
        assert {row.source for row in english} == {"advbench.txt"}

    def test_a_table_has_a_column_a_language(self, world: World) -> None:
        first = data.load("multijail", "zh")[0]
        assert (first.prompt, first.prompt_en, first.category) == (
            "两",
            "two\nlines",
            "['made, up']",
        )

    @pytest.mark.parametrize(
        ("dataset", "language", "split"),
        [
            ("harmful", "en", "test"),
            ("harmful", "de", None),
            ("harmless", "zh", "test"),
            ("advbench", "de", "test"),
            ("multijail", "zh", "test"),
        ],
    )
    def test_checksums_are_those_of_the_files_read(
        self,
        world: World,
        monkeypatch: pytest.MonkeyPatch,
        dataset: str,
        language: str,
        split: str | None,
    ) -> None:
        read: set[str] = set()
        resolve = cache.resolve
        monkeypatch.setattr(cache, "resolve", lambda file: read.add(file.path) or resolve(file))
        data.load(dataset, language, split)
        sums = data.checksums(dataset, language, split)
        assert sums == {path: sha256(world.files[path]) for path in read}

    def test_unknown_language(self, world: World) -> None:
        with pytest.raises(data.UnknownLanguage, match=r"no language 'xx': choose from de, en, zh"):
            data.load("harmful", "xx")

    def test_an_unpairable_file_is_broken(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cache, "check", lambda file, path: None)
        (world.mirror / "h/train_de.json").write_bytes(world.files["j/en.json"])
        with pytest.raises(data.BrokenData, match="3 rows and the English file has 2"):
            data.load("harmful", "de", "train")
        (world.mirror / "j/de.json").write_bytes(world.files["s/test_de.json"])
        with pytest.raises(data.BrokenData, match="English text is not in the English file"):
            data.load("jailbreakbench", "de")


class TestTranslationsOfOnesOwn:
    def test_adds_a_language(self, world: World) -> None:
        path = translation(
            world, "harmful", "da", line("harmful/test/0003", "tre"), line("harmful/test/0000", "o")
        )
        assert data.languages("harmful") == ("da", "de", "en", "zh")
        rows = data.load("harmful", "da")
        assert [(row.id, row.prompt, row.prompt_en) for row in rows] == [
            ("harmful/test/0000", "o", "forbidden four"),
            ("harmful/test/0003", "tre", "forbidden six"),
        ]
        assert {(row.source, row.split) for row in rows} == {
            ("translated/harmful/da.jsonl", "test")
        }
        sums = data.checksums("harmful", "da")
        assert sums["translated/harmful/da.jsonl"] == sha256(path.read_bytes())
        with pytest.raises(data.MissingData, match="has no rows of split 'train'"):
            data.load("harmful", "da", "train")

    def test_adds_a_language_to_matched_rows(self, world: World) -> None:
        translation(
            world, "advbench", "da", line("advbench/0000", "nul"), line("advbench/0001", "to")
        )
        rows = data.load("advbench", "da")
        assert [(row.id, row.split) for row in rows] == [
            ("advbench/0000", "test"),
            ("advbench/0001", "train"),
        ]

    def test_without_a_mirror_it_lies_in_the_cache(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        translation(world, "oktest", "da", line("oktest/0001", "skær"))
        monkeypatch.delenv("POLYREFUSE_DATA_DIR")
        assert data.languages("oktest") == ("en",)
        world.mirror.rename(world.cache)
        assert [row.prompt for row in data.load("oktest", "da")] == ["skær"]

    @pytest.mark.parametrize(
        ("second", "said"),
        [
            ('{"id": "oktest/0001", "prom', "line 2 is not a JSON object"),
            ('["oktest/0001", "made up"]', "line 2 is not a JSON object"),
            ('{"id": "oktest/0001"}', "line 2 is not a JSON object"),
            ('{"id": "oktest/0001", "prompt": "é"}'.encode("latin-1"), "line 2 is not UTF-8"),
            (line("oktest/0007", "made up"), "line 2 has the id 'oktest/0007', which no English"),
            (line("oktest/0000", "made up"), "line 2 has the id 'oktest/0000' a second time"),
            (line("oktest/0001", " "), "line 2 has an empty prompt"),
            ('{"id": "oktest/0001", "prompt": "\\ud800"}', "line 2 is not a JSON object"),
            ('{"id": "oktest/0001", "prompt": Infinity}', "line 2 has an empty prompt"),
            ('{"id": "oktest/0001", "prompt": ' + "[" * 9999, "line 2 is not a JSON object"),
            ('{"id": ["oktest/0001"], "prompt": "x"}', "line 2 has the id"),
        ],
    )
    def test_a_broken_line_is_named(self, world: World, second: str | bytes, said: str) -> None:
        path = translation(world, "oktest", "da", line("oktest/0000", "made up"), second)
        with pytest.raises(data.BrokenData, match=said) as caught:
            data.load("oktest", "da")
        assert str(path) in str(caught.value)

    def test_never_replaces_what_is_published(self, world: World) -> None:
        translation(world, "harmful", "de", line("harmful/test/0000", "null"))
        with pytest.raises(data.BrokenData, match="would replace the published 'de' of harmful"):
            data.load("harmful", "de")


@pytest.mark.usefixtures("mirror")
class TestPublished:
    @pytest.mark.parametrize(
        ("dataset", "split", "n"),
        [
            ("harmful", "train", 260),
            ("harmful", "val", 39),
            ("harmful", "test", 572),
            ("harmless", "train", 200),
            ("harmless", "val", 200),
            ("harmless", "test", 500),
        ],
    )
    def test_polyrefuse_has_the_same_rows_in_every_language(
        self, dataset: str, split: str, n: int
    ) -> None:
        english = [(row.id, row.prompt_en) for row in data.load(dataset, "en", split)]
        assert len(english) == n
        for language in OTHERS:
            if (dataset, split, language) == ("harmless", "test", "zh"):
                continue
            rows = data.load(dataset, language, split)
            assert [(row.id, row.prompt_en) for row in rows] == english
            assert all(row.prompt != row.prompt_en for row in rows)
            assert {row.split for row in rows} == {split}

    def test_translations_are_those_of_the_files(self, mirror: Path) -> None:
        for language in OTHERS:
            path = mirror / "polyrefuse" / f"harmful_test_translated_{language}.json"
            raw = json.loads(path.read_text(encoding="utf-8"))
            rows = data.load("harmful", language)
            assert [row.prompt for row in rows] == [row["instruction_translated"] for row in raw]
            assert [row.category for row in rows] == [row["category"] for row in raw]

    def test_ten_harmful_prompts_stand_twice(self) -> None:
        for language in POLYREFUSE:
            counts = Counter(row.prompt_en for row in data.load("harmful", language))
            assert len(counts) == 562
            assert Counter(counts.values()) == {1: 552, 2: 10}

    def test_chinese_harmless_rows_are_the_validation_rows(self) -> None:
        assert data.load("harmless", "zh", "test") == data.load("harmless", "zh", "val")

    def test_jailbreakbench_lacks_rows_in_two_languages(self, mirror: Path) -> None:
        english = {row.id: row.prompt_en for row in data.load("jailbreakbench")}
        for language in POLYREFUSE:
            rows = data.load("jailbreakbench", language)
            assert len(rows) == {"nl": 98, "pl": 99}.get(language, 100)
            path = mirror / "polyrefuse" / f"jailbreakbench_test_translated_{language}.json"
            raw = json.loads(path.read_text(encoding="utf-8"))
            by_english = {row["instruction"]: row["instruction_translated"] for row in raw}
            assert all(english[row.id] == row.prompt_en for row in rows)
            assert all(by_english[row.prompt_en] == row.prompt for row in rows)

    @pytest.mark.parametrize(
        ("dataset", "file", "whole", "train", "test"),
        [
            ("advbench", "advbench.txt", 520, 117, 33),
            ("malicious_instruct", "MaliciousInstruct.txt", 100, 88, 12),
        ],
    )
    def test_matched_datasets(
        self, mirror: Path, dataset: str, file: str, whole: int, train: int, test: int
    ) -> None:
        listed = (mirror / file).read_text(encoding="utf-8").split("\n")
        english = data.load(dataset)
        assert [row.prompt for row in english] == listed
        assert len(listed) == whole
        assert Counter(row.split for row in english) == {"train": train, "test": whole - train}
        for language in OTHERS:
            rows = data.load(dataset, language)
            assert Counter(row.split for row in rows) == {"train": train, "test": test}
            own = {row.prompt_en: {row.prompt} for row in data.load("harmful", language, "train")}
            for row in data.load("harmful", language, "test"):
                own.setdefault(row.prompt_en, set()).add(row.prompt)
            for row in rows:
                assert listed[int(row.id.rpartition("/")[2])] == row.prompt_en
                assert row.prompt in own[row.prompt_en]

    def test_multijail(self, mirror: Path) -> None:
        with (mirror / "MultiJail.csv").open(encoding="utf-8-sig", newline="") as table:
            raw = list(csv.DictReader(table))
        for language in MULTIJAIL:
            rows = data.load("multijail", language)
            assert [row.prompt for row in rows] == [row[language] for row in raw]
            assert [row.id for row in rows] == [f"multijail/{int(row['id']):04d}" for row in raw]
            assert [row.category for row in rows] == [row["tags"] for row in raw]
        assert len(raw) == 315

    @pytest.mark.parametrize(
        ("dataset", "n", "harmful"),
        [
            ("xstest_safe", 250, False),
            ("xstest_unsafe", 200, True),
            ("oktest", 300, False),
            ("orbench_hard", 132, False),
        ],
    )
    def test_over_refusal_sets(self, dataset: str, n: int, harmful: bool) -> None:
        rows = data.load(dataset)
        assert len(rows) == n
        assert {row.harmful for row in rows} == {harmful}

    def test_mcd_anchors(self, mirror: Path) -> None:
        for dataset, split, file in (
            ("mcd_harmful", "train", "harmful_custom.txt"),
            ("mcd_harmless", "train", "harmless_custom.txt"),
            ("mcd_harmless", "test", "harmless_testset.txt"),
        ):
            listed = (mirror / "mcd" / file).read_text(encoding="utf-8").splitlines()
            assert [row.prompt for row in data.load(dataset, "en", split)] == listed
            assert len(listed) == 100

    def test_no_prompt_is_empty_and_no_id_stands_twice(self) -> None:
        for dataset, source in data.datasets().items():
            for language in () if source.only_by_name else data.languages(dataset):
                rows = data.load(dataset, language, None)
                assert all(row.prompt.strip() and (row.prompt_en or "").strip() for row in rows)
                assert len({row.id for row in rows}) == len(rows)
