"""`polyrefuse data` as a process: exit codes, JSON, downloads from loopback, interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import assert_one_sentence
from tests.invented_data import ROOT, Server, World, make_world, serve, sha256


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


@pytest.fixture
def server(world: World) -> Iterator[Server]:
    with serve(world) as offered:
        yield offered


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=580)
    return process.returncode, out, err


def run(world: World, host: str, *arguments: str, **variables: str) -> tuple[int, str, str]:
    return finish(world.polyrefuse(host, "data", *arguments, **variables))


def kept(world: World) -> set[str]:
    files = (path for path in world.cache.rglob("*") if path.is_file())
    return {str(path.relative_to(world.cache)) for path in files}


class TestTop:
    def test_help_is_quick_to_import(self) -> None:
        """Time is the machine's; what is imported is ours."""
        shown = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "polyrefuse", "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "data" in shown.stdout
        imported = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
        heavy = {"torch", "transformers", "pooch", "lm_eval", "polyrefuse_tasks.commands.data"}
        assert not imported & heavy

    def test_data_help_needs_no_torch(self, world: World, server: Server) -> None:
        code, out, _ = run(world, server.host, "--help")
        assert code == 0
        for name in ("fetch", "status", "verify", "path", "translate"):
            assert name in out

    def test_unknown_command(self, world: World, server: Server) -> None:
        code, _, err = finish(world.polyrefuse(server.host, "dta"))
        assert code == 2
        assert "Traceback" not in err


class TestFetch:
    def test_everything(self, world: World, server: Server) -> None:
        code, out, err = run(world, server.host, "fetch", "--json")
        assert (code, err) == (0, "")
        assert {entry["file"] for entry in json.loads(out)} == set(world.files) == kept(world)
        assert all(entry["fetched"] for entry in json.loads(out))
        for path, content in world.files.items():
            assert (world.cache / path).read_bytes() == content

    def test_what_is_here_stays(self, world: World, server: Server) -> None:
        run(world, server.host, "fetch", "oktest")
        code, out, _ = run(world, server.host, "fetch", "oktest", "multijail")
        assert code == 0
        assert out == "files fetched: 1, already here: 1\n"
        assert server.requested == ["oktest.json", "MultiJail.csv"]

    def test_one_language(self, world: World, server: Server) -> None:
        run(world, server.host, "fetch", "advbench", "--lang", "de")
        assert kept(world) == {
            "advbench.txt",
            *(
                f"h/{split}_{language}.json"
                for split in ("train", "test")
                for language in ("en", "de")
            ),
        }

    def test_one_language_of_everything(self, world: World, server: Server) -> None:
        code, _, _ = run(world, server.host, "fetch", "--lang", "zh")
        assert code == 0
        assert "MultiJail.csv" in kept(world)
        assert not {path for path in kept(world) if "de" in path or path == "oktest.json"}

    def test_wrong_hash(self, world: World, server: Server) -> None:
        server.wrong.add("oktest.json")
        content = world.files["oktest.json"]
        assert_one_sentence(
            run(world, server.host, "fetch", "oktest"), sha256(content), sha256(content[::-1])
        )
        assert kept(world) == set()

    def test_offline(self, world: World, server: Server) -> None:
        result = run(world, server.host, "fetch", "oktest", POLYREFUSE_OFFLINE="1")
        assert_one_sentence(result, "oktest.json", "nobody/nothing", "polyrefuse data fetch oktest")
        assert server.requested == []

    def test_twice_at_once(self, world: World, server: Server) -> None:
        both = [world.polyrefuse(server.host, "data", "fetch") for _ in range(2)]
        assert [finish(process)[0] for process in both] == [0, 0]
        assert kept(world) == set(world.files)
        assert run(world, server.host, "verify")[0] == 0

    @pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
    def test_interrupted(self, world: World, server: Server, sent: signal.Signals) -> None:
        server.stalled.add("oktest.json")
        process = world.polyrefuse(server.host, "data", "fetch", "multijail", "oktest")
        assert server.halfway.wait(60)
        os.kill(process.pid, sent)
        code, _, err = finish(process)
        assert code != 0
        assert "Traceback" not in err
        assert not (world.cache / "oktest.json").exists()
        assert "MultiJail.csv" in kept(world)
        if sent == signal.SIGINT:
            assert kept(world) == {"MultiJail.csv"}
            assert (code, err) == (130, "polyrefuse: interrupted.\n")
        server.stalled.clear()
        assert run(world, server.host, "fetch", "multijail", "oktest")[0] == 0
        assert (world.cache / "oktest.json").read_bytes() == world.files["oktest.json"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("oktset",), "did you mean 'oktest'"),
            (("oktest", "--lang", "xx"), "oktest has no language 'xx': choose from en"),
            (("--lang", "xx"), "'xx'"),
        ],
    )
    def test_unknown(
        self, world: World, server: Server, arguments: tuple[str, ...], said: str
    ) -> None:
        assert_one_sentence(run(world, server.host, "fetch", *arguments), said)


