"""`batching=` of the wrappers: answers, cache, progress and order are those of static batches."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from transformers import LlamaForCausalLM

from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd.artifact import Prompt
from polyrefuse_models.wrappers import batching
from polyrefuse_models.wrappers.batching import FOLLOWED, not_followed, why_static
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, McdHF, RefusalAddedHF
from polyrefuse_models.wrappers.response_cache import CONDITION_KEY
from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.generation_settings import NEUTRAL
from tests.conftest import ROOT
from tests.models import make_llama, make_tokenizer

CONTINUOUS = {"taken": "continuous", "attention": "sdpa", "graphs": False}

PROMPTS = [f"What is glimmerfish number {i}?{' And why?' * (i % 4)}" for i in range(10)]


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers collects garbage twice a manager, which takes longer than what is tested."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("prompts") / "invented"
    vectors = torch.randn(6, 32, generator=torch.Generator().manual_seed(5))
    artifact.save(Prompt(vectors, {"dataset": "toyrefuse", "languages": ["en"]}), folder)
    return str(folder)


@pytest.fixture(scope="module")
def pair(chat_model: Path) -> tuple[BaselineHF, BaselineHF]:
    """The same model with static batches and with continuous ones."""
    return both(BaselineHF, chat_model)


def both(kind: type[BaselineHF], model: object, **arguments: Any) -> tuple[BaselineHF, BaselineHF]:
    given = {"pretrained": str(model), "device": "cpu", "batch_size": 3} | arguments
    static, continuous = (kind(**given, batching=way) for way in ("static", "continuous"))
    return static, continuous


def ask(prompt: str, **settings: Any) -> Instance:
    said = {"until": [], "do_sample": False, "max_gen_toks": 12} | settings
    return Instance("generate_until", {"id": prompt}, (prompt, said), 0, ("invented", 0, 1))


def asked(**settings: Any) -> list[Instance]:
    return [ask(prompt, **settings) for prompt in PROMPTS]


# --- the same answers


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (BaselineHF, ()),
        (BaselineHF, ("chat",)),
        (AblatedHF, ("direction", "hooks")),
        (AblatedHF, ("direction", "weights")),
        (AblatedHF, ("direction", "prompt")),
        (RefusalAddedHF, ("direction",)),
        (McdHF, ("prompt",)),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_answers_are_those_of_static_batches(
    chat_model: Path, direction: str, prompt: str, kind: type[BaselineHF], given: tuple[str, ...]
) -> None:
    arguments = {
        "chat": {"chat": "off"},
        "direction": {"direction": direction},
        "prompt": {"prompt": prompt},
        "hooks": {"method": "hooks"},
        "weights": {"method": "weights"},
    }
    said: dict[str, Any] = {}
    for name in given:
        said |= arguments[name]
    static, continuous = both(kind, chat_model, **said)
    assert continuous.generate_until(asked()) == static.generate_until(asked())
    assert continuous.identity() == static.identity()
    assert static.get_model_info()["batching"] == [
        {"taken": "static", "because": "batching=static"}
    ]
    assert continuous.get_model_info()["batching"] == [CONTINUOUS]


def test_the_tokens_of_a_soft_prompt_are_not_written(tmp_path: Path, prompt: str) -> None:
    # As many models have, more rows than tokens; those of the prompt's would win.
    model, tokenizer = make_llama(), make_tokenizer()
    model.resize_token_embeddings(len(tokenizer) + 16, mean_resizing=False)
    assert isinstance(model, LlamaForCausalLM)
    model.lm_head.weight.data[len(tokenizer) :] = 50 * model.lm_head.weight.data[20]
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    static, continuous = both(McdHF, tmp_path, prompt=prompt)
    answers = static.generate_until(asked())
    assert continuous.generate_until(asked()) == answers
    plain = BaselineHF(pretrained=str(tmp_path), device="cpu")
    assert plain.generate_until(asked()) != answers


def test_groups_of_settings_and_the_order_of_requests(
    pair: tuple[BaselineHF, BaselineHF],
) -> None:
    mixed = [
        ask(text, max_gen_toks=4 + 8 * (place % 2), until=["q"] * (place % 3))
        for place, text in enumerate([*PROMPTS, *PROMPTS])
    ]
    expected = [pair[0].generate_until([request])[0] for request in mixed]
    assert pair[1].generate_until(mixed) == expected
    assert len(set(expected)) > 5 and len({len(answer) for answer in expected}) > 2


def test_an_answer_stops_at_its_stop_string(
    pair: tuple[BaselineHF, BaselineHF], monkeypatch: pytest.MonkeyPatch
) -> None:
    static, continuous = pair
    settings: dict[str, Any] = {"max_gen_toks": 60}
    whole = static.generate_until(asked(**settings))
    letters = [character for character in whole[0] if character.isascii() and character.isalpha()]
    stops = [letters[2], "no such text", "<|end|>"]
    expected = static.generate_until(asked(until=list(stops), **settings))
    assert expected != whole
    decoded: list[int] = []
    tok_decode = continuous.tok_decode

    def count(tokens: Any, skip_special_tokens: bool = True) -> str:
        if isinstance(tokens, list):
            decoded.append(len(tokens))
        return tok_decode(tokens, skip_special_tokens)

    monkeypatch.setattr(continuous, "tok_decode", count)
    assert continuous.generate_until(asked(until=list(stops), **settings)) == expected
    assert min(decoded) < 30  # and did not go on to the end


def test_reasoning_is_cut_and_marked_as_in_static_batches(chat_model: Path) -> None:
    for end in ("</think>", 7, "a"):
        static, continuous = both(BaselineHF, chat_model, think_end_token=end)
        expected = static.generate_until(asked(max_gen_toks=40))
        assert continuous.generate_until(asked(max_gen_toks=40)) == expected
        assert any("<think>" in answer for answer in expected)


def test_truncated_prompts_are_the_same(chat_model: Path) -> None:
    static, continuous = both(BaselineHF, chat_model, truncation=True, max_length=40)
    assert continuous.generate_until(asked()) == static.generate_until(asked())


def test_log_likelihoods_and_static_answers_are_as_before(chat_model: Path) -> None:
    static, continuous = both(BaselineHF, chat_model)
    pairs = [Instance("loglikelihood", {}, ("A glimmerfish is", " small"), 0, ("t", 0, 1))]
    before = continuous.loglikelihood(pairs)
    identity = continuous.identity()
    continuous.generate_until(asked())
    assert continuous.loglikelihood(pairs) == before == static.loglikelihood(pairs)
    assert continuous.identity() == identity
    # Beams are static under auto; here the two share a run.
    auto = BaselineHF(pretrained=str(chat_model), device="cpu")
    assert auto.generate_until(asked(num_beams=2)) == static.generate_until(asked(num_beams=2))


def test_drawn_answers_come_again_with_lm_eval_s_seed(pair: tuple[BaselineHF, BaselineHF]) -> None:
    settings = {"do_sample": True, "temperature": 1.5, "top_k": 40, "top_p": 0.95}
    answers = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        answers.append(pair[1].generate_until(asked(**settings)))
    assert answers[0] == answers[1] != answers[2]
    torch.manual_seed(1)
    twice = pair[1].generate_until([ask(PROMPTS[0], **settings)] * 4)
    assert len(set(twice)) == 4


# --- which is taken


@pytest.mark.parametrize(
    ("given", "device", "obstacles", "because"),
    [
        ("auto", "cuda", [], None),
        ("auto", "cuda", ["it does not follow num_beams=2"], "it does not follow num_beams=2"),
        ("auto", "cpu", [], "the model is on cpu"),
        ("auto", "mps", ["it has an encoder"], "the model is on mps"),
        ("continuous", "cuda", [], None),
        ("continuous", "cpu", [], None),
        ("static", "cuda", [], "batching=static"),
    ],
)
def test_what_is_taken(given: str, device: str, obstacles: list[str], because: str | None) -> None:
    assert why_static(given, device, obstacles) == because


def test_auto_takes_continuous_batching_on_cuda_and_what_it_can(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=3)
    static = lm.generate_until(asked())
    assert lm.get_model_info()["batching"] == [
        {"taken": "static", "because": "the model is on cpu"}
    ]
    lm.notes.batching.clear()
    choose = batching.why_static
    monkeypatch.setattr(batching, "why_static", lambda given, _, why: choose(given, "cuda", why))
    requests = [*asked(), ask(PROMPTS[0], num_beams=2), ask(PROMPTS[1], min_new_tokens=3)]
    answers = lm.generate_until(requests)
    assert answers[: len(static)] == static
    assert lm.get_model_info()["batching"] == [
        CONTINUOUS,
        {"taken": "static", "because": "it does not follow num_beams=2"},
        {"taken": "static", "because": "it does not follow min_new_tokens=3"},
    ]


def test_auto_takes_static_batches_where_paging_is_found_wanting(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu")
    static = lm.generate_until(asked())
    lm.notes.batching.clear()
    choose = batching.why_static
    monkeypatch.setattr(batching, "why_static", lambda given, _, why: choose(given, "cuda", why))
    monkeypatch.setattr(
        type(lm.model), "init_continuous_batching", lambda *_, **__: 1 / 0, raising=True
    )
    assert lm.generate_until(asked()) == static
    assert lm.notes.batching == [
        {
            "taken": "static",
            "because": "transformers cannot page LlamaForCausalLM: division by zero",
        }
    ]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"num_beams": 2}, "it does not follow num_beams=2"),
        ({"repetition_penalty": 1.2}, "it does not follow repetition_penalty=1.2"),
        ({"num_return_sequences": 2}, "num_return_sequences=2"),
        ({"max_length": 99}, "max_length=99"),
        ({"suppress_tokens": [20]}, "suppress_tokens=[20]"),
        ({"eos_token_id": 20}, "eos_token_id=20"),
        ({"penalty_alpha": 0.6}, "penalty_alpha=0.6"),
        ({"do_sample": True, "temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_continuous_where_it_is_not_possible_is_one_sentence(
    pair: tuple[BaselineHF, BaselineHF], settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError) as raised:
        pair[1].generate_until([ask(PROMPTS[0], **settings)])
    sentence = str(raised.value)
    assert sentence.startswith("batching=continuous is not possible: ") and named in sentence
    assert sentence.endswith("; use batching=static.") and "\n" not in sentence


EFFECTIVE: dict[str, Any] = {
    "min_p": 0.1,
    "top_h": 0.4,
    "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1,
    "max_time": 1.0,
    "stop_strings": ["a"],
    "bad_words_ids": [[5]],
    "suppress_tokens": [5],
    "begin_suppress_tokens": [5],
    "sequence_bias": [[[5], -9.0]],
    "forced_bos_token_id": 5,
    "forced_eos_token_id": 5,
    "exponential_decay_length_penalty": (1, 2.0),
    "watermarking_config": {"bias": 2.0},
}


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_no_setting_is_left_out_in_silence(name: str) -> None:
    model = SimpleNamespace(generation_config=None)
    neutral = NEUTRAL[name]
    value = EFFECTIVE.get(name, not neutral if isinstance(neutral, bool) else 7)
    settings = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 1.0}
    assert not_followed(model, settings, 100) == []  # type: ignore[arg-type]
    assert not_followed(model, settings | {name: neutral}, 100) == []  # type: ignore[arg-type]
    reasons = not_followed(model, settings | {name: value}, 100)  # type: ignore[arg-type]
    if name in FOLLOWED or name == "max_new_tokens":  # which lm-eval reads as max_gen_toks
        return
    assert reasons == [f"it does not follow {name}={value}"]


def test_an_unknown_batching_is_told_before_loading() -> None:
    with pytest.raises(UserError, match="batching=dynamic is not known; use one of auto, cont"):
        BaselineHF(pretrained="/no/such/model", batching="dynamic")


def test_mixed_precision_and_encoders_are_static(pair: tuple[BaselineHF, BaselineHF]) -> None:
    lm = pair[1]
    for name, value, named in (
        ("mixed_precision_dtype", torch.bfloat16, "mixed_precision_dtype"),
        ("backend", "seq2seq", "encoder"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lm, name, value, raising=True)
            with pytest.raises(UserError, match=f"not possible: .*{named}"):
                lm.batching.answer([ask(PROMPTS[0])], lm.generate_until)


# --- progress, cache and interruptions


def test_progress_and_cache_go_on_as_answers_finish(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batching="continuous")
    seen: list[tuple[int, int]] = []
    kept: list[str] = []

    class Bar:
        def __init__(self, total: int, disable: bool | None, desc: str) -> None:
            assert (total, disable, desc) == (10, None, "Running generate_until requests")

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, steps: int) -> None:
            seen.append((steps, len(kept)))

    monkeypatch.setattr(batching, "tqdm", Bar)
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    add = lm.cache_hook.add_partial

    def keep(attr: str, request: Any, answer: str) -> None:
        kept.append(answer)
        add(attr, request, answer)

    monkeypatch.setattr(lm.cache_hook, "add_partial", keep)
    answers = cached.generate_until(asked())
    assert seen == [(1, number) for number in range(1, 11)]
    assert sorted(kept) == sorted(answers)
    monkeypatch.setattr(lm.batching, "answer", lambda *_, **__: pytest.fail("asked again"))
    assert cached.generate_until(asked()) == answers


def test_an_interrupted_run_keeps_what_was_finished(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batching="continuous")
    expected = lm.generate_until(asked())
    cached = CachingLM(lm, str(tmp_path / "cache.db"))
    add, kept = lm.cache_hook.add_partial, []

    def interrupt(attr: str, request: Any, answer: str) -> None:
        add(attr, request, answer)
        kept.append(answer)
        if len(kept) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(lm.cache_hook, "add_partial", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cached.generate_until(asked())
    monkeypatch.setattr(lm.cache_hook, "add_partial", add)
    asked_again: list[Instance] = []
    answer = lm.batching.answer

    def spy(requests: list[Instance], *arguments: Any, **more: Any) -> list[str]:
        asked_again.extend(requests)
        return answer(requests, *arguments, **more)

    monkeypatch.setattr(lm.batching, "answer", spy)
    assert cached.generate_until(asked()) == expected
    assert len(asked_again) == 6


UNLIKE = [ask(PROMPTS[0], max_gen_toks=3), *asked(max_gen_toks=40)]
"""An answer that is there early, and others that take longer."""


@contextmanager
def out_of_memory(lm: BaselineHF, number: int) -> Iterator[None]:
    """Have that forward pass of the manager's fail, counted from 0."""
    passes = iter(range(number, -1, -1))

    def fail(*_: Any) -> None:
        if next(passes, 1) == 0:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    handle = lm.model.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def test_a_failure_is_one_sentence_and_keeps_what_was_finished(
    pair: tuple[BaselineHF, BaselineHF], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = pair[1]
    lm.generate_until(asked()[:1])  # it has been tried
    kept: list[str] = []
    monkeypatch.setattr(lm.cache_hook, "add_partial", lambda *given: kept.append(given[2]))
    with (
        out_of_memory(lm, 8),
        pytest.raises(UserError, match="failed: CUDA out of memory.*; give batching=static"),
    ):
        lm.generate_until(UNLIKE)
    assert 0 < len(kept) < len(UNLIKE)
    assert lm.identity() == pair[0].identity()


FULL = "continuous batching failed: CUDA out of memory. Tried to allocate 2 GiB"


@pytest.mark.parametrize(
    ("passes", "given"),
    [(8, [CONTINUOUS, {"taken": "static", "because": FULL}])]  # some were there
    + [(1, [{"taken": "static", "because": FULL}])],
)
def test_under_auto_static_batches_answer_what_a_failure_has_left(
    chat_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    passes: int,
    given: list[dict[str, Any]],
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=3)
    expected = lm.generate_until(UNLIKE)
    choose = batching.why_static
    monkeypatch.setattr(batching, "why_static", lambda asked, _, why: choose(asked, "cuda", why))
    lm.generate_until(asked()[:1])  # it has been tried
    lm.notes.batching.clear()
    kept: list[str] = []
    monkeypatch.setattr(lm.cache_hook, "add_partial", lambda *given: kept.append(given[2]))
    with out_of_memory(lm, passes):
        assert lm.generate_until(UNLIKE) == expected
    assert lm.get_model_info()["batching"] == given
    assert sorted(kept) == sorted(expected)
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())
    # What failed once is not tried again.
    lm.notes.batching.clear()
    assert lm.generate_until(UNLIKE) == expected
    assert lm.get_model_info()["batching"] == [{"taken": "static", "because": FULL}]


