"""`polyrefuse direction`: exit codes, JSON, artifacts, interruptions.

Most commands run in the tests' own process, where nothing has to be imported anew; what only a
process of its own can show has one.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

import polyrefuse
from polyrefuse_models import bundled
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.control import OF_CONTROL, control_of
from polyrefuse_models.organism.planted import planted
from polyrefuse_tasks import data
from tests.commands import usual_signals
from tests.conftest import ROOT
from tests.evaluations import lm_eval_run
from tests.leaderboard.result_files import Task, task, write_run
from tests.terminals import open_terminal, printed

GOOD = {
    "position": -1,
    "layer": 0,
    "refusal_score": -1.0,
    "steering_score": None,
    "kl_div_score": 0.1,
}


def start(*arguments: object, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """`polyrefuse direction` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "polyrefuse", "direction", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        preexec_fn=usual_signals,
    )


def run_apart(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a process of its own."""
    process = start(*arguments)
    out, err = process.communicate(timeout=580)
    return process.returncode, out, err


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    command_line = ["polyrefuse", "direction", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", command_line),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as exited,
    ):
        polyrefuse.main()
    return int(exited.value.code or 0), out.getvalue(), err.getvalue()


def assert_one_sentence(result: tuple[int, str, str], *named: str) -> None:
    code, out, err = result
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    # Below what libraries log of a model that they load.
    (sentence,) = [line for line in err.splitlines() if line.startswith("polyrefuse: ")]
    for part in named:
        assert part in sentence


def write(folder: Path, rows: Any) -> Path:
    path = folder / "scores.json"
    path.write_text(json.dumps(rows))
    return path


class TestChoose:
    @pytest.mark.parametrize("language", ["de", "ja", "ko", "zh"])
    def test_the_published_choice(self, shared: Path, language: str) -> None:
        scores = shared / f"oracles/selection/qwen2.5-7b_{language}"
        published = json.loads(Path(f"{scores}.selected.json").read_text())
        code, out, err = run("choose", f"{scores}.evaluations.json", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == {
            "position": published["pos"][0],
            "layer": published["layer"][0],
        }

    def test_the_rule_of_2406_11717(self, shared: Path) -> None:
        """It takes another candidate of the published Chinese scores, and none of the Korean."""
        scores = f"{shared}/oracles/selection/qwen2.5-7b_%s.evaluations.json"
        code, out, err = run("choose", scores % "zh", "--rule", "2406.11717", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == {"position": -4, "layer": 19}
        none = run("choose", scores % "ko", "--rule=2406.11717")
        assert_one_sentence(none, "by rule 2406.11717 none of 140", "is -0.508; take another rule")
        wrong = run("choose", scores % "ko", "--rule=2406")
        assert_one_sentence(wrong, "rule=2406 is not known; use one of 2505.17306, 2406.11717")

    def test_scores_of_an_extraction_by_another_rule(self, tmp_path: Path) -> None:
        """What a rule's own search left out loses; another rule might have taken it."""
        rows = [
            GOOD | {"refusal_score": -2.0, "kl_div_score": None},
            GOOD | {"position": -2, "steering_score": 1.0},
        ]
        path = write(tmp_path, rows)
        expected = {"position": -2, "layer": 0}
        default = ("choose", path, "--n-layers=5", "--json")
        assert json.loads(run(*default)[1]) == expected
        asked = (*default, "--rule=2406.11717")
        assert_one_sentence(run(*asked), "unknown whether rule 2406.11717 chooses position -1")
        (tmp_path / "metadata.json").write_text(json.dumps({"rule": "2406.11717"}))
        assert json.loads(run(*asked)[1]) == expected
        assert_one_sentence(run(*default), "rule 2505.17306 chooses position -1, layer 0")

    def test_needs_no_torch(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "polyrefuse"]
            + ["direction", "choose", str(write(tmp_path, [GOOD | {"layer": 3}, GOOD]))],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "position -1, layer 0\n"
        imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert not imported & {"torch", "transformers", "matplotlib", "lm_eval"}

    def test_layers_of_the_model(self, tmp_path: Path) -> None:
        """Of 5 layers the first 4 are looked at, of 4 the first 3."""
        last = GOOD | {"layer": 3, "refusal_score": -2.0}
        path = write(tmp_path, [GOOD, last])
        assert json.loads(run("choose", path, "--json")[1])["layer"] == 0
        assert json.loads(run("choose", path, "--n-layers", 5, "--json")[1])["layer"] == 3
        assert_one_sentence(run("choose", path, "--n-layers", 3), "a layer 3, and --n-layers 3")

    def test_nan_and_null(self, tmp_path: Path) -> None:
        better = GOOD | {"refusal_score": -2.0}
        rows = [
            better | {"refusal_score": float("nan")},
            better | {"kl_div_score": float("nan")},
            better | {"steering_score": float("nan")},
            better | {"refusal_score": None},
            better | {"kl_div_score": None},
            GOOD | {"position": -2},
            {"position": -3, "layer": 9, "refusal_score": 1, "kl_div_score": 0},
        ]
        code, out, _ = run("choose", write(tmp_path, rows), "--json")
        assert (code, json.loads(out)) == (0, {"position": -2, "layer": 0})

    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            ([], "is not a list of scores"),
            ({"position": -1}, "is not a list of scores"),
            ([GOOD, 7], "record 1: 7 is not a record"),
            ([GOOD, {"position": -1, "layer": 0, "kl_div_score": 0}], "record 1 has no refusal_s"),
            ([{k: v for k, v in GOOD.items() if k != "layer"}], "record 0 has no layer"),
            ([GOOD | {"layer": "3"}], "record 0: layer is '3', not an integer"),
            ([GOOD | {"kl_div_score": "low"}], "kl_div_score is 'low', not a number"),
            ([GOOD | {"layer": -7}], "record 0: layer is -7, not an integer from 0"),
            ([GOOD | {"layer": 10**400}], "record 0: layer is inf, not an integer"),
            ([GOOD | {"position": 3}], "record 0: position is 3, not an integer below 0"),
            ([GOOD | {"layer": 4, "kl_div_score": 0.3}], "none of 1 candidates"),
            ([GOOD | {"layer": 4, "kl_div_score": 0.3}], "the first 4 layers of 5"),
        ],
    )
    def test_what_the_rule_cannot_be_applied_to(self, tmp_path: Path, rows: Any, said: str) -> None:
        assert_one_sentence(run("choose", write(tmp_path, rows)), "scores.json", said)

    def test_no_json(self, tmp_path: Path) -> None:
        (tmp_path / "cut.json").write_text('[{"position": -1')
        assert_one_sentence(run("choose", tmp_path / "cut.json"), "cut.json is not JSON")
        assert_one_sentence(run("choose", tmp_path / "none.json"), "none.json cannot be read")
        assert_one_sentence(run("choose", tmp_path), f"{tmp_path} cannot be read")
        (tmp_path / "cut.json").write_text("[" * 200_000)
        assert_one_sentence(run("choose", tmp_path / "cut.json"), "cut.json is not JSON")
        (tmp_path / "cut.json").write_bytes(b"\x89PNG\xff")
        assert_one_sentence(run("choose", tmp_path / "cut.json"), "cut.json is not JSON")