class TestStatus:
    def places(self, world: World, *arguments: str, **variables: str) -> dict[str, Any]:
        code, out, err = run(
            world, "http://127.0.0.1:9", "status", "--json", *arguments, **variables
        )
        assert (code, err) == (0, "")
        return {entry["file"]: entry["place"] for entry in json.loads(out)}

    def test_where_each_file_is(self, world: World) -> None:
        assert self.places(world, "oktest") == {"oktest.json": "missing"}
        mirror = {"POLYREFUSE_DATA_DIR": str(world.mirror)}
        assert set(self.places(world, **mirror).values()) == {"mirror"}
        (world.mirror / "advbench.txt").rename(world.mirror / "elsewhere.txt")
        assert self.places(world, **mirror)["advbench.txt"] == "missing"
        world.mirror.rename(world.cache)
        assert self.places(world, "oktest") == {"oktest.json": "cache"}

    def test_translations_of_ones_own(self, world: World) -> None:
        own = world.cache / "translated" / "oktest" / "da.jsonl"
        own.parent.mkdir(parents=True)
        own.write_text('{"id": "oktest/0000", "prompt": "made up"}\n')
        assert self.places(world, "oktest")["translated/oktest/da.jsonl"] == "cache"
        assert "translated/oktest/da.jsonl" in self.places(world, "oktest", "--lang", "da")

    def test_table(self, world: World) -> None:
        code, out, _ = run(world, "http://127.0.0.1:9", "status", "oktest")
        assert code == 0
        assert "oktest.json" in out
        assert "missing" in out


class TestVerify:
    def test_right_wrong_and_missing(self, world: World, server: Server) -> None:
        mirror = {"POLYREFUSE_DATA_DIR": str(world.mirror)}
        assert run(world, server.host, "verify", **mirror)[0] == 0
        (world.mirror / "oktest.json").write_bytes(b"cut")
        (world.mirror / "advbench.txt").unlink()
        code, out, err = run(world, server.host, "verify", "--json", **mirror)
        assert (code, err) == (1, "")
        verdicts = {entry["file"]: entry["verdict"] for entry in json.loads(out)}
        bad = {"oktest.json": "wrong", "advbench.txt": "missing"}
        assert verdicts == dict.fromkeys(world.files, "right") | bad
        code, out, _ = run(world, server.host, "verify", **mirror)
        assert code == 1
        said = out.splitlines()
        assert said[-1] == f"correct files: {len(world.files) - 2}, wrong or missing: 2"
        assert "advbench.txt is missing." in said
        assert any(sha256(b"cut") in line and "oktest.json" in line for line in said)
        assert server.requested == []


class TestPath:
    def test_folders(self, world: World, server: Server) -> None:
        code, out, _ = run(world, server.host, "path", POLYREFUSE_DATA_DIR=str(world.mirror))
        assert code == 0
        assert out.splitlines() == [
            f"mirror {world.mirror}",
            f"cache {world.cache}",
            f"translated {world.mirror / 'translated'}",
        ]

    def test_files_of_a_dataset(self, world: World, server: Server) -> None:
        mirror = {"POLYREFUSE_DATA_DIR": str(world.mirror)}
        arguments = ("path", "harmful", "--lang", "de", "--split", "train", "--json")
        code, out, _ = run(world, server.host, *arguments, **mirror)
        assert code == 0
        assert json.loads(out) == [
            str(world.mirror / "h/train_en.json"),
            str(world.mirror / "h/train_de.json"),
        ]

    def test_missing(self, world: World, server: Server) -> None:
        result = run(world, server.host, "path", "oktest")
        assert_one_sentence(result, "oktest.json", "run `polyrefuse data fetch oktest`")
        assert server.requested == []


class TestTranslate:
    def test_refusals(self, world: World, server: Server) -> None:
        mirror = {"POLYREFUSE_DATA_DIR": str(world.mirror)}
        model = ("--model", "/no/such/model")
        for arguments, said in (
            (("--dataset", "harmful", "--to", "de"), "published in German"),
            (("--dataset", "oktest", "--to", "xx"), "'xx' is not a language to translate into"),
            (("--dataset", "nothing", "--to", "da"), "no dataset 'nothing'"),
            (("--dataset", "oktest", "--to", "da", "--split", "dev"), "no split 'dev'"),
        ):
            result = run(world, server.host, "translate", *arguments, *model, **mirror)
            assert_one_sentence(result, said)

    def test_writes_languages(self, world: World, server: Server) -> None:
        from tests.translation_models import save_nllb

        tiny_nllb = save_nllb(world.folder / "tiny-nllb")
        arguments = ("--dataset", "oktest", "--to", "da,ga", "--model", tiny_nllb, "--json")
        mirror = {"POLYREFUSE_DATA_DIR": str(world.mirror), "HF_HUB_OFFLINE": "1"}
        code, out, err = run(world, server.host, "translate", *arguments, **mirror)
        assert code == 0, err
        written = json.loads(out)
        assert [(file["language"], file["rows"]) for file in written] == [("da", 7), ("ga", 7)]
        assert {file["model"] for file in written} == {tiny_nllb}
        assert Path(written[0]["path"]) == world.mirror / "translated" / "oktest" / "da.jsonl"
        code, out, _ = run(world, server.host, "path", "oktest", "--lang", "da", **mirror)
        assert out.splitlines()[1] == written[0]["path"]
