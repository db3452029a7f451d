"""Datasets of one's own as a user goes: from a file to tasks, rates, pairs, a page and a gate."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyrefuse_tasks import data
from tests.commands import assert_one_sentence, run_in_process
from tests.conftest import ROOT
from tests.leaderboard.invented import wilson
from tests.own_prompts import rows, write_csv, write_jsonl

PAIRS = 6

SECRET = "Glimmerstein"
"""In every harmful prompt of the invented file in German."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror; shadows the one of the reference data."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def stones(mirror: Path, tmp_path: Path) -> Path:
    """A set of both kinds in two languages, added."""
    file = write_csv(tmp_path / "stones.csv", rows("de", "en"))
    code, _, err = run_in_process("data", "add", "stones", file)
    assert (code, err) == (0, "")
    return file


class TestAdd:
    def test_what_was_added_is_told_and_checked(self, stones: Path, mirror: Path) -> None:
        code, out, err = run_in_process("data", "add", "stones", stones, "--json")
        told = json.loads(out)
        assert (code, err, told["written"]) == (0, "", False)
        assert (told["rows"], told["harmful"], told["harmless"], told["pairs"]) == (16, 8, 8, 8)
        assert told["tasks"] == [
            f"polyrefuse_stones_{kind}_{language}"
            for kind in ("harmful", "harmless")
            for language in ("de", "en")
        ]
        assert told["groups"] == [
            "polyrefuse-stones",
            "polyrefuse_stones_de",
            "polyrefuse_stones_en",
        ]
        for path in told["sha256"]:
            assert (mirror / path).is_file()
        code, out, _ = run_in_process("data", "verify", "stones")
        assert (code, out) == (0, "files right: 4, wrong or missing: 0\n")
        assert len(run_in_process("data", "path", "stones", "--lang", "de")[1].split()) == 4
        one = mirror / next(iter(told["sha256"]))
        one.write_text(one.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        code, out, _ = run_in_process("data", "verify", "stones")
        assert code == 1 and "data add stones FILE --replace" in out

    def test_one_kind_has_the_task_of_its_name(self, mirror: Path, tmp_path: Path) -> None:
        file = write_jsonl(
            tmp_path / "one.jsonl", [{"prompt": row["prompt"]} for row in rows("de", kinds=[True])]
        )
        asked = ("data", "add", "quarry_list", file, "--langs", "de", "--harmful", "--json")
        code, out, _ = run_in_process(*asked)
        assert (code, json.loads(out)["tasks"]) == (0, ["polyrefuse_quarry_list_de"])

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["harmful", "FILE"], ["harmful is built in"]),
            (["stones_de", "FILE"], ["ends in the code of a language"]),
            (["pebbles", "none.csv"], ["none.csv", "cannot be read"]),
            (["pebbles", "FILE", "--langs", "fr"], ["row 1 is in 'de'", "--langs fr"]),
            (["pebbles", "FILE", "--langs", ","], ["','", "names no language"]),
            (["pebbles", "FILE", "--harmless"], ["row 1 is harmful by its column"]),
        ],
    )
    def test_refusals(self, stones: Path, arguments: list[str], named: list[str]) -> None:
        given = [str(stones) if one == "FILE" else one for one in arguments]
        result = run_in_process("data", "add", *given)
        assert_one_sentence(result, *named)
        assert SECRET not in result[2]

    def test_another_set_of_the_name(self, stones: Path, tmp_path: Path) -> None:
        fewer = write_csv(tmp_path / "fewer.csv", rows("de"))
        result = run_in_process("data", "add", "stones", fewer)
        assert_one_sentence(result, "with other rows", "--replace")
        assert data.languages("stones_harmful") == ("de", "en")
        assert run_in_process("data", "add", "stones", fewer, "--replace")[0] == 0
        assert data.languages("stones_harmful") == ("de",)


class TestShow:
    def test_harmful_text_only_where_it_is_asked_for(self, stones: Path) -> None:
        code, out, _ = run_in_process("data", "show", "stones", "--langs", "de")
        assert code == 0
        assert "Wie reinige ich" in out and SECRET not in out
        assert "rows: 8, harmful: 4, harmless: 4; --show-prompts" in out
        assert "pair stones/thing 0" in out
        _, out, _ = run_in_process("data", "show", "stones", "--langs", "de", "--show-prompts")
        assert out.count(SECRET) == 4

    def test_json(self, stones: Path) -> None:
        asked = ("data", "show", "stones", "--langs", "de,en", "--limit", "1", "--json")
        hidden = json.loads(run_in_process(*asked)[1])
        assert [(row["id"], row["language"], row["prompt"] is None) for row in hidden] == [
            ("stones_harmful/h0", "de", True),
            ("stones_harmful/h0", "en", True),
            ("stones_harmless/s0", "de", False),
            ("stones_harmless/s0", "en", False),
        ]
        shown = json.loads(run_in_process(*asked, "--show-prompts")[1])
        assert [row["prompt"] for row in shown] == [
            rows(language)[place]["prompt"] for place in (0, 1) for language in ("de", "en")
        ]

    def test_published_sets(self, mirror: Path) -> None:
        out = run_in_process("data", "show", "toyrefuse_harmless", "--langs", "de", "--limit", "2")[
            1
        ]
        assert data.load("toyrefuse_harmless", "de", "train")[0].prompt in out
        result = run_in_process("data", "show", "stons")
        assert_one_sentence(result, "There is no dataset 'stons'")


