"""A judge behind an endpoint, and all that an endpoint may do: a server of this test plays it."""

from __future__ import annotations

import email.utils
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
from tests.commands import assert_one_sentence, run_in_process
from tests.leaderboard.result_files import task, write_run
from tests.waiting import wait_until

VERDICT = '{"refusal": true, "harmful": false}'

Answer = tuple[int, Any, dict[str, str]]
"""Status, body (bytes as they are, anything else as JSON) and headers."""


def completion(content: Any, finish_reason: str | None = None, **message: Any) -> Answer:
    said = {"role": "assistant", "content": content} | message
    choice = {"message": said} | ({"finish_reason": finish_reason} if finish_reason else {})
    return 200, {"choices": [choice]}, {}


class Server:
    """Answers by `play(number of the request, its body)`; keeps what it was sent."""

    def __init__(self) -> None:
        self.play: Callable[[int, dict[str, Any]], Answer] = lambda n, body: completion(VERDICT)
        self.requests: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        self.drip = 0.0
        self.drips_headers = False
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
                    if server.drips_headers:
                        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1000:
                            self.wfile.write(bytes([byte]))
                            time.sleep(server.drip)
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    for place in range(0, len(raw), 1 if server.drip else len(raw) or 1):
                        self.wfile.write(raw[place : place + (1 if server.drip else len(raw))])
                        time.sleep(server.drip)
                except OSError:  # Whoever asked has gone.
                    pass

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


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
    assert "Prompts and answers leave this machine: they are sent to 127.0.0.1" in caplog.text
    assert "a-secret-key" not in caplog.text
    assert "a-secret-key" not in json.dumps([judge.name, judge.revision, judge.settings])
    assert judge.name == "openai:some/model"


def test_no_other_secret_is_sent(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password of-another-service\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    labels(judge_at(server))
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    labels(judge_at(server))
    sent = [headers.get("Authorization") for _, headers in server.requests]
    assert sent == [None, "Bearer a-key"]


@pytest.mark.parametrize("key", ["two words", "a-key\n", "clé", "\x7f"])
def test_a_key_that_is_none(key: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(CannotJudge, match="OPENAI_API_KEY contains") as told:
        judge_at(server)
    assert key.strip() not in str(told.value)


def test_answers_keep_their_order_and_no_more_are_asked_at_once(server: Server) -> None:
    second = threading.Event()

    def play(number: int, body: dict[str, Any]) -> Answer:
        # The first waits for the second, however slow the machine is.
        second.set() if number > 1 else second.wait(60)
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


@pytest.mark.parametrize(
    "content",
    [
        "I cannot judge that.",
        "",
        "{}",
        "<think>It is",
        '{"refusal": true, "refusal": false, "harmful": true, "harmful": false}',
        '{"refusal": true, "r\\u0065fusal": true, "harmful": false}',
        '{"refusal": ' + "[" * 100_000 + "}",
    ],
    ids=lambda content: content[:20],
)
def test_what_is_no_verdict_is_undecided(server: Server, content: str) -> None:
    server.play = lambda number, body: completion(content)
    assert labels(judge_at(server)) == [(Label.UNDECIDED, None)]


def refused(code: Any, message: str = "no") -> Answer:
    return 400, {"error": {"message": message, "code": code, "param": None}}, {}


TOO_LONG = "This model's maximum context length is 4096 tokens, and you asked for 9000."


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        (completion(None, "content_filter"), "filtered its verdict"),
        (completion(VERDICT[:9], "content_filter"), "filtered its verdict"),
        (completion(None, "stop", refusal="I cannot help."), "refused to judge it: I cannot help."),
        (completion(None, "length"), "gave no verdict (finish_reason length)"),
        (completion("", "length", reasoning_content="Hm"), "(finish_reason length)"),
        (completion(None, "stop"), "gave no verdict (finish_reason stop)"),
        (completion([], "stop"), "gave no verdict (finish_reason stop)"),
        (refused("content_filter"), "refused to judge it: "),
        (refused("400", "litellm.ContentPolicyViolationError: no"), "refused to judge it: "),
        (refused("context_length_exceeded"), "context_length_exceeded"),
        (refused(400, TOO_LONG), "maximum context length is 4096"),
        ((400, {"object": "error", "message": TOO_LONG, "code": 400}, {}), "maximum context"),
    ],
    ids=lambda value: str(value)[-60:],
)
def test_one_answer_that_will_not_be_judged(server: Server, answer: Answer, evidence: str) -> None:
    """It is undecided, and the others of its batch keep their labels."""

    def play(number: int, body: dict[str, Any]) -> Answer:
        return answer if "Why 1?" in body["messages"][1]["content"] else completion(VERDICT)

    server.play = play
    said = judge_at(server).judge(["It is so."] * 3, ["en"] * 3, [f"Why {n}?" for n in range(3)])
    assert [one.label for one in said] == [Label.REFUSAL, Label.UNDECIDED, Label.REFUSAL]
    assert said[1].harmful is None
    assert evidence in str(said[1].evidence)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "answer",
    [
        refused("unsupported_parameter", "'max_tokens' is not supported with this model."),
        (400, {"error": "no such model"}, {}),
        (400, ["content_filter"], {}),
        (401, refused("content_filter")[1], {}),
    ],
    ids=lambda answer: str(answer)[:60],
)
def test_what_is_wrong_with_every_request_ends_the_run(server: Server, answer: Answer) -> None:
    server.play = lambda number, body: answer
    with pytest.raises(CannotJudge, match=f"refused the request with status {answer[0]}"):
        labels(judge_at(server))
    assert len(server.requests) == 1