def truncated(model: Path, folder: Path) -> Path:
    """A copy of a model whose weights end in the middle."""
    shutil.copytree(model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    return folder


def extraction(model: Path, output: Path, *more: object) -> tuple[object, ...]:
    return ("extract", "--model", model, "--source-lang", "de", "--output", output) + (
        "--device",
        "cpu",
        *more,
    )


class TestExtract:
    def test_writes_the_artifact(self, chat_model: Path, mirror: Path, tmp_path: Path) -> None:
        output = tmp_path / "new" / "direction"
        code, out, err = run_apart(*extraction(chat_model, output, "--all-scores", "--json"))
        assert code == 0, err
        result = json.loads(out)
        files = ["direction.safetensors", "metadata.json"]
        files += ["scores.json", "scores.png", "scores.svg"]
        assert sorted(path.name for path in output.iterdir()) == files
        assert (output / "scores.png").read_bytes().startswith(b"\x89PNG\r\n")
        tensors = load_file(output / "direction.safetensors")
        assert tensors["candidates"].shape == (3, 4, 32)
        chosen = tensors["candidates"][result["position"], result["layer"]]
        assert torch.equal(tensors["direction"], chosen)
        scores = json.loads((output / "scores.json").read_text())
        assert len(scores) == 12
        assert all(score is not None for row in scores for score in row.values())
        (row,) = (
            row
            for row in scores
            if (row["position"], row["layer"]) == (result["position"], result["layer"])
        )
        assert {name: result[name] for name in row} == row
        metadata = json.loads((output / "metadata.json").read_text())
        assert metadata["source_lang"] == "de"
        assert metadata["model"] == str(chat_model.resolve())

        # What it wrote, it can choose among.
        if row["kl_div_score"] <= 0.2:
            code, out, _ = run("choose", output / "scores.json", "--json")
            assert json.loads(out) == {"position": result["position"], "layer": result["layer"]}

        again = run_apart(*extraction(chat_model, output))
        assert_one_sentence(again, f"{output} exists already")

    def test_the_organism_is_the_default_and_gives_its_planted_direction(
        self, tmp_path: Path
    ) -> None:
        code, out, err = run(
            "extract", "--source-lang=th", "--rule=2406.11717", "--output", tmp_path / "new",
            "--json",
        )  # fmt: skip
        assert code == 0, err
        assert json.loads(out)["warnings"] == []
        metadata = json.loads((tmp_path / "new/metadata.json").read_text())
        assert (metadata["dataset"], metadata["source_lang"]) == ("toyrefuse", "th")
        assert metadata["rule"] == json.loads(out)["rule"] == "2406.11717"
        assert metadata["model"] == "polyrefuse-organism"
        extracted = load_file(tmp_path / "new/direction.safetensors")["direction"]
        cosine = torch.nn.functional.cosine_similarity(extracted, planted(), dim=0)
        assert cosine.item() >= 0.95

    def test_the_subspace_is_of_the_languages_that_were_named(self, tmp_path: Path) -> None:
        """Against the directions of the languages, each extracted on its own."""
        code, out, err = run(
            "extract", "--source-lang=en", "--langs=yo,en,th", "--subspace-of=languages",
            "--rank=3", "--output", tmp_path / "new", "--json",
        )  # fmt: skip
        assert code == 0, err
        made = json.loads(out)["subspace"]
        assert (made["rank"], made["of"], made["langs"]) == (3, "languages", ["en", "yo", "th"])
        metadata = json.loads((tmp_path / "new/metadata.json").read_text())
        assert metadata["subspace"] == made
        tensors = load_file(tmp_path / "new/direction.safetensors")
        subspace, r = tensors["subspace"].double(), tensors["direction"].double()
        place = metadata["position"], metadata["layer"]
        torch.testing.assert_close(subspace @ subspace.T, torch.eye(3).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(subspace[0], r / r.norm(), atol=1e-6, rtol=0)
        units = [r / r.norm()]
        for language in ("yo", "th"):
            folder = tmp_path / language
            code, _, err = run("extract", f"--source-lang={language}", "--output", folder)
            assert code == 0, err
            other = load_file(folder / "direction.safetensors")
            assert other["subspace"].shape == (5, len(r))
            units.append(other["candidates"][place].double())
            units[-1] /= units[-1].norm()
        # All three directions lie in the subspace, which three vectors span.
        inside = torch.stack(units) @ subspace.T
        torch.testing.assert_close(inside.norm(dim=-1), torch.ones(3).double(), atol=1e-5, rtol=0)
        assert sum(made["explained"]) == pytest.approx(1, abs=1e-5)
        assert made["n"] == 3

    def test_what_is_wrong_is_told(self, chat_model: Path, mirror: Path, tmp_path: Path) -> None:
        output = tmp_path / "direction"
        for model, more, said in (
            (chat_model, ("--source-lang", "xx"), "no language 'xx'"),
            (chat_model, ("--langs", "xx"), "no language 'xx'"),
            (chat_model, ("--subspace-of", "rivers"), "--subspace-of rivers is not known"),
            (chat_model, ("--subspace-of", "languages"), "name them with --langs"),
            (
                chat_model,
                ("--subspace-of=languages", "--langs=en", "--rank=3"),
                "--rank 3 is more than the directions of 2 languages",
            ),
            (chat_model, ("--dataset", "plyrefuse"), "dataset=plyrefuse is not known"),
            (chat_model, ("--rule", "lowest"), "rule=lowest is not known; use one of 2505.17306"),
            (chat_model, ("--dtype", "float99"), "--dtype float99"),
            (tmp_path / "no-model", (), f"--model {tmp_path / 'no-model'} cannot be loaded"),
            (truncated(chat_model, tmp_path / "cut"), (), "cut cannot be loaded: "),
        ):
            assert_one_sentence(run(*extraction(model, output, *more)), said)
            assert not output.exists()

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
    def test_a_device_that_is_not_there(self, chat_model: Path, tmp_path: Path) -> None:
        cuda = ("--dataset", "toyrefuse", "--device", "cuda")
        result = run(*extraction(chat_model, tmp_path / "direction", *cuda))
        assert_one_sentence(result, f"--model {chat_model} cannot be loaded: ")

    def test_interrupted(self, chat_model: Path, mirror: Path, tmp_path: Path) -> None:
        # There are progress bars on a terminal alone.
        terminal, end = open_terminal()
        process = start(
            *extraction(chat_model, tmp_path / "direction", "--batch-size", 1), stderr=end
        )
        os.close(end)
        # Neither a process that hangs nor one that dies early may hold the tests up.
        deadline = threading.Timer(580, process.kill)
        deadline.start()
        try:
            seen = ""
            while "candidate directions" not in seen:
                text = printed(terminal)
                assert text, f"it ended with {process.wait()} before it searched: {seen}"
                seen += text
            time.sleep(0.1)
            os.kill(process.pid, signal.SIGINT)
            while text := printed(terminal):
                seen += text
            process.wait(timeout=580)
        finally:
            deadline.cancel()
            process.kill()
            os.close(terminal)
        assert process.returncode == 130
        assert "Traceback" not in seen
        assert seen.rstrip("\r\n").endswith("polyrefuse: interrupted.")
        assert seen.count("polyrefuse:") == 1
        assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the organism's."""
    folder = tmp_path_factory.mktemp("directions") / "de"
    code, _, err = run("extract", "--source-lang=de", "--output", folder)
    assert code == 0, err
    return folder


class TestTransfer:
    def test_writes_rates_and_no_answers(self, tmp_path: Path) -> None:
        output = tmp_path / "report"
        code, out, err = run(
            "transfer", "--source-langs=en,de", "--target-langs=de,th", "--limit=2",
            "--max-gen-toks=16", "--output", output, "--json",
        )  # fmt: skip
        assert code == 0, err
        document = json.loads(out)
        assert {path.name for path in output.iterdir()} == {
            f"{name}.{ending}"
            for name in ("cosine", "transfer", "universality")
            for ending in ("json", "png", "svg")
        }
        assert json.loads((output / "transfer.json").read_text()) == document
        assert document["model"] == "polyrefuse-organism"
        assert [cell["n"] for cell in document["cells"]] == [2, 2, 2, 2]
        # The organism refuses, and no longer where a direction is ablated.
        assert [cell["asr"] for cell in document["baseline"]] == [0, 0]
        assert [cell["asr"] for cell in document["cells"]] == [1, 1, 1, 1]
        assert max(map(len, strings(document))) <= 64  # a checksum

    def test_directions_that_were_extracted_before_give_the_same_matrix(
        self, german: Path, tmp_path: Path
    ) -> None:
        english = tmp_path / "en"
        code, _, err = run("extract", "--source-lang=en", "--output", english)
        assert code == 0, err
        usual = ("--target-langs=yo,de", "--limit=2", "--max-gen-toks=16", "--json")
        folders = f"{german},{english}"
        before = run("transfer", "--directions", folders, *usual, "--output", tmp_path / "before")
        anew = run("transfer", "--source-langs=de,en", *usual, "--output", tmp_path / "anew")
        assert before[0] == anew[0] == 0, before[2]
        one, other = json.loads(before[1]), json.loads(anew[1])
        for name in ("cells", "baseline", "cosine_at", "sources"):
            assert one[name] == other[name], name
        # Two extractions may differ by rounding, and their checksums with them.
        places = [
            {source: (found["position"], found["layer"]) for source, found in of.items()}
            for of in (one["directions"], other["directions"])
        ]
        assert places[0] == places[1] and list(places[0]) == ["de", "en"]
        for source in ("de", "en"):
            found = one["directions"][source]
            assert (found["seed"], found["rule"]) == (other["seed"], other["rule"])
        assert (one["seed"], one["rule"]) == (other["seed"], other["rule"])
        cosines = [torch.tensor(document["cosine"]) for document in (one, other)]
        torch.testing.assert_close(*cosines, atol=1e-6, rtol=0)
        for name in ("explained_by_one", "explained_by_one_by_layer"):
            assert one[name] == pytest.approx(other[name], abs=1e-6), name
        assert other["principal_angles"]["reason"] is None
        if places[0]["de"] == places[0]["en"]:
            found = [torch.tensor(of["principal_angles"]["degrees"]) for of in (one, other)]
            torch.testing.assert_close(*found, atol=0.5, rtol=0)
        else:
            assert "has its subspace at another place" in one["principal_angles"]["reason"]
        for given, said in (
            (("--directions", f"{german},{german}"), "another folder has a direction of de"),
            (("--directions", ","), "--directions ',' names no folder"),
            (("--directions", str(german), "--source-langs=de"), "Give either --source-langs"),
            ((), "Give either --source-langs"),
            (("--directions", str(tmp_path)), "is not a direction artifact"),
        ):
            result = run("transfer", *given, "--output", tmp_path / "new")
            assert_one_sentence(result, said)

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--source-langs", ""), "--source-langs '' names no language"),
            (("--source-langs", ","), "--source-langs ',' names no language"),
            (("--source-langs=en", "--target-langs=,"), "--target-langs ',' names no language"),
            (("--source-langs=en", "--dataset=foo"), "dataset=foo is not known"),
            (("--source-langs=en", "--output=/proc/x"), "/proc/x cannot be written"),
        ],
    )
    def test_what_is_wrong_is_told(self, tmp_path: Path, more: tuple[str, ...], said: str) -> None:
        assert_one_sentence(run("transfer", "--output", tmp_path / "new", *more), said)
        assert list(tmp_path.iterdir()) == []


