"""A checkpoint's own generation settings change no answer; a user's do, and are recorded."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, GenerationConfig

from polyrefuse_models import bundled
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.interventions import SoftPrompt
from polyrefuse_models.mcd.labels import soft_labels
from polyrefuse_models.neutral_generation import neutralise, settings_of
from polyrefuse_models.organism.evaluation import Case, load_chat, respond
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_shared import lm_eval_internals as invocation
from polyrefuse_tasks import generation_settings as generation
from polyrefuse_tasks.data.toyrefuse import requests as toy_requests
from polyrefuse_tasks.generation_settings import departures
from tests.conftest import ROOT
from tests.models import make_llama, make_tokenizer

OWN_SETTINGS = [
    {"repetition_penalty": 5.0},
    {"no_repeat_ngram_size": 1},
    {"min_new_tokens": 8, "eos_token_id": list(range(1, 264, 2))},
    {"max_new_tokens": 2},
    {"suppress_tokens": list(range(8, 140))},
    {"begin_suppress_tokens": list(range(8, 140))},
    {"bad_words_ids": [[token] for token in range(8, 140)]},
    {"forced_eos_token_id": 1},
    {"num_beams": 3, "length_penalty": -2.0},
    {"exponential_decay_length_penalty": (1, 9.0)},
    {"sequence_bias": [[[token], -99.0] for token in range(8, 140)]},
    {"guidance_scale": 3.0},
    {"do_sample": True, "temperature": 3.0, "top_k": 7, "min_p": 0.2},
]


def ask(prompt: str, **settings: Any) -> Instance:
    said = {"until": [], "do_sample": False, "max_gen_toks": 8} | settings
    return Instance("generate_until", {}, (prompt, said), 0, ("invented", 0, 1))


def with_settings(folder: Path, target: Path, **settings: Any) -> Path:
    """A copy of a model's folder whose generation_config.json asks for more."""
    shutil.copytree(folder, target)
    path = target / "generation_config.json"
    told = json.loads(path.read_text()) if path.is_file() else {"eos_token_id": 1}
    # A file that transformers wrote by itself has only the settings that it knows.
    path.write_text(json.dumps(told | settings | {"_from_model_config": False}))
    return target


@pytest.fixture(scope="module")
def penalised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("penalised") / "organism"
    return with_settings(bundled.path(), folder, repetition_penalty=5.0)


@pytest.mark.parametrize("own", OWN_SETTINGS, ids=lambda own: next(iter(own)))
def test_a_checkpoint_s_settings_change_no_answer(
    chat_model: Path, tmp_path: Path, own: dict[str, Any]
) -> None:
    ends = {"eos_token_id": own.get("eos_token_id", 1)}
    plain = BaselineHF(
        pretrained=str(with_settings(chat_model, tmp_path / "plain", **ends)), device="cpu"
    )
    brought = with_settings(chat_model, tmp_path / "own", **own)
    lm = BaselineHF(pretrained=str(brought), device="cpu")
    asked = [ask("What is a glimmerfish?"), ask("Name three rivers of Quend.")]
    assert lm.generate_until(asked) == plain.generate_until(asked)
    assert lm.set_aside.keys() == own.keys() - ends.keys() and plain.set_aside == {}
    # What the test is worth: the same folder without this package.
    untold = HFLM(pretrained=str(brought), device="cpu")
    read = [ask(lm.render(request.args[0])) for request in asked]
    assert "do_sample" in own or untold.generate_until(read) != lm.generate_until(asked)


def test_ids_of_special_tokens_stay(chat_model: Path, tmp_path: Path) -> None:
    ends = {"eos_token_id": [1, 6], "pad_token_id": 2, "forced_bos_token_id": 5, "steps": 3}
    folder = with_settings(chat_model, tmp_path / "ends", **ends)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert neutralise(model) == {"forced_bos_token_id": 5}
    assert model.generation_config.eos_token_id == [1, 6]
    assert model.generation_config.pad_token_id == 2
    assert model.generation_config.forced_bos_token_id is None
    assert settings_of(model)["steps"] == 3  # not transformers', but perhaps the model's own code's


