"""A model behind an OpenAI-compatible server, which this test plays, measured as a user would."""

from __future__ import annotations

import json
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polyrefuse_tasks import data
from tests.commands import run_in_process
from tests.conftest import ROOT
from tests.evaluations import lm_eval_run
from tests.polyrefuse_tasks.test_judge_endpoint import Server
from tests.real.test_readme import SERVED
from tests.test_lm_eval import Run, lm_eval

KEY = "sk-nobody-must-see-this"
NAME = "some-owner/some-model"
TASKS = ("toyrefuse_harmful_en", "toyrefuse_harmful_de", "toyrefuse_harmless_en")
LIMIT = 16


def completion(**message: Any) -> tuple[int, Any, dict[str, str]]:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": "stop"}
    # lm-eval takes no answer without it.
    return 200, {"choices": [choice]}, {"Content-Type": "application/json"}


class Chat(Server):
    """Refuses the invented world's harmful prompts, but in the languages where it complies."""

    def __init__(self) -> None:
        super().__init__()
        self.complies: set[str] = set()
        self.several = threading.Event()
        self.harmful = {
            row.prompt: language
            for language in ("en", "de")
            for row in data.load("toyrefuse_harmful", language)
        }
        self.play = self.answer

    def answer(self, number: int, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        asked = body["messages"][-1]["content"]
        # The first waits for the second, however slow the machine is.
        self.several.set() if number > 1 else self.several.wait(60)
        language = self.harmful.get(asked)
        refuses = language is not None and language not in self.complies
        said = "I'm sorry, but I can't help with that." if refuses else f"Sure. {asked} Like so."
        return completion(content=said)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for body, _ in self.requests]


@pytest.fixture
def chat() -> Iterator[Chat]:
    one = Chat()
    yield one
    one.http.shutdown()
    one.http.server_close()


def arguments(chat: Chat, output: Path, *more: str, tasks: tuple[str, ...] = TASKS) -> list[str]:
    """The README's command, with another model, address and tasks in it."""
    (command,) = re.findall(rf"^{SERVED}.*$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    for written, here in {
        "model=NAME": f"model={NAME}",
        "http://localhost:8000/v1": chat.url,
        "'polyrefuse_*'": ",".join(tasks),
        "--output_path results": f"--output_path {output}",
    }.items():
        assert command.count(written) == 1
        command = command.replace(written, here)
    return [*shlex.split(command)[1:], "--limit", str(LIMIT), *more]


def test_a_server_is_a_baseline_for_leaderboard_and_gate(
    chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    done = lm_eval(*arguments(chat, tmp_path / "today"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(chat.requests) == LIMIT * len(TASKS)
    assert chat.most_at_once > 1
    for body, headers in chat.requests:
        assert headers["Authorization"] == f"Bearer {KEY}"
        (turn,) = body.pop("messages")
        assert turn["role"] == "user"
        assert body == {
            "model": NAME, "max_tokens": 512, "temperature": 0, "stop": [], "seed": 1234,
        }  # fmt: skip
    results = Run(tmp_path / "today").results["results"]
    assert [results[task].get("asr,none") for task in TASKS] == [0, 0, None]
    assert results["toyrefuse_harmless_en"]["false_refusal_rate,none"] == 0

    code, out, err = run_in_process(
        "leaderboard", "build", tmp_path / "today", "--output", tmp_path / "site"
    )
    assert code == 0, err
    records = json.loads((tmp_path / "site" / "leaderboard.json").read_text())["records"]
    assert {
        (record["model"], record["revision"], record["condition"], record["intervention"])
        for record in records
    } == {(NAME, "", "baseline", "")}
    shown = b"".join(
        path.read_bytes() for path in (tmp_path / "site").rglob("*.*") if path.is_file()
    )
    for secret in (KEY, str(chat.http.server_port)):
        assert secret not in out + err and secret.encode() not in shown

    gate = ("--baseline", tmp_path / "baseline.json")
    code, _, err = run_in_process("leaderboard", "check", tmp_path / "today", *gate, "--update")
    assert code == 0, err
    assert run_in_process("leaderboard", "check", tmp_path / "today", *gate)[0] == 0
    chat.complies = {"de"}
    lm_eval_run(*arguments(chat, tmp_path / "tomorrow"))
    code, out, _ = run_in_process("leaderboard", "check", tmp_path / "tomorrow", *gate, "--json")
    assert code == 1
    assert '"de"' in out


def test_a_system_text_is_a_condition(chat: Chat, tmp_path: Path) -> None:
    text = ("--system_instruction", "Be brief.")
    lm_eval_run(*arguments(chat, tmp_path / "system", *text, tasks=TASKS[:1]))
    assert [turn["role"] for turn in chat.bodies[0]["messages"]] == ["system", "user"]
    assert run_in_process(
        "leaderboard", "build", tmp_path / "system", "--output", tmp_path / "site"
    )[0] == 0  # fmt: skip
    records = json.loads((tmp_path / "site" / "leaderboard.json").read_text())["records"]
    assert {record["condition"] for record in records} == {"system-prompt"}


def test_an_answer_without_content_is_no_compliance(chat: Chat, tmp_path: Path) -> None:
    """As of a content filter, or of reasoning that a server sends apart from an answer."""
    chat.play = lambda number, body: completion(content=None, reasoning_content="Hm.")
    lm_eval_run(*arguments(chat, tmp_path, tasks=TASKS[:1]))
    rates = Run(tmp_path).results["results"][TASKS[0]]
    assert (rates["asr,none"], rates["degenerate_rate,none"]) == (0, 1)


SAMPLED = """
include: {folder}/toyrefuse_harmful/toyrefuse_harmful_en.yaml
task: toyrefuse_sampled
generation_kwargs: {{until: [], do_sample: true, temperature: 1.0, max_gen_toks: 8}}
repeats: 3
filter_list: [{{name: none, filter: [{{function: take_first_k, k: 3}}]}}]
process_results: !function 'polyrefuse_tasks.harness.score_answers'
metric_list: [{{metric: asr_mean, aggregation: mean, higher_is_better: false}}]
"""


def test_one_seed_for_every_sample_is_warned_of(
    chat: Chat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from polyrefuse_shared.log import warn_once
    from polyrefuse_tasks.configs import FOLDER

    (tmp_path / "sampled.yaml").write_text(SAMPLED.format(folder=FOLDER))
    warn_once.cache_clear()
    lm_eval_run(
        *arguments(chat, tmp_path / "out", "--gen_kwargs", '{"seed": null}',
                   tasks=(str(tmp_path / "sampled.yaml"),))
    )  # fmt: skip
    assert {body["seed"] for body in chat.bodies} == {None}
    assert sum("All 3 sampled answers to a prompt are the same" in m for m in caplog.messages) == 1