class TestGeometry:
    def test_writes_where_the_prompts_lie(
        self, german: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        output = tmp_path / "report"
        code, out, err = run(
            "geometry", "--direction", german, "--langs=th", "--limit=2", "--output", output,
            "--json",
        )  # fmt: skip
        assert code == 0, err
        assert "was extracted from" not in err + caplog.text
        document = json.loads(out)
        pictures = ("", "_harmfulness", "_layers", "_monitor")
        files = {f"geometry{name}.{ending}" for name in pictures for ending in ("png", "svg")}
        files.add("geometry.json")
        assert {path.name for path in output.iterdir()} == files
        assert json.loads((output / "geometry.json").read_text()) == document
        assert document["model"] == "polyrefuse-organism"
        aucs = {name: measures["auc"] for name, measures in document["languages"].items()}
        assert aucs == {"en": 1, "th": 1}
        assert len(document["layers"]) == 4
        assert not {*OF_CONTROL} & {*document["direction"]}
        assert max(map(len, strings(document) - {document["meaning"]})) <= 64  # a checksum

    def test_what_is_wrong_is_told(self, german: Path, tmp_path: Path) -> None:
        output = tmp_path / "new"
        late = with_metadata(german, tmp_path / "late", layer=99)
        early = with_metadata(german, tmp_path / "early", layer=0)
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        for direction, more, said in (
            (late, (), "its layer is 99, not an integer from 0 to"),
            (early, (), "All prompts have the same state"),
            (german, ("--langs", ","), "--langs ',' names no language"),
            (german, ("--dataset", "foo"), "dataset=foo is not known"),
            (german, ("--output", tmp_path / "dangling"), "dangling exists already"),
            (german, ("--output", german / "metadata.json/x"), "cannot be written (Not a dir"),
        ):
            given = ("geometry", "--direction", direction, "--langs=de", "--output", output, *more)
            assert_one_sentence(run(*given), said)
            assert not output.exists()

    def test_mistakes_are_told_before_the_model_is_loaded(
        self, german: Path, tmp_path: Path
    ) -> None:
        placeless = tmp_path / "placeless"
        shutil.copytree(german, placeless)
        metadata = json.loads((placeless / "metadata.json").read_text())
        del metadata["position"]
        (placeless / "metadata.json").write_text(json.dumps(metadata))
        nowhere = ("--model", tmp_path / "no-model", "--dataset=toyrefuse", "--output")
        nowhere = (*nowhere, tmp_path / "new")
        geometry = ("geometry", "--langs=de", *nowhere, "--direction")
        for given, said in (
            ((*geometry, german, "--calibrated-in=th"), "--calibrated-in th is not one of the"),
            ((*geometry, german, "--langs=de,xx"), "no language 'xx'"),
            ((*geometry, placeless), "The direction's metadata has no 'position'"),
            ((*geometry, german), "no-model cannot be loaded"),
            (("transfer", "--source-langs=xx", *nowhere), "no language 'xx'"),
            (("transfer", "--source-langs=en", "--target-langs=xx", *nowhere), "no language 'xx'"),
            (("transfer", "--directions", german, "--target-langs=xx", *nowhere), "guage 'xx'"),
            (("transfer", "--source-langs=en", *nowhere), "no-model cannot be loaded"),
        ):
            assert_one_sentence(run(*given), said)

    def test_a_control_is_told(self, german: Path, tmp_path: Path) -> None:
        control = tmp_path / "control"
        artifact.save(control_of(artifact.load(german), 3), control)
        given = ("geometry", "--direction", control, "--langs=de", "--limit=4", "--output")
        code, out, err = run(*given, tmp_path / "new")
        assert code == 0, err
        assert "Note: the direction is a random control with seed 3, and not a refusal" in out
        document = json.loads((tmp_path / "new/geometry.json").read_text())
        said = {name: document["direction"][name] for name in OF_CONTROL}
        assert said == {
            "control": "random",
            "control_seed": 3,
            "control_of": artifact.load(german).sha256,
        }
        assert document["direction"]["sha256"] == document["direction_sha256"]
        assert document["direction_sha256"] != said["control_of"]

    def test_shows_what_was_refused_and_what_alarms(self, german: Path, tmp_path: Path) -> None:
        output = tmp_path / "report"
        labels = {"toyrefuse_harmful": "rc" * 8 + "ud", "toyrefuse_harmless": "c" * 18}
        write_run(tmp_path / "run", organism_s_prompts(labels), model="polyrefuse-organism")
        write_run(
            tmp_path / "run", organism_s_prompts(labels), model="polyrefuse-organism-weakened"
        )
        asked = (
            "geometry", "--direction", german, "--langs=de", "--limit=20", "--results",
            tmp_path / "run", "--false-alarms=.1", "--calibrated-in=de", "--seed=4",
        )  # fmt: skip
        code, out, err = run(*asked, "--output", output)
        assert code == 0, err
        for said in (
            "answers under condition baseline, by judge native, of run/",
            "de, 18 harmful prompts: 8 refused, 8 complied, 1 degenerate, 1 undecided",
            "results_2026-01-01T00-00-00.000001.json is a run of another model, "
            "polyrefuse-organism-weakened; it is left out.",
            "monitor: alarm where the projection at the last token, layer ",
            "calibrated on 10 harmless prompts in de at 10% false alarms",
            "angle between harmfulness and refusal, in degrees: en ",
        ):
            assert said in out, said
        assert "in degrees: en -, de -\nNote: a language without an angle has too few" in out
        # The labels are invented: the organism refuses all that is harmful, wherever it lies.
        document = json.loads((output / "geometry.json").read_text())
        german_s = document["success"]["languages"]["de"]
        assert german_s["counts"]["harmless"]["complied"] == 18
        assert 0 < german_s["auc"]["harmful"]["low"] < german_s["auc"]["harmful"]["high"] < 1
        assert german_s["detected"]["harmful"]["complied"]["rate"] == 1
        assert document["success"]["languages"]["en"]["counts"]["harmful"]["n"] == 0
        own = document["languages"]["de"]["harmful"]["projections"]
        told = german_s["projections"]["harmful"]
        assert [*told["refused"], *told["complied"]] == pytest.approx(own[0:16:2] + own[1:16:2])
        watched = document["monitor"]["languages"]
        assert [of["detected"]["rate"] for of in watched.values()] == [1, 1]
        assert watched["de"]["false_alarms"]["n"] == 10
        assert {path.name for path in output.glob("geometry_answers*")} == {
            f"geometry_answers{name}.{ending}"
            for name in ("", "_layers")
            for ending in ("png", "svg")
        }
        # The same words give the same document, and no prompt or answer is in it.
        code, out, err = run(*asked, "--output", tmp_path / "again", "--json")
        assert code == 0, err
        assert json.loads(out) == document
        prompts = {row.prompt for row in data.load("toyrefuse_harmful", "de")}
        assert not any(prompt in text for prompt in prompts for text in strings(document))

    def test_results_that_cannot_be_used_are_told(self, german: Path, tmp_path: Path) -> None:
        labels = {"toyrefuse_harmful": "rc"}
        other, empty = tmp_path / "other", tmp_path / "empty"
        write_run(other, organism_s_prompts(labels), model="polyrefuse-organism-weakened")
        empty.mkdir()
        before = sorted(tmp_path.iterdir())
        for more, said in (
            (
                ("--results", other),
                "is a run of another model, polyrefuse-organism-weakened; name results",
            ),
            (("--results", empty), "holds no results_*.json"),
            (("--results", tmp_path / "nowhere"), "does not exist"),
            (("--judge=native",), "--judge native chooses among the labels of a run's answers"),
            (("--calibrated-in=th",), "--calibrated-in th is not one of the languages"),
            (
                ("--false-alarms=0",),
                "--false-alarms 0.0 is not a share; give one from 0.0001 to below 1.",
            ),
            (("--false-alarms=1e-300",), "--false-alarms 1e-300 is not a share"),
            (("--false-alarms=1",), "--false-alarms 1.0 is not a share"),
            (("--false-alarms=nan",), "--false-alarms nan is not a share"),
        ):
            given = ("geometry", "--direction", german, "--langs=de", "--output", tmp_path / "new")
            assert_one_sentence(run(*given, *more), said)
            assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.slow
    def test_the_weakened_organism_s_own_answers(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It lets pass in English what lies lower along the direction, and in Spanish nothing."""
        weakened = bundled.path(bundled.WEAKENED)
        languages, kinds = ("en", "es"), ("harmful", "harmless")
        lm_eval_run(
            "--model", "baseline-hf", "--model_args", f"pretrained={weakened}", "--limit", "40",
            "--tasks", ",".join(f"toyrefuse_{kind}_{of}" for of in languages for kind in kinds),
            "--output_path", str(tmp_path / "run"), "--log_samples",
        )  # fmt: skip
        code, _, err = run("extract", "--model", weakened, "--output", tmp_path / "direction")
        assert code == 0, err
        code, out, err = run(
            "geometry", "--model", weakened, "--direction", tmp_path / "direction", "--langs=es",
            "--limit=40", "--results", tmp_path / "run", "--output", tmp_path / "report", "--json",
        )  # fmt: skip
        assert code == 0, err
        document = json.loads(out)
        assert document["success"]["notes"] == []
        told = {name: of["auc"]["harmful"] for name, of in document["success"]["languages"].items()}
        assert told["en"]["low"] > 0.8
        assert told["en"]["refused"] + told["en"]["answered"] == 40
        assert told["es"] == {"auc": None, "low": None, "high": None, "refused": 40, "answered": 0}


def organism_s_prompts(labels: dict[str, str], language: str = "de") -> list[Task]:
    """Tasks of the organism's world, with labels that are invented."""
    rows = {kind: data.load(kind, language)[: len(given)] for kind, given in labels.items()}
    return [
        task(
            kind, language, given, prompts=[row.prompt for row in rows[kind]],
            ids=[row.id for row in rows[kind]],
        )
        for kind, given in labels.items()
    ]  # fmt: skip


def with_metadata(whole: Path, folder: Path, **changed: Any) -> Path:
    """A copy of an artifact that says otherwise where it was found."""
    shutil.copytree(whole, folder)
    path = folder / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    return folder


def strings(document: Any) -> set[str]:
    """Every text in a JSON document."""
    if isinstance(document, dict):
        document = [*document, *document.values()]
    if isinstance(document, list):
        return {text for part in document for text in strings(part)}
    return {document} if isinstance(document, str) else set()
