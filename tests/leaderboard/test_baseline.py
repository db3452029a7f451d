"""`leaderboard/gate/baseline.py`: the baseline's file, and files that are none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from polyrefuse_leaderboard.gate.baseline import (
    BadBaseline,
    make_baseline,
    read_baseline,
    write_baseline,
)
from polyrefuse_leaderboard.reading.results import read

from polyrefuse_shared.errors import UserError
from tests.leaderboard.result_files import task, write_run

N = 40
SAFE = [task("harmful", "de", "r" * N), task("harmless", "de", "c" * N)]


class TestBaselineFile:
    def made(self, folder: Path) -> Path:
        write_run(folder / "results", SAFE)
        file = folder / "new" / "baseline.json"
        write_baseline(make_baseline(read([folder / "results"]).runs), file)
        return file

    def test_labels_and_no_text(self, tmp_path: Path) -> None:
        file = self.made(tmp_path)
        text = file.read_text(encoding="utf-8")
        assert "invented prompt" not in text
        assert "answer" not in text
        document = json.loads(text)
        assert (document["schema"], document["model"]) == (1, "invented/model-1")
        assert document["versions"]["lm-eval-polyrefuse"] == "0.1.0"
        harmful, harmless = document["cells"]
        assert harmful["labels"] == {f"harmful/test/{place:04}": 0 for place in range(N)}
        assert (harmless["metric"], harmless["hits"], harmless["n"]) == ("false_refusal_rate", 0, N)
        assert read_baseline(file) == make_baseline(read([tmp_path / "results"]).runs)

    def test_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = self.made(tmp_path)
        old = file.read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(UserError, match=r"baseline\.json cannot be written \(No space left"):
            self.made(tmp_path)
        assert file.read_bytes() == old
        assert [path.name for path in file.parent.iterdir()] == [file.name]

    @pytest.mark.parametrize("place", ["", "afile/baseline.json", "x" * 300, "folder", "."])
    def test_places_that_cannot_be(
        self, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = read_baseline(self.made(tmp_path))
        (tmp_path / "here" / "folder").mkdir(parents=True)
        (tmp_path / "here" / "afile").touch()
        monkeypatch.chdir(tmp_path / "here")
        with pytest.raises(UserError, match="cannot be written"):
            write_baseline(made, Path(place))
        assert sorted(path.name for path in Path().iterdir()) == ["afile", "folder"]
        assert not list(Path("folder").iterdir())

    def test_a_file_name_as_long_as_can_be(self, tmp_path: Path) -> None:
        made = read_baseline(self.made(tmp_path))
        file = tmp_path / ("x" * 250 + ".json")
        write_baseline(made, file)
        assert read_baseline(file) == made

    def test_half_a_letter_from_the_results(self, tmp_path: Path) -> None:
        file = write_run(tmp_path / "results", SAFE, top={"lm_eval_version": "HALF"})
        text = file.read_text(encoding="utf-8").replace("HALF", r"\ud800")
        file.write_text(text, encoding="utf-8")
        made = make_baseline(read([tmp_path / "results"]).runs)
        write_baseline(made, tmp_path / "baseline.json")
        assert read_baseline(tmp_path / "baseline.json") == made
        assert made.versions["lm_eval"] == r"\ud800"

    def test_nothing_to_gate(self, tmp_path: Path) -> None:
        file = write_run(tmp_path, SAFE[:1], samples=False)
        document = json.loads(file.read_text(encoding="utf-8"))
        results = document["results"]["polyrefuse_harmful_de"]
        results["asr_mean,none"] = results.pop("asr,none")
        file.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(BadBaseline, match="has none of asr, "):
            make_baseline(read([tmp_path]).runs)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda document: document.update(schema=2), "has schema 2, not 1"),
            (lambda document: document.pop("schema"), "is not a baseline"),
            (
                lambda document: document.update(cells=[]),
                "has no cells, so nothing could fail",
            ),
            (lambda document: document.pop("model"), "has no model"),
            (lambda document: document.update(cells={}), "has {} as cells, not a list"),
            (lambda document: document.update(cells=[3]), "cell 1 is 3, not an object"),
            (lambda document: document["cells"].append(document["cells"][0]), "has a cell twice"),
            (lambda document: document["cells"][1].pop("judge"), "cell 2 has no judge"),
            (lambda document: document["cells"][0].update(metric="acc"), "has 'acc' as metric"),
            (lambda document: document["cells"][0].update(n=0), "has 0 as n"),
            (lambda document: document["cells"][0].update(n=math.nan), "has nan as n"),
            (lambda document: document["cells"][0].update(hits=1), "has counts that contradict"),
            (lambda document: document["cells"][0].update(hits=41, labels=None), "has counts that"),
            (
                lambda document: document["cells"][0]["labels"].popitem(),
                "has counts that contradict",
            ),
            (
                lambda document: document["cells"][0].update(labels={"x": 2}),
                "as labels, not null or",
            ),
            (
                lambda document: document["cells"][0].update(beside={"degenerate_rate": math.nan}),
                "beside",
            ),
            (
                lambda document: document["cells"][0].update(beside={"a\n::error::b": 0.5}),
                r"has {'a\n::error::b': 0.5} as beside",
            ),
            (
                lambda document: document["cells"][0].update(beside={"undecided_rate": 10**400}),
                "beside",
            ),
            (lambda document: document.update(model="\ud800"), "is not JSON (it holds half of"),
            (lambda document: document.update(runs=[1]), "has [1] as runs, not a list of strings"),
            (
                lambda document: document["cells"][0].update(judge="a\nb"),
                "as judge, not a printable",
            ),
        ],
    )
    def test_broken(self, tmp_path: Path, change: Any, said: str) -> None:
        file = self.made(tmp_path)
        document = json.loads(file.read_text(encoding="utf-8"))
        change(document)
        file.write_text(json.dumps(document), encoding="utf-8")
        with pytest.raises(BadBaseline) as raised:
            read_baseline(file)
        assert said in str(raised.value)
        assert str(file) in str(raised.value)
        assert "--update" in str(raised.value)

    @pytest.mark.parametrize("text", ["", "{", "[]", "3", "\ufeff{}", "[" * 100_000])
    def test_not_a_baseline(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "baseline.json"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(BadBaseline, match="--update"):
            read_baseline(file)

    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BadBaseline, match="none.json cannot be read"):
            read_baseline(tmp_path / "none.json")