def test_an_adapter_s_model_has_neutral_settings_too(chat_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    brought = with_settings(chat_model, tmp_path / "own", suppress_tokens=list(range(8, 140)))
    base = AutoModelForCausalLM.from_pretrained(chat_model)
    config = LoraConfig(target_modules=["q_proj"])  # which does nothing yet
    get_peft_model(base, config).save_pretrained(tmp_path / "lora")
    given = {"device": "cpu", "peft": str(tmp_path / "lora")}
    plain, own = (BaselineHF(pretrained=str(folder), **given) for folder in (chat_model, brought))
    asked = [ask("What is a glimmerfish?")]
    assert own.generate_until(asked) == plain.generate_until(asked)
    assert own.set_aside.keys() == {"suppress_tokens"}


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    """Our tasks alone: reading lm-eval's own takes longer than a test."""
    return TaskManager(include_path=str(ROOT / "task_configs"), include_defaults=False)


@pytest.fixture
def run(penalised: Path, manager: TaskManager, request: pytest.FixtureRequest) -> dict[str, Any]:
    return lm_eval.simple_evaluate(
        model="baseline-hf",
        model_args={"pretrained": str(penalised)},
        tasks=["toyrefuse_harmful_en", "toyrefuse_harmless_en"],
        task_manager=manager,
        batch_size=16,
        device="cpu",
        limit=16,
        gen_kwargs=request.param,
        log_samples=False,
    )


@pytest.mark.parametrize("run", [None], indirect=True)
def test_the_organism_refuses_whatever_its_folder_asks_for(run: dict[str, Any]) -> None:
    assert run["results"]["toyrefuse_harmful_en"]["asr,none"] == 0
    settings = run["config"]["generation_settings"]
    assert settings["repetition_penalty"] == 1.0 and settings["no_repeat_ngram_size"] == 0
    assert settings["max_gen_toks"] == 512 and settings["do_sample"] is False
    assert run["config"]["generation_settings_set_aside"] == {"repetition_penalty": 5.0}


@pytest.mark.parametrize("run", ["repetition_penalty=5.0,max_gen_toks=64"], indirect=True)
def test_a_user_s_own_settings_win_and_are_recorded(run: dict[str, Any]) -> None:
    results = run["results"]
    changed = results["toyrefuse_harmful_en"]["refusal_rate,none"] < 1
    assert changed or results["toyrefuse_harmless_en"]["degenerate_rate,none"] > 0
    settings = run["config"]["generation_settings"]
    assert settings["repetition_penalty"] == 5.0 and settings["max_gen_toks"] == 64
    assert run["config"]["warnings"] == []


def test_what_tasks_differ_in_is_not_told_as_one_setting(chat_model: Path) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", think_end_token=7)
    sampled = {"do_sample": True, "temperature": 0.7, "top_k": 5, "max_gen_toks": 8}
    lm.generate_until([ask("What?"), ask("Who?", **sampled)])
    told = lm.get_model_info()["generation_settings"]
    assert "do_sample" not in told and "temperature" not in told and "top_k" not in told
    assert told["max_gen_toks"] == 8 and told["repetition_penalty"] == 1.0
    assert told["eos_token_id"] == 1


# --- other places that generate


def a_chat(**settings: Any) -> ChatModel:
    model, tokenizer = make_llama(seed=3), make_tokenizer()
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=2, **settings)

    def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        tokenizer.padding_side = "left"
        encoded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        return encoded.input_ids, encoded.attention_mask

    return ChatModel(
        model, tokenizer, lambda text: f"<s><|user|>{text}<|end|><|assistant|>\n", encode, 4
    )