KEYS = ["sk-a/secret/key", 'sk-"quoted\\key']


@pytest.mark.parametrize("key", KEYS)
def test_a_refusal_that_repeats_the_key(
    key: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the message is cut amid it."""
    monkeypatch.setenv("OPENAI_API_KEY", key)
    body = json.dumps({"error": f"{'x' * 150} {key} is unknown"})
    for raw in (body, body.replace("/", r"\/"), f"{'x' * 190} {key}"):
        server.play = lambda number, body: (401, raw.encode(), {})  # noqa: B023
        with pytest.raises(CannotJudge, match="status 401 .*xx ") as told:
            labels(judge_at(server))
        assert "sk-" not in str(told.value)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("answer", "label"),
    [
        (lambda key: completion(f"No verdict: {key}"), Label.UNDECIDED),
        (lambda key: completion(VERDICT[:-1] + f', "why": {json.dumps(key)}}}'), Label.REFUSAL),
        (lambda key: completion(None, "stop", refusal=f"The key {key}."), Label.UNDECIDED),
        (lambda key: refused("content_filter", f"The key {key}."), Label.UNDECIDED),
    ],
    ids=["unparsed", "verdict", "refusal", "filter"],
)
def test_evidence_that_repeats_the_key(
    key: str,
    answer: Callable[[str], Answer],
    label: Label,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.play = lambda number, body: answer(key)
    (said,) = judge_at(server).judge(["It is so."], ["en"], ["Why?"])
    assert said.label is label
    assert "sk-" not in str(said.evidence)


def in_a_while(seconds: float) -> str:
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (in_a_while(1e5), 60),  # from the collection of the tests, which may be long ago
        (in_a_while(1e9), 60),
        (time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(time.time() + 1e5)), 60),
        (in_a_while(-600), 1),
        ("1e300", 60),
        ("soon", 1),
        ("-5", 1),
        ("nan", 1),
        ("Wed, 21 Oct 99999999999999 07:28:00 GMT", 1),
    ],
    ids=["date", "far", "asctime", "past", "large", "word", "negative", "nan", "no date"],
)
def test_when_to_come_again(server: Server, header: str, seconds: float) -> None:
    server.play = lambda number, body: (
        (429, b"", {"Retry-After": header}) if number == 1 else completion(VERDICT)
    )
    waited: list[float] = []
    assert labels(judge_at(server, waited)) == [REFUSED]
    assert waited == [seconds]


def test_a_date_is_waited_for(server: Server) -> None:
    server.play = lambda number, body: (
        (429, b"", {"Retry-After": in_a_while(30)}) if number == 1 else completion(VERDICT)
    )
    waited: list[float] = []
    assert labels(judge_at(server, waited)) == [REFUSED]
    assert 25 < waited[0] <= 30


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
        (completion(["x"]), [1.0, 2.0]),
        (completion([None], "stop"), [1.0, 2.0]),
        (completion([{"type": "text", "text": 5}]), [1.0, 2.0]),
        (completion(5, "stop"), [1.0, 2.0]),
        (completion(None, "error"), [1.0, 2.0]),
        ((200, {"choices": ["x"]}, {}), [1.0, 2.0]),
        ((200, {"choices": [{"message": "x"}]}, {}), [1.0, 2.0]),
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
    with pytest.raises(CannotJudge, match=rf"in 3 tries \(status {status}\). The labels so far"):
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


@pytest.mark.parametrize("headers", [False, True], ids=["body", "headers"])
def test_dripping_bytes_are_late(server: Server, headers: bool) -> None:
    """The timeout is of the whole answer, which takes 20 s; every byte comes well within it."""
    server.drip, server.drips_headers = 0.02, headers
    server.play = lambda number, body: completion(VERDICT + " " * 1000)
    with pytest.raises(CannotJudge, match="no complete answer within 1 s"):
        labels(judge_at(server, timeout=1.0, tries=2))
    # The server may be told later than the judge has given up.
    wait_until(lambda: len(server.requests) == 2)


def test_silence_is_late(server: Server) -> None:
    given_up = threading.Event()

    def play(number: int, body: dict[str, Any]) -> Answer:
        given_up.wait(600)
        return completion(VERDICT)

    server.play = play
    try:
        with pytest.raises(CannotJudge, match="no complete answer within 0.1 s"):
            labels(judge_at(server, timeout=0.1, tries=2))
    finally:
        given_up.set()


def test_a_budget_counts_repeated_requests_too(server: Server) -> None:
    server.play = lambda number, body: (500, b"", {}) if number == 1 else completion(VERDICT)
    judge = judge_at(server, max_requests=4, concurrency=1)
    assert labels(judge, 3) == [REFUSED] * 3
    with pytest.raises(OutOfRequests, match=r"4 requests were made \(--max-requests\)"):
        labels(judge)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "ftp://host/v1",
        "",
        "http://",
        "http://[::1/v1",
        "http://h:99999/v1",
        "http://h:abc/v1",
        "http://h:0/v1",
        "http://./v1",
        "http://a..b/v1",
        f"http://{'a' * 70}/v1",
        "http://me:secret@host/v1",
        "ftp://me:secret@host/v1",
        "me:secret@host:80/v1",
        "http://me:secret@host:99999/v1",
        "http://host/v1?key=secret",
        "ftp://host/v1?key=secret",
        "http://host/v1?",
        "http://host/v1#secret",
        "http://host/v1#",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(CannotJudge, match="base-url") as told:
        choose("openai:m", base_url=url, batch_size=1, concurrency=1, timeout=1.0)
    assert "secret" not in str(told.value)
    if not set("@?#") & set(url):
        assert repr(url) in str(told.value)


@pytest.mark.parametrize(
    "url", ["http://[::1]:80/v1", "https://bücher.example/v1", "http://h_x:80/"]
)
def test_addresses(url: str) -> None:
    choose("openai:m", base_url=url, batch_size=1, concurrency=1, timeout=86400.0)


@pytest.mark.parametrize("timeout", ["inf", "1e300", "1e10", "nan", "0", "-1"])
def test_timeouts_that_are_none(server: Server, tmp_path: Path, timeout: str) -> None:
    with pytest.raises(CannotJudge, match="--timeout is "):
        judge_at(server, timeout=float(timeout))
    write_run(tmp_path, [task("harmful", "en", "c", answers=["It is so."])])
    asked = ("judge", "run", tmp_path, "--judge", "openai:m", "--base-url", server.url)
    assert_one_sentence(run_in_process(*asked, f"--timeout={timeout}"), "--timeout")
    assert not server.requests


# --- by the command


def test_labels_so_far_are_kept(server: Server, tmp_path: Path) -> None:
    """And the next run asks for the others alone."""
    answers = [f"Answer number {place}." for place in range(10)]
    write_run(tmp_path, [task("harmful", "en", "c" * 10, answers=answers)])
    asked = ("judge", "run", tmp_path, "--judge", "openai:m", "--base-url", server.url)
    code, _, err = run_in_process(*asked, "--batch-size", "3", "--max-requests", "7")
    assert code == 2
    assert "7 requests were made" in err
    (path,) = tmp_path.rglob("judged_openai%3Am_*")
    # Of the last batch what the budget allows.
    assert path.read_bytes().count(b"\n") == len(server.requests) == 7
    code, out, err = run_in_process(*asked, "--json")
    assert code == 0, err
    (outcome,) = json.loads(out)
    assert (outcome["judged"], outcome["n"], outcome["counts"]["refusal"]) == (3, 10, 10)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["id"] for line in lines}) == 10
    assert lines[0]["judging"]["settings"]["base_url"] == server.url
