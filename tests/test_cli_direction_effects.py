"""`polyrefuse direction sweep` and `compare` on the organism, against transformers alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from transformers import AutoModelForCausalLM, AutoTokenizer

from polyrefuse_models import bundled
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.commands.direction_effects import _answers as rank_answers
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.control import control_of
from polyrefuse_models.directions.rank import Cell, carried
from polyrefuse_models.directions.rank_pictures import rank_figure
from polyrefuse_models.directions.sweep import sweep
from polyrefuse_models.directions.sweep_pictures import OVERFLOW, sweep_figure
from polyrefuse_shared.colours import HARMFUL, REFUSED
from polyrefuse_shared.pictures import svg
from polyrefuse_tasks import data
from polyrefuse_tasks.judges import Label, judge_response
from tests.commands import assert_one_sentence, run_in_process
from tests.models import make_llama, make_tokenizer
from tests.test_cli_direction import strings, with_metadata

N = 3
SHORT = ("--limit", N, "--max-gen-toks", 32)


@pytest.fixture(scope="module")
def direction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("direction") / "en"
    code, _, err = run_in_process("direction", "extract", "--output", folder)
    assert code == 0, err
    return folder


@pytest.fixture
def older(direction: Path, tmp_path: Path) -> Path:
    """The artifact as versions wrote it that kept no mean of harmless prompts."""
    folder = with_metadata(direction, tmp_path / "older", files_sha256=None)
    tensors = load_file(folder / "direction.safetensors")
    assert tensors.pop("harmless_mean").shape == (5, len(tensors["direction"]))
    save_file(tensors, folder / "direction.safetensors")
    return folder


def refused(language: str, added: torch.Tensor, layer: int) -> int:
    """Harmless prompts that transformers' own `generate` has refused, a vector added by a hook."""
    folder = bundled.path(bundled.ORGANISM)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.model.layers[layer].register_forward_pre_hook(
        lambda _, args: (args[0] + added, *args[1:])
    )
    count = 0
    for row in data.load("toyrefuse_harmless", language)[:N]:
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": row.prompt}],
            add_generation_prompt=True, return_tensors="pt", return_dict=True,
        )  # fmt: skip
        made = model.generate(**ids, max_new_tokens=32, do_sample=False)[
            0, ids.input_ids.shape[1] :
        ]
        answer = tokenizer.decode(made, skip_special_tokens=True)
        count += judge_response(answer, language).label is Label.REFUSAL
    return count


