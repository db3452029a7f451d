"""A judge behind an endpoint, and all that an endpoint may do: a server of this test plays it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from polyrefuse_tasks.judge_engines.endpoint import Asking, Endpoint, OutOfRequests
from polyrefuse_tasks.judge_engines.engine import CannotJudge
from polyrefuse_tasks.judge_models.choosing import choose
from polyrefuse_tasks.judge_models.endpoint_judge import EndpointJudge
from polyrefuse_tasks.judges import Label
from tests.commands import run_in_process
from tests.leaderboard.result_files import task, write_run

VERDICT = '{"refusal": true, "harmful": false}'

Answer = tuple[int, Any, dict[str, str]]
"""Status, body (bytes as they are, anything else as JSON) and headers."""


def completion(content: Any) -> Answer:
    return 200, {"choices": [{"message": {"role": "assistant", "content": content}}]}, {}


class Server:
    """Answers by `play(number of the request, its body)`; keeps what it was sent."""

    def __init__(self) -> None:
        self.play: Callable[[int, dict[str, Any]], Answer] = lambda n, body: completion(VERDICT)
        self.requests: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self.drip = 0.0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.at_once += 1
                    server.most_at_once = max(server.most_at_once, server.at_once)
                    server.requests.append((body, dict(self.headers)))
                    number = len(server.requests)
                try:
                    status, content, headers = server.play(number, body)
                    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                    # Who is answered may ask again before this thread ends.
                    with lock:
                        server.at_once -= 1
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    for place in range(0, len(raw), 8 if server.drip else len(raw) or 1):
                        self.wfile.write(raw[place : place + (8 if server.drip else len(raw))])
                        time.sleep(server.drip)
                except OSError:  # Whoever asked has gone.
                    pass

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.http.shutdown()
    one.http.server_close()


def judge_at(server: Server, waits: list[float] | None = None, **more: Any) -> EndpointJudge:
    kept = [] if waits is None else waits
    return EndpointJudge(Endpoint(Asking("some/model", server.url, **more), wait=kept.append))


def labels(judge: EndpointJudge, n: int = 1) -> list[tuple[Label | None, bool | None]]:
    said = judge.judge(["It is so."] * n, ["en"] * n, [f"Why {place}?" for place in range(n)])
    return [(one.label, one.harmful) for one in said]


REFUSED = (Label.REFUSAL, False)


def test_what_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-secret-key")
    judge = judge_at(server)
    with caplog.at_level(logging.DEBUG):
        assert labels(judge) == [REFUSED]
    ((body, headers),) = server.requests
    assert body["model"] == "some/model"
    assert body["temperature"] == 0
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "Why 0?" in body["messages"][1]["content"]
    assert headers["Authorization"] == "Bearer a-secret-key"
    # It says where answers go before they do, and the key to nobody.
    assert "prompts and answers leave this machine: they go to 127.0.0.1" in caplog.text
    assert "a-secret-key" not in caplog.text
    assert "a-secret-key" not in json.dumps([judge.name, judge.revision, judge.settings])
    assert judge.name == "openai:some/model"


def test_without_a_key_none_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    labels(judge_at(server))
    assert "Authorization" not in server.requests[0][1]


def test_answers_keep_their_order_and_no_more_are_asked_at_once(server: Server) -> None:
    def play(number: int, body: dict[str, Any]) -> Answer:
        time.sleep(0.02 * (number % 3))
        even = int(body["messages"][1]["content"].split("Why ")[1].split("?")[0]) % 2 == 0
        return completion(json.dumps({"refusal": even, "harmful": not even}))

    server.play = play
    found = labels(judge_at(server, concurrency=3), 12)
    assert found == [REFUSED, (Label.COMPLIANCE, True)] * 6
    assert 1 < server.most_at_once <= 3


@pytest.mark.parametrize(
    "content",
    [
        [
            {"type": "text", "text": '{"refusal": true,'},
            {"type": "text", "text": ' "harmful": false}'},
        ],
        f"<think>Is it? {{}}</think>{VERDICT}",
        f"```json\n{VERDICT}\n```",
    ],
    ids=["parts", "reasoning", "fence"],
)
def test_kinds_of_content(server: Server, content: Any) -> None:
    server.play = lambda number, body: completion(content)
    assert labels(judge_at(server)) == [REFUSED]


@pytest.mark.parametrize("content", ["I cannot judge that.", "", "{}", "<think>It is"])
def test_what_is_no_verdict_is_undecided(server: Server, content: str) -> None:
    server.play = lambda number, body: completion(content)
    assert labels(judge_at(server)) == [(Label.UNDECIDED, None)]


@pytest.mark.parametrize(
    ("failure", "waits"),
    [
        ((429, b"slow down", {}), [1.0, 2.0]),
        ((429, b"slow down", {"Retry-After": "7"}), [7.0, 7.0]),
        ((429, b"slow down", {"Retry-After": "100000"}), [60.0, 60.0]),
        ((429, b"slow down", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), [1.0, 2.0]),
        ((500, b"oh", {}), [1.0, 2.0]),
        ((503, b"", {}), [1.0, 2.0]),
        ((200, b'{"choices": [', {}), [1.0, 2.0]),
        ((200, b"<html>hello</html>", {}), [1.0, 2.0]),
        ((200, {"choices": []}, {}), [1.0, 2.0]),
        ((200, {"choices": [{"message": {"content": None}}]}, {}), [1.0, 2.0]),
        ((200, [1, 2], {}), [1.0, 2.0]),
        ((200, b"[" * 100_000, {}), [1.0, 2.0]),
        ((200, b" " * (2**22 + 1), {}), [1.0, 2.0]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_failures_that_pass(server: Server, failure: Answer, waits: list[float]) -> None:
    server.play = lambda number, body: failure if number < 3 else completion(VERDICT)
    waited: list[float] = []
    assert labels(judge_at(server, waited)) == [REFUSED]
    assert waited == waits


@pytest.mark.parametrize("status", [429, 500])
def test_failures_that_stay(server: Server, status: int) -> None:
    server.play = lambda number, body: (status, b"", {})
    with pytest.raises(CannotJudge, match=rf"after 3 tries \(status {status}\); the labels so far"):
        labels(judge_at(server, tries=3))
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "told"), [(401, "no such key"), (404, "no such model")])
def test_what_is_refused_is_not_asked_again(server: Server, status: int, told: str) -> None:
    server.play = lambda number, body: (status, {"error": told}, {})
    with pytest.raises(CannotJudge, match=f"status {status} .*{told}"):
        labels(judge_at(server))
    assert len(server.requests) == 1


def test_a_redirection_is_not_followed(server: Server) -> None:
    """The key and the answers go where the user said, and nowhere else."""
    server.play = lambda number, body: (302, b"", {"Location": "http://127.0.0.1:9/other"})
    with pytest.raises(CannotJudge, match="status 302"):
        labels(judge_at(server))


def test_dripping_bytes_are_late(server: Server) -> None:
    server.drip = 0.05
    with pytest.raises(CannotJudge, match="no whole answer within 0.2 s"):
        labels(judge_at(server, timeout=0.2, tries=2))


def test_silence_is_late(server: Server) -> None:
    def play(number: int, body: dict[str, Any]) -> Answer:
        time.sleep(0.6)
        return completion(VERDICT)

    server.play = play
    with pytest.raises(CannotJudge, match="ReadTimeout"):
        labels(judge_at(server, timeout=0.1, tries=2))


def test_a_budget_counts_repeated_requests_too(server: Server) -> None:
    server.play = lambda number, body: (500, b"", {}) if number == 1 else completion(VERDICT)
    judge = judge_at(server, max_requests=4, concurrency=1)
    assert labels(judge, 3) == [REFUSED] * 3
    with pytest.raises(OutOfRequests, match=r"4 requests were made \(--max-requests\)"):
        labels(judge)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://host/v1", "", "http://", "http://me:secret@host/v1"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(CannotJudge, match="base-url"):
        choose("openai:m", base_url=url, batch_size=1, concurrency=1, timeout=1.0)


# --- by the command


def test_labels_so_far_are_kept(server: Server, tmp_path: Path) -> None:
    """And the next run asks for the others alone."""
    answers = [f"Answer number {place}." for place in range(10)]
    write_run(tmp_path, [task("harmful", "en", "c" * 10, answers=answers)])
    asked = ("judge", "run", tmp_path, "--judge", "openai:m", "--base-url", server.url)
    code, _, err = run_in_process(*asked, "--batch-size", "3", "--max-requests", "7")
    assert code == 2
    assert "7 requests were made" in err
    (path,) = tmp_path.rglob("judged_openai-m_*")
    assert path.read_bytes().count(b"\n") == 6
    code, out, err = run_in_process(*asked, "--json")
    assert code == 0, err
    (outcome,) = json.loads(out)
    assert (outcome["judged"], outcome["n"], outcome["counts"]["refusal"]) == (4, 10, 10)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["id"] for line in lines}) == 10
    assert lines[0]["judging"]["settings"]["base_url"] == server.url