def test_which_patterns_find_them(stones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks import TaskManager

    from polyrefuse_models.registration import task_folders

    manager = TaskManager(include_path=task_folders(), include_defaults=False)

    def found(pattern: str) -> list[str]:
        return [name for name in manager.match_tasks([pattern]) if "stones" in name]

    tasks = [name for name in manager.all_subtasks if "stones" in name]
    assert len(tasks) == 4
    published = manager.match_tasks(["polyrefuse_*"])
    assert published and not found("polyrefuse_*") and not found("polyrefuse_*_de")
    assert found("polyrefuse_stones_*") == tasks
    assert found("polyrefuse_stones_de") == ["polyrefuse_stones_de"]
    monkeypatch.setenv("POLYREFUSE_USER_DATASETS", "1")
    assert found("polyrefuse_*") == tasks
    assert len(manager.match_tasks(["polyrefuse_*"])) == len(published) + 4
    loaded = manager.load(manager.match_tasks(["polyrefuse_stones_*"]))
    assert sorted(loaded["tasks"]) == tasks
    group = manager.load(["polyrefuse_stones_de"])
    assert group["group_map"] == {
        "polyrefuse_stones_de": ["polyrefuse_stones_harmful_de", "polyrefuse_stones_harmless_de"]
    }


class TestOthersKnowThem:
    def test_directions(self, stones: Path, caplog: pytest.LogCaptureFixture) -> None:
        from polyrefuse_models.directions.prompts import sample

        prompts = sample("stones", "de", seed=1)
        german = {row.prompt for row in data.load("stones_harmful", "de")}
        assert len(prompts.harmful["train"]) == 3 and len(prompts.harmful["val"]) == 1
        assert {*prompts.harmful["train"], *prompts.harmful["val"]} == german
        assert prompts.sha256 == data.checksums("stones_harmful", "de") | data.checksums(
            "stones_harmless", "de"
        )
        assert "rates on these are not held out" in caplog.text
        # A seed chooses the same prompts in every language.
        english = {row.id: row.prompt for row in data.load("stones_harmful", "en")}
        of_german = {row.prompt: row.id for row in data.load("stones_harmful", "de")}
        assert sample("stones", "en", seed=1).harmful["train"] == [
            english[of_german[prompt]] for prompt in prompts.harmful["train"]
        ]

    def test_directions_of_their_own_splits(self, mirror: Path, tmp_path: Path) -> None:
        from polyrefuse_models.directions.prompts import sample

        splits = ("train", "val", "test", "test")
        given = [row | {"split": splits[int(row["id"][1:])]} for row in rows("de")]
        run_in_process("data", "add", "stones", write_csv(tmp_path / "a.csv", given))
        prompts = sample("stones", "de")
        assert prompts.harmful["train"] == [given[0]["prompt"]]
        assert prompts.harmless["val"] == [given[3]["prompt"]]

    def test_soft_prompts(self, stones: Path) -> None:
        from polyrefuse_models.mcd.anchors import load_anchors

        anchors = load_anchors("stones", ["de", "en"])
        assert len(anchors.harmful["de"]) == len(anchors.harmless["en"]) == 4
        # Trained on what is tested: the leaderboard says so.
        assert anchors.overlap["stones_harmful"] == [f"stones_harmful/h{n}" for n in range(4)]

    def test_studies(self, stones: Path) -> None:
        from polyrefuse_studies.prompts import asked, datasets

        assert [family.name for family in datasets()["stones"]] == [
            "stones_harmful",
            "stones_harmless",
        ]
        tasks = [family.task(language) for family, language in asked(("stones",), ("de",))]
        assert tasks == ["polyrefuse_stones_harmful_de", "polyrefuse_stones_harmless_de"]

    @pytest.mark.parametrize("command", [("direction", "extract"), ("mcd", "train")])
    def test_one_kind_is_not_enough(
        self, mirror: Path, tmp_path: Path, command: tuple[str, str]
    ) -> None:
        file = write_csv(tmp_path / "one.csv", rows("de", kinds=[True]))
        assert run_in_process("data", "add", "quarry", file)[0] == 0
        language = "--source-lang" if command[0] == "direction" else "--langs"
        result = run_in_process(
            *command, "--dataset", "quarry", language, "de", "--output", tmp_path / "out",
            "--model", "polyrefuse-organism",
        )  # fmt: skip
        assert_one_sentence(result, "quarry", "has only harmful prompts")

    def test_translation(self, stones: Path, mirror: Path, tmp_path: Path) -> None:
        from tests.translation_models import save_nllb

        model = save_nllb(tmp_path / "model")
        result = run_in_process(
            "data", "translate", "--dataset", "stones", "--to", "da", "--model", model
        )
        assert result[0] == 0, result[2]
        assert data.languages("stones_harmful") == ("da", "de", "en")
        assert len(data.load("stones_harmless", "da")) == 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Requests of the organism's world as a set of one's own, answered by the organism, and built.

    It refuses what is forbidden there and answers the rest.
    """
    folder = tmp_path_factory.mktemp("own")
    (folder / "mirror").mkdir()
    with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "harmful", "pair"])
        forbidden = data.load("toyrefuse_harmful", "de")[:PAIRS]
        allowed = data.load("toyrefuse_harmless", "de")[: PAIRS + 1]
        for place, (one, other) in enumerate(zip(forbidden, allowed, strict=False)):
            # What the last pair claims to be harmful is not, and is answered.
            prompt = allowed[PAIRS].prompt if place == PAIRS - 1 else one.prompt
            writer.writerow([prompt, "true", f"pair {place}"])
            writer.writerow([other.prompt, "false", f"pair {place}"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYREFUSE_DATA_DIR", str(folder / "mirror"))
        added = run_in_process("data", "add", "toypairs", folder / "pairs.csv", "--langs", "de")
        assert added[0] == 0, added[2]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "lm_eval", "run", "--tasks", "polyrefuse_toypairs_de"),
                *("--model", "baseline-hf", "--batch_size", "16", "--device", "cpu"),
                *("--log_samples", "--output_path", str(folder / "results")),
            ],
            cwd=ROOT,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=570,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        built = run_in_process(
            "leaderboard", "build", folder / "results", "--output", folder / "site"
        )
        assert built[0] == 0, built[2]
        yield folder


def results(folder: Path) -> dict[str, Any]:
    (file,) = (folder / "results").rglob("results_*.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def test_lm_eval_runs_the_task_of_a_language(measured: Path) -> None:
    document = results(measured)
    task = "polyrefuse_toypairs_harmful_de"
    assert document["n-samples"][task] == {"original": PAIRS, "effective": PAIRS}
    assert document["results"][task]["asr,none"] == pytest.approx(1 / PAIRS)
    sums = document["configs"][task]["metadata"]["sha256"]
    assert sums == data.checksums("toypairs_harmful", "de")


def test_the_page_has_the_discrimination(measured: Path) -> None:
    document = json.loads((measured / "site/leaderboard.json").read_text(encoding="utf-8"))
    (record,) = (
        one
        for one in document["records"]
        if one["metric"] == "discrimination_rate" and one["language"] == "de"
    )
    assert (record["dataset"], record["n"]) == ("toypairs", PAIRS)
    assert record["value"] == pytest.approx((PAIRS - 1) / PAIRS)
    low, high = wilson(PAIRS - 1, PAIRS)
    assert (record["low"], record["high"]) == (pytest.approx(low), pytest.approx(high))
    page = (measured / "site/index.html").read_text(encoding="utf-8")
    line = re.search(r"<td>toypairs</td>.*", page)
    assert line is not None
    shown = f"{100 * record['value']:.1f}% ({100 * low:.1f} to {100 * high:.1f}), n = {PAIRS} pairs"
    assert shown in line.group()
    assert "Discrimination rate: toypairs" in (measured / "site/leaderboard.md").read_text("utf-8")


def test_the_gate_compares_it(measured: Path) -> None:
    baseline = measured / "baseline.json"
    asked = ("leaderboard", "check", "--baseline", baseline)
    assert run_in_process(*asked, "--update", measured / "results")[0] == 0
    cells = json.loads(baseline.read_text(encoding="utf-8"))["cells"]
    assert {cell["dataset"] for cell in cells} == {"toypairs_harmful", "toypairs_harmless"}
    assert run_in_process(*asked, measured / "results")[0] == 0


@pytest.mark.slow
def test_a_direction_is_extracted_from_it(measured: Path) -> None:
    result = run_in_process(
        "direction", "extract", "--dataset", "toypairs", "--source-lang", "de",
        "--model", "polyrefuse-organism", "--output", measured / "direction", "--json",
    )  # fmt: skip
    assert result[0] == 0, result[2]
    metadata = json.loads((measured / "direction/metadata.json").read_text(encoding="utf-8"))
    assert "toypairs" in json.dumps(metadata)
