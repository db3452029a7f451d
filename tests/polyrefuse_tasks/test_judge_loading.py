"""Judges that cannot be loaded: what the hub may answer, played by a server of this test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.commands import assert_one_sentence, run_in_process
from tests.leaderboard.result_files import task, write_run


class Hub(BaseHTTPRequestHandler):
    """Answers for each model as the hub does: gated, or not there."""

    def do_HEAD(self) -> None:
        status, code, message = (
            (403, "GatedRepo", "Access to this model is restricted.")
            if "Guard" in self.path
            else (401, "RepoNotFound", "Repository not found")
        )
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_run(tmp_path / "results", [task("harmful", "en", "rc")])
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        (["--judge", "llamaguard2"], ["Meta-Llama-Guard-2-8B", "gated", "hf auth login"]),
        (["--judge", "polyguard", "--judge-model", "nobody/nothing"], ["nobody/nothing"]),
    ],
)
def test_what_the_hub_answers(
    judge: list[str], told: list[str], hub: str, results: Path, tmp_path: Path
) -> None:
    before = sorted(results.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-m", "polyrefuse", "judge", "run", str(results), *judge],
        env=os.environ
        | {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
    )
    assert_one_sentence((done.returncode, done.stdout, done.stderr), *told)
    assert sorted(results.rglob("*")) == before


@pytest.mark.parametrize("named", ["nowhere/", "empty", "file"])
def test_a_folder_without_a_model(named: str, results: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    arguments = ("--judge", "qwen3guard", "--judge-model", tmp_path / named)
    result = run_in_process("judge", "run", results, *arguments)
    assert_one_sentence(result, str(tmp_path / named), "no folder of a model")