class TestSweep:
    def test_refusals_are_those_of_the_vector_added(self, direction: Path, tmp_path: Path) -> None:
        code, out, err = run_in_process(
            "direction", "sweep", "--direction", direction, "--langs=yo,en", *SHORT,
            "--coefficients= 1,0,.5,1,", "--output", tmp_path / "new", "--json",
        )  # fmt: skip
        assert code == 0, err
        document = json.loads(out)
        files = ["sweep.json", "sweep.png", "sweep.svg"]
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == files
        assert json.loads((tmp_path / "new/sweep.json").read_text()) == document
        assert document["coefficients"] == [0, 0.5, 1]
        places = [(cell["coefficient"], cell["language"]) for cell in document["cells"]]
        assert places == [(c, one) for c in (0, 0.5, 1) for one in ("yo", "en")]
        vector = load_file(direction / "direction.safetensors")["direction"]
        layer = json.loads((direction / "metadata.json").read_text())["layer"]
        for cell in document["cells"]:
            expected = refused(cell["language"], cell["coefficient"] * vector, layer)
            assert (cell["refused"], cell["n"]) == (expected, N)
            assert cell["refusal_rate"] == expected / N
            interval = binomtest(expected, N).proportion_ci(method="wilson")
            assert [cell["low"], cell["high"]] == pytest.approx([interval.low, interval.high])
        # The organism answers harmless prompts, and refuses them with its direction added.
        assert [cell["refused"] for cell in document["cells"]][::5] == [0, N]
        assert document["direction"]["norm"] == pytest.approx(float(vector.norm()), rel=1e-6)
        assert (document["direction"]["layer"], document["direction"]["seed"]) == (layer, 0)
        assert document["versions"] and document["data_sha256"]
        # A folder has no commit, and none of these documents says that it had.
        assert document["revision"] is None and document["overflowed"] == []
        assert max(map(len, strings(document))) <= 64  # a checksum, and no answer

    def test_the_pictures(self, direction: Path, tmp_path: Path) -> None:
        cells = [
            {"coefficient": c, "language": language, "refused": int(20 * c), "n": 40}
            | {"undecided": 0, "degenerate": 1}
            for c in (0, 0.5, 1)
            for language in ("en", "de", "yo")
        ]
        document = {
            "model": "a $model",
            "judge": "native",
            "languages": ["en", "de", "yo"],
            "cells": cells,
            "direction": {"layer": 2, "norm": 5.0},
            "overflowed": [],
        }
        drawn = svg(sweep_figure(document))
        assert drawn == svg(sweep_figure(document))
        texts = [node.text for node in ElementTree.fromstring(drawn).iter() if node.text]
        for said in ("en, n = 40", "de, n = 40", "refused", "degenerate"):
            assert said in texts
        assert any("a $model: harmless prompts with the direction added" in text for text in texts)
        # A colour means the same as in the pictures of a geometry.
        assert REFUSED in drawn and HARMFUL not in drawn
        named = svg(sweep_figure(document | {"model": "/a/folder/model-7B"}))
        assert ">model-7B: harmless prompts" in named
        control = {"direction": {"layer": 2, "norm": 5.0, "control": "random"}}
        assert "with the random direction added" in svg(sweep_figure(document | control))

    @pytest.mark.parametrize(
        ("overflowed", "shaded"),
        [([], []), ([8.0], [(6, 10)]), ([1.0, 4.0], [(0.5, 2.5), (2.5, 6)]), ([0], [(-0.5, 0.5)])],
    )
    def test_coefficients_that_overflow_are_shaded(
        self, overflowed: list[float], shaded: list[tuple[float, float]]
    ) -> None:
        cells = [
            {"coefficient": c, "language": language, "refused": 1, "n": 4, "degenerate": 1}
            for c in (8, 0, 1, 4)
            for language in ("en", "de")
        ]
        figure = sweep_figure(
            {"model": "a", "judge": "native", "languages": ["en", "de"], "cells": cells}
            | {"direction": {"layer": 2, "norm": 5.0}, "overflowed": overflowed}
        )
        for axis in figure.axes:
            assert axis.get_xlim()[0] < 0 and axis.get_xlim()[1] > 8
            bands = [band.get_bbox() for band in axis.patches]  # type: ignore[attr-defined]
            assert [(band.x0, band.x1) for band in bands] == shaded
        said = [text.get_text() for text in figure.legends[0].get_texts()]
        assert said == [OVERFLOW] * bool(overflowed) + ["degenerate", "refused"]

    def test_one_coefficient_that_overflows(self) -> None:
        cell = {"coefficient": 3, "language": "en", "refused": 0, "n": 4, "degenerate": 4}
        figure = sweep_figure(
            {"model": "a", "judge": "native", "languages": ["en"], "cells": [cell]}
            | {"direction": {"layer": 2, "norm": 5.0}, "overflowed": [3]}
        )
        (band,) = figure.axes[0].patches
        assert band.get_bbox().intervalx.tolist() == [2.5, 3.5]  # type: ignore[attr-defined]

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--coefficients=",), "--coefficients '' has no number"),
            (("--coefficients=,",), "--coefficients ',' has no number"),
            (("--coefficients=0,one",), "--coefficients one is not a finite number"),
            (("--coefficients=nan",), "--coefficients nan is not a finite number"),
            (("--coefficients=0,1e999",), "--coefficients 1e999 is not a finite number"),
            (("--langs=,",), "--langs ',' names no language"),
            (("--langs=en,xx",), "no language 'xx'"),
            (("--dataset=foo",), "dataset=foo is not known"),
            (("--coefficients=1,1e25",), "--coefficients 1e+25: the squared length of 1e+25 times"),
            (("--coefficients=1,1e5", "--dtype=float16"), "float16 holds at most 6.55e+04; give"),
            (("--dtype=float99",), "--dtype float99 is not a type"),
            (("--judge=nobody",), "nobody"),
            (("--direction=nowhere",), "--direction nowhere is not a folder; give a direction"),
        ],
        ids=repr,
    )
    def test_what_is_wrong_is_told(
        self, direction: Path, tmp_path: Path, more: tuple[str, ...], said: str
    ) -> None:
        usual = ("--direction", direction, "--langs=en", "--output", tmp_path / "new", *SHORT)
        assert_one_sentence(run_in_process("direction", "sweep", *usual, *more), said)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("overflows", [True, False])
    def test_states_that_overflow_are_told(
        self, direction: Path, overflows: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """40,000 is a number of float16, and twice as much is none."""
        model = make_llama().half()
        model.model.embed_tokens.weight.data[:, 0] = 40_000.0 if overflows else 0.0
        vector = torch.zeros(model.config.hidden_size)
        vector[0] = 4.0
        given = replace(artifact.load(direction), direction=vector)
        tokenizer = make_tokenizer()
        chat = ChatModel(model, tokenizer, render=str, encode=tokenizer, batch_size=4)

        def answer(rows: Sequence[data.Row], most: int) -> list[str]:
            shape = model(torch.arange(3 * len(rows)).view(-1, 3)).logits.shape
            return [str(shape)] * len(rows)

        with caplog.at_level("WARNING", "lm_eval.polyrefuse"):
            document = sweep(chat, answer, given, [0.5, 1e4], ["en"], dataset="toyrefuse", limit=2)
        assert document["overflowed"] == ([1e4] if overflows else [])
        said = "With coefficient 10000, numbers inside the model overflow float16"
        assert (said in caplog.text) == overflows
        assert "coefficient 0.5" not in caplog.text
        assert not model.lm_head._forward_hooks

    def test_a_direction_without_a_layer(self, direction: Path, tmp_path: Path) -> None:
        folder = with_metadata(direction, tmp_path / "without")
        metadata = json.loads((folder / "metadata.json").read_text())
        del metadata["layer"]
        (folder / "metadata.json").write_text(json.dumps(metadata))
        given = ("--direction", folder, "--langs=en", "--output", tmp_path / "new")
        said = "The direction's metadata names no layer"
        assert_one_sentence(run_in_process("direction", "sweep", *given), said)

    def test_an_older_artifact_is_swept(self, older: Path, tmp_path: Path) -> None:
        code, out, err = run_in_process(
            "direction", "sweep", "--direction", older, "--langs=en", "--limit=1",
            "--max-gen-toks=16", "--coefficients=1", "--output", tmp_path / "new", "--json",
        )  # fmt: skip
        assert code == 0, err
        assert json.loads(out)["cells"][0]["refused"] == 1


class TestCompare:
    def test_asr_beside_side_effects(self, direction: Path, tmp_path: Path) -> None:
        code, out, err = run_in_process(
            "direction", "compare", "--direction", direction, "--langs=en,yo", *SHORT,
            "--controls=2", "--output", tmp_path / "new", "--json",
        )  # fmt: skip
        assert code == 0, err
        document = json.loads(out)
        assert json.loads((tmp_path / "new/compare.json").read_text()) == document
        places = [(c["condition"], c["control_seed"], c["language"]) for c in document["cells"]]
        conditions = [("baseline", None), ("ablation", None), ("affine-ablation", None)]
        conditions += [("projected-ablation", None), ("random-ablation", 0), ("random-ablation", 1)]
        assert places == [(*one, language) for one in conditions for language in ("en", "yo")]
        asr = [cell["harmful"]["asr"] for cell in document["cells"]]
        assert asr == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
        interval = binomtest(N, N).proportion_ci(method="wilson")
        assert document["cells"][2]["harmful"]["low"] == pytest.approx(interval.low)
        assert {cell["harmful"]["n"] for cell in document["cells"]} == {N}
        # As `polyrefuse drift` measures each condition, which loads it as lm_eval does.
        for place, more in ((4, "affine,method=hooks"), (6, "projected,method=weights")):
            code, out, err = run_in_process(
                "drift", "--langs=en,yo", "--limit", N, "--output", tmp_path / f"drift{place}",
                "--model_args", f"direction={direction},ablation={more}", "--json",
            )  # fmt: skip
            assert code == 0, err
            drift = json.loads(out)
            assert drift["config"]["condition"] == document["cells"][place]["condition"]
            for cell in document["cells"][place : place + 2]:
                expected = drift["languages"][cell["language"]]
                assert cell["harmless"] == pytest.approx(expected, rel=1e-2, abs=1e-7)
        assert all(cell["harmless"]["kl_mean"] < 1e-6 for cell in document["cells"][:2])
        assert all(cell["harmless"]["kl_mean"] > 1e-6 for cell in document["cells"][2:])
        assert max(map(len, strings(document))) <= 64  # a checksum, and no answer

    def test_people_get_one_table(self, direction: Path, tmp_path: Path) -> None:
        code, out, err = run_in_process(
            "direction", "compare", "--direction", direction, "--langs=en", "--limit=2",
            "--max-gen-toks=24", "--controls=1", "--output", tmp_path / "new",
        )  # fmt: skip
        assert code == 0, err
        head, _, *rows = [line.strip("| ").split(" | ") for line in out.splitlines()[:-1]]
        assert head[:3] == ["condition", "language", "ASR, % of harmful"]
        assert [row[:4] for row in rows[:2]] == [
            ["baseline", "en", "0 (0.0 to 65.8)", "2"],
            ["ablation", "en", "100 (34.2 to 100.0)", "2"],
        ]
        assert rows[-1][0] == "random-ablation, seed 0"
        assert {len(row) for row in rows} == {len(head)}

    def test_a_control_is_not_compared_as_the_direction(
        self, direction: Path, tmp_path: Path
    ) -> None:
        control = tmp_path / "control"
        artifact.save(control_of(artifact.load(direction), 3), control)
        given = ("--direction", control, "--langs=en", "--output", tmp_path / "new")
        said = "is a random control; give the refusal direction"
        assert_one_sentence(run_in_process("direction", "compare", *given), said)
        assert list(tmp_path.iterdir()) == [control]

    def test_an_older_artifact_is_extracted_anew(self, older: Path, tmp_path: Path) -> None:
        given = ("--direction", older, "--langs=en", "--output", tmp_path / "new")
        said = "polyrefuse direction compare needs the mean of harmless prompts, which --direction"
        assert_one_sentence(run_in_process("direction", "compare", *given), said)
        shutil.rmtree(older)
        assert list(tmp_path.iterdir()) == []

    def test_what_is_wrong_is_told(self, direction: Path, tmp_path: Path) -> None:
        usual: tuple[Any, ...] = ("--direction", direction, "--langs=en", "--output")
        usual = (*usual, tmp_path / "new", *SHORT)
        for more, said in (
            ("--langs=,", "--langs ',' names no language"),
            ("--dataset=foo", "dataset=foo is not known"),
            ("--judge=nobody", "nobody"),
            ("--direction=nowhere", "--direction nowhere is not a folder; give a direction"),
            ("--controls=0", "--controls"),
        ):
            assert_one_sentence(run_in_process("direction", "compare", *usual, more), said)
        assert list(tmp_path.iterdir()) == []


class TestRank:
    def test_the_organism_has_one_direction(self, direction: Path, tmp_path: Path) -> None:
        code, out, err = run_in_process(
            "direction", "rank", "--direction", direction, "--langs=yo,en", "--ranks= 2,1,2,",
            "--limit=5", "--max-gen-toks=32", "--seed=7", "--output", tmp_path / "new", "--json",
        )  # fmt: skip
        assert code == 0, err
        document = json.loads(out)
        files = ["rank.json", "rank.png", "rank.svg"]
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == files
        assert json.loads((tmp_path / "new/rank.json").read_text()) == document
        assert (document["ranks"], document["seed"], document["controls"]) == ([1, 2], 7, 1)
        places = [(c["rank"], c["control_seed"], c["language"]) for c in document["cells"]]
        conditions = [(0, None), (1, None), (1, 7), (2, None), (2, 7)]
        assert places == [(*one, language) for one in conditions for language in ("yo", "en")]
        assert [cell["hits"] for cell in document["cells"]] == [0, 0, 5, 5, 0, 0, 5, 5, 0, 0]
        interval = binomtest(5, 5).proportion_ci(method="wilson")
        for cell in document["cells"][2:4]:
            assert [cell["low"], cell["high"]] == pytest.approx([interval.low, interval.high])
        assert document["carried"] == {"yo": 1, "en": 1}
        assert document["shared"] is True
        subspace = load_file(direction / "direction.safetensors")["subspace"]
        assert document["subspace"]["sha256"] == artifact.checksum(subspace[:2])
        assert document["subspace"]["of"] == "prompts"
        assert document["versions"] and document["data_sha256"]
        assert max(map(len, strings(document))) <= 64  # a checksum, and no answer

    def test_too_few_prompts_are_told_from_no_effect(self) -> None:
        """The organism's refusals go, but six prompts do not show it."""
        cells = [
            Cell(rank, seed, language, hits, 6 - hits, 6, 0, 0)
            for language, all_hits in {"en": (4, 6, 4), "de": (4, 4, 4), "yo": (6, 6, 6)}.items()
            for (rank, seed), hits in zip(((0, None), (1, None), (1, 0)), all_hits, strict=True)
        ]
        found = {
            language: carried([cell for cell in cells if cell.language == language])
            for language in ("en", "de", "yo")
        }
        assert set(found.values()) == {None}
        document = {
            "cells": [cell.record() for cell in cells],
            "ranks": [1],
            "carried": found,
            "shared": False,
        }
        of_english, of_german, of_yoruba, together = rank_answers(document)
        assert of_english.startswith("en: 1 direction ablated removes most refusals, but its")
        assert "ask more prompts" in of_english
        assert of_german == "de: no rank up to 1 removes most refusals"
        assert of_yoruba == "yo: the untouched model refuses no prompt"
        assert together.endswith("refusal subspace is not known, because of en")

    def test_the_pictures(self) -> None:
        cells = [
            {"rank": k, "control_seed": seed, "language": language, "n": 40}
            | {"asr": 0.4 * k if seed is None else 0.0, "low": 0.0, "high": 1.0}
            for k in (0, 1, 2)
            for seed in ((None, 0, 1) if k else (None,))
            for language in ("en", "de", "yo")
        ]
        document = {
            "model": "a $model",
            "judge": "native",
            "languages": ["en", "de", "yo"],
            "cells": cells,
            "ranks": [1, 2],
            "carried": {"en": 2, "de": 2, "yo": None},
        }
        drawn = svg(rank_figure(document))
        assert drawn == svg(rank_figure(document))
        texts = [node.text for node in ElementTree.fromstring(drawn).iter() if node.text]
        for said in ("en, n = 40: carried by 2", "yo, n = 40: not known", "subspace of refusal"):
            assert said in texts
        assert texts.count("random directions") == 1
        assert any("a $model: how many directions carry refusal" in text for text in texts)

    def test_an_artifact_without_a_subspace(self, direction: Path, tmp_path: Path) -> None:
        folder = with_metadata(direction, tmp_path / "older", files_sha256=None)
        tensors = load_file(folder / "direction.safetensors")
        del tensors["subspace"]
        save_file(tensors, folder / "direction.safetensors")
        given = ("--direction", folder, "--langs=en", "--output", tmp_path / "new")
        said = "rank=3 needs 3 vectors, and --direction"
        assert_one_sentence(run_in_process("direction", "rank", *given), said)

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            ("--ranks=", "--ranks '' has no number"),
            ("--ranks=0,1", "--ranks 0 is not a whole number from 1"),
            ("--ranks=1.5", "--ranks 1.5 is not a whole number from 1"),
            ("--ranks=1,6", "rank=6 needs 6 vectors, and --direction"),
            ("--langs=,", "--langs ',' names no language"),
            ("--langs=en,xx", "no language 'xx'"),
            ("--dataset=foo", "dataset=foo is not known"),
            ("--judge=nobody", "nobody"),
            ("--direction=nowhere", "--direction nowhere is not a folder; give a direction"),
            ("--controls=0", "--controls"),
        ],
    )
    def test_what_is_wrong_is_told(
        self, direction: Path, tmp_path: Path, more: str, said: str
    ) -> None:
        usual = ("--direction", direction, "--langs=en", "--output", tmp_path / "new", *SHORT)
        assert_one_sentence(run_in_process("direction", "rank", *usual, more), said)
        assert list(tmp_path.iterdir()) == []