@pytest.mark.parametrize("step", ["init_continuous_batching", "set_attn_implementation"])
def test_under_auto_a_manager_that_cannot_be_made_ends_no_run(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=3)
    expected = lm.generate_until(asked())
    choose = batching.why_static
    monkeypatch.setattr(batching, "why_static", lambda asked, _, why: choose(asked, "cuda", why))
    lm.generate_until(asked()[:1])
    lm.notes.batching.clear()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    monkeypatch.setattr(lm.model, step, fail)
    assert lm.generate_until(asked()) == expected
    (noted,) = lm.get_model_info()["batching"]
    assert noted["taken"] == "static" and "during capture" in noted["because"]


def test_one_of_several_processes_does_not_wait_for_the_others(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Static batches of a size that lm-eval looks for are agreed on by all of them."""
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=3)
    choose = batching.why_static
    monkeypatch.setattr(batching, "why_static", lambda asked, _, why: choose(asked, "cuda", why))
    lm.generate_until(asked()[:1])
    monkeypatch.setattr(lm, "_world_size", 2)
    monkeypatch.setattr(lm, "batch_size_per_gpu", "auto")
    with out_of_memory(lm, 8), pytest.raises(UserError, match="give batching=static"):
        lm.batching.answer(UNLIKE, lambda *_, **__: pytest.fail("it waits"))


def entries(database: Path) -> dict[str, int]:
    """The answers that an `--use_cache` file has on the disk, each with its row.

    An answer that is written again has another row.
    """
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            rows = connection.execute("select key, rowid from unnamed").fetchall()
    except sqlite3.OperationalError:  # Not there yet, or being written.
        return {}
    return {key: row for key, row in rows if key != CONDITION_KEY}


def test_a_killed_lm_eval_keeps_what_was_finished(tmp_path: Path) -> None:
    arguments = [
        *("--model", "baseline-hf", "--device", "cpu", "--model_args", "batching=continuous"),
        *("--tasks", "toyrefuse_harmful_en", "--limit", "60", "--gen_kwargs", "max_gen_toks=48"),
        *("--use_cache", str(tmp_path / "kept"), "--output_path", str(tmp_path / "out")),
    ]
    # The command `lm_eval run` with our tasks alone: reading lm-eval's own takes minutes.
    program = f"from tests.evaluations import lm_eval_run; lm_eval_run(*{arguments})"
    command = [sys.executable, "-c", program]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    log = (tmp_path / "log").open("w")
    run = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)
    database = tmp_path / "kept_rank0.db"
    deadline = time.monotonic() + 300
    while len(entries(database)) < 5 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    kept = entries(database)
    assert 5 <= len(kept) < 60
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    whole = entries(database)
    assert len(whole) == 60
    assert kept.items() <= whole.items()