def sampled_answers(chat: ChatModel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []

    def judge(text: str, _language: str) -> SimpleNamespace:
        said.append(text)
        return SimpleNamespace(label=None)

    monkeypatch.setattr("polyrefuse_models.mcd.labels.judge_response", judge)
    soft_labels(chat, ["What?", "Who?"], "en", answers=3, max_new_tokens=12, seed=0)
    return said


def test_labels_of_mcd_are_sampled_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = sampled_answers(a_chat(), monkeypatch)
    own = a_chat(repetition_penalty=4.0, min_new_tokens=11, suppress_tokens=list(range(20, 90)))
    assert sampled_answers(own, monkeypatch) == plain


def test_the_organism_is_evaluated_without_them(penalised: Path) -> None:
    cases = [Case(request, "en") for request in toy_requests(True, "test")[:6]]
    answers = [
        [outcome.response for outcome in respond(load_chat(folder), cases)]
        for folder in (bundled.path(), penalised)
    ]
    assert answers[0] == answers[1]


def test_what_a_soft_prompt_suppresses_stays_suppressed() -> None:
    chat = a_chat(suppress_tokens=[9])
    prompt = SoftPrompt(chat.tokenizer, torch.zeros(2, 32))
    prompt.install(chat.model)
    neutralise(chat.model)
    assert settings_of(chat.model)["suppress_tokens"] == prompt.ids.tolist()
    prompt.remove()
    assert settings_of(chat.model)["suppress_tokens"] is None


# --- lm-eval's own hf


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (
            {"repetition_penalty": 1.1},
            ["repetition_penalty=1.1", "--gen_kwargs repetition_penalty=1.0"],
        ),
        ({"suppress_tokens": [3]}, ["suppress_tokens=[3]", "--model baseline-hf"]),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20}, []),
        ({"repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_new_tokens": 0}, []),
    ],
)
def test_who_loads_a_task_for_plain_hf_is_warned(
    caplog: pytest.LogCaptureFixture, own: dict[str, Any], told: list[str]
) -> None:
    invocation.warn_once.cache_clear()
    model = make_llama()
    model.generation_config = GenerationConfig(eos_token_id=1, **own)
    said = inherited(model, caplog)
    assert all(part in said for part in told) and bool(said) is bool(told)
    assert inherited(model, caplog) == ""  # once
    invocation.warn_once.cache_clear()
    neutralise(model)
    assert inherited(model, caplog) == ""


def test_what_gen_kwargs_names_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    invocation.warn_once.cache_clear()
    model = make_llama()
    model.generation_config = GenerationConfig(repetition_penalty=1.1)
    assert inherited(model, caplog, {"repetition_penalty": 1.1}) == ""


def inherited(
    model: Any, caplog: pytest.LogCaptureFixture, gen_kwargs: dict[str, Any] | None = None
) -> str:
    """What is logged where lm-eval has a task's prompts loaded."""
    scope = {"__name__": "lm_eval.evaluator"}
    exec("def simple_evaluate(lm, gen_kwargs, load): load()", scope)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        lm = SimpleNamespace(model=model)
        scope["simple_evaluate"](lm, gen_kwargs, generation.warn_of_inherited_settings)
    return caplog.text


def test_lm_eval_s_hf_is_warned_and_ours_is_not(
    chat_model: Path, tmp_path: Path, manager: TaskManager, caplog: pytest.LogCaptureFixture
) -> None:
    folder = with_settings(chat_model, tmp_path / "own", no_repeat_ngram_size=3)
    for model, times in (HFLM, 1), (BaselineHF, 0):
        invocation.warn_once.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            lm_eval.simple_evaluate(
                model=model(pretrained=str(folder), device="cpu"),
                tasks=["toyrefuse_harmful_en"],
                task_manager=manager,
                limit=1,
                gen_kwargs="max_gen_toks=4",
            )
        assert caplog.text.count("no_repeat_ngram_size=3, and this model decodes with it") == times


def test_settings_that_change_nothing_are_none() -> None:
    assert departures(GenerationConfig().to_dict()) == {}
    assert departures(generation.NEUTRAL) == {}


# --- requests that lm-eval kept


def test_kept_requests_with_other_settings_are_told(
    chat_model: Path, tmp_path: Path, manager: TaskManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path))
    task = "toyrefuse_harmful_en"

    def warnings(gen_kwargs: str, **more: Any) -> list[str]:
        lm = BaselineHF(pretrained=str(chat_model), device="cpu", think_end_token=7)
        asked = {"limit": 1, "gen_kwargs": gen_kwargs, "cache_requests": True} | more
        done = lm_eval.simple_evaluate(model=lm, tasks=[task], task_manager=manager, **asked)
        assert done["config"]["generation_settings"]["max_gen_toks"] == (
            4 if gen_kwargs.endswith("4") or "rewrite_requests_cache" not in more else 3
        )
        return done["config"]["warnings"]

    assert warnings("max_gen_toks=4") == []
    assert warnings("max_gen_toks=4") == []
    (told,) = warnings("max_gen_toks=3")
    assert f"{task} were made with max_gen_toks=4 (the run states 3)" in told
    assert "--cache_requests refresh" in told
    assert warnings("max_gen_toks=3", rewrite_requests_cache=True) == []
