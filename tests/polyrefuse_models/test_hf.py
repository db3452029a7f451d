"""The wrappers around lm-eval's HFLM, on a small random chat model."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lm_eval
import pytest
import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from polyrefuse_models.chat_model import extraction_rows
from polyrefuse_models.chat_template import (
    BadTemplate,
    NoChatTemplate,
    user_turn,
    with_system,
)
from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF
from polyrefuse_models.wrappers.response_cache import WrongCache
from polyrefuse_shared import lm_eval_internals as invocation
from polyrefuse_shared.errors import UserError
from tests.models import TEMPLATE, save_chat_model
from tests.polyrefuse_models.templates import (
    BY_DEFAULT,
    DATED,
    DROPS_SYSTEM,
    LOSING,
    NO_SYSTEM,
    OWN_TEXT,
)

SETTINGS = {"until": [], "do_sample": False, "max_gen_toks": 6}
PROMPTS = ["What is a glimmerfish?", "Name three rivers of Quend."]


def request(prompt: str, **settings: Any) -> Instance:
    return Instance(
        "generate_until",
        doc={"id": "invented/0000", "prompt": prompt},
        arguments=(prompt, SETTINGS | settings),
        idx=0,
        metadata=("invented_task", 0, 1),
    )


def a_task(prompts: list[str]) -> dict[str, Any]:
    """A task of invented prompts, as lm-eval takes one inline."""
    return {
        "task": "invented",
        "custom_dataset": lambda **_: {"test": Dataset.from_list([{"prompt": p} for p in prompts])},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "",
        "generation_kwargs": dict(SETTINGS),
        "metric_list": [{"metric": "bypass"}],
    }


@pytest.fixture(scope="module")
def baseline(chat_model: Path) -> BaselineHF:
    return BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def direction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("directions") / "invented"
    candidates = torch.randn(3, 4, 32)
    found = {"source_lang": "de", "position": -1, "layer": 2}
    artifact.save(Direction(candidates[-1, 2], candidates, metadata=found), folder)
    return folder


@pytest.fixture(scope="module")
def ablated(chat_model: Path, direction: Path) -> AblatedHF:
    return AblatedHF(pretrained=str(chat_model), direction=str(direction), device="cpu")


def inputs_of(lm: BaselineHF, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Collects what `generate` is given, padding removed."""
    seen: list[list[int]] = []
    generate = lm.model.generate

    def spy(input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        padding = lm.tokenizer.pad_token_id
        seen.extend([[t for t in row if t != padding] for row in input_ids.tolist()])
        return generate(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(lm.model, "generate", spy)
    return seen


# --- the chat template


def test_the_template_is_applied_once_with_one_bos(
    baseline: BaselineHF, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = inputs_of(baseline, monkeypatch)
    baseline.generate_until([request(PROMPTS[0])])
    decoded = baseline.tokenizer.decode(seen[0])
    assert decoded == f"<s><|user|>{PROMPTS[0]}<|end|><|assistant|>\n"


def test_the_harness_s_template_is_not_applied_again(
    baseline: BaselineHF, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = inputs_of(baseline, monkeypatch)
    lm_eval.simple_evaluate(
        model=baseline,
        tasks=[a_task(PROMPTS[:1])],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=True,
        system_instruction="Be kind.",
    )
    told = f"<s><|system|>Be kind.<|end|><|user|>{PROMPTS[0]}<|end|><|assistant|>\n"
    assert baseline.tokenizer.decode(seen[0]) == told


def test_chat_off_leaves_prompts_plain(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = BaselineHF(pretrained=str(chat_model), chat="off", device="cpu")
    seen = inputs_of(lm, monkeypatch)
    lm.generate_until([request(PROMPTS[0])])
    assert lm.tokenizer.decode(seen[0]) == PROMPTS[0]


def test_a_model_without_a_template(tmp_path: Path) -> None:
    save_chat_model(tmp_path, template=None)
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    with pytest.raises(NoChatTemplate, match="no chat template.*chat=off"):
        lm.generate_until([request(PROMPTS[0])])
    lm = BaselineHF(pretrained=str(tmp_path), chat="off", device="cpu")
    assert len(lm.generate_until([request(PROMPTS[0])])) == 1


def test_a_system_instruction_needs_the_harness_s_template(
    baseline: BaselineHF, chat_model: Path
) -> None:
    with pytest.raises(UserError, match="add that flag") as told:
        lm_eval.simple_evaluate(
            model=baseline,
            tasks=[a_task(PROMPTS)],
            task_manager=TaskManager(include_defaults=False),
            system_instruction="Be kind.",
        )
    assert "--apply_chat_template" in str(told.value)


def evaluated(
    lm: BaselineHF, monkeypatch: pytest.MonkeyPatch, prompts: list[str] = PROMPTS[:1], **asked: Any
) -> tuple[list[str], dict[str, Any]]:
    """What the model reads in an evaluation whose harness applies the template, and `config`."""
    seen = inputs_of(lm, monkeypatch)
    done = lm_eval.simple_evaluate(
        model=lm,
        tasks=[a_task(prompts)],
        task_manager=TaskManager(include_defaults=False),  # quick: no task of lm-eval's is read
        **{"apply_chat_template": True, "bootstrap_iters": 0} | asked,
    )
    return [lm.tokenizer.decode(ids) for ids in seen], done["config"]


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_a_system_instruction_is_read_where_there_is_no_system_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    save_chat_model(tmp_path, template)
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    (read,), _ = evaluated(lm, monkeypatch, system_instruction="Be kind.")
    assert read == f"<s><|user|>Be kind.\n\n{PROMPTS[0]}<|end|><|assistant|>\n"
    shot = [user_turn("Wet?"), {"role": "assistant", "content": "Yes."}, user_turn("Dry?")]
    read = lm.apply_chat_template(with_system(shot, "Be kind."))
    expected = "<|user|>Be kind.\n\nWet?<|end|><|assistant|>Yes.<|end|><|user|>Dry?<|end|>"
    assert read == f"<s>{expected}<|assistant|>\n"


@pytest.mark.parametrize("harness", [True, False])
@pytest.mark.parametrize("lost", ["another text", "parts", "lower case"])
def test_a_template_that_loses_prompts_is_refused_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str, harness: bool
) -> None:
    save_chat_model(tmp_path, LOSING[lost])
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    with pytest.raises(BadTemplate, match=f"chat template of {tmp_path} does not write what the u"):
        evaluated(lm, monkeypatch, apply_chat_template=harness)
    off = BaselineHF(pretrained=str(tmp_path), device="cpu", chat="off")
    assert len(off.generate_until([request(PROMPTS[0])])) == 1


def test_answers_that_do_not_depend_on_the_prompt_are_warned_of(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu")
    said = iter([])
    monkeypatch.setattr(HFLM, "generate_until", lambda self, rows, **_: [next(said) for _ in rows])

    def ask(prompts: int, language: str | None = "en", times: int = 1) -> None:
        rows = []
        for number in range(prompts):
            row = request(f"What is fish {number}?")
            row.doc_id, row.doc["language"] = number, language
            if language is None:
                del row.doc["language"]
            rows += [row] * times
        lm.generate_until(rows)

    for prompts, language in ((12, "en"), (16, None)):
        said = iter(
            ["A glimmerfish is a small fish.", "I'm sorry, but I can't help with that."] * 8
        )
        # Six are refusals, the others too few to say anything.
        ask(prompts, language)
    said = iter(["A glimmerfish is a small fish."] * 75)
    ask(3, times=25)  # sampled: alike, since they answer three prompts
    assert not any("whatever the prompt" in warning for warning in lm.warnings)
    said = iter(["A glimmerfish is a small fish."] * 12)
    ask(12)
    (warning,) = [told for told in lm.warnings if "whatever the prompt" in told]
    assert warning.startswith("invented_task: 12 of the 12 answers that are not refusals are the")


def test_each_prompt_is_looked_for_in_what_the_model_would_read(tmp_path: Path) -> None:
    save_chat_model(tmp_path, TEMPLATE.replace("content }}", "content | replace('rivers', '') }}"))
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    assert len(lm.generate_until([request(PROMPTS[0])])) == 1
    with pytest.raises(
        BadTemplate, match="loses or changes the text of turn 1 of 1, the user's .27 char"
    ):
        lm.generate_until([request(prompt) for prompt in PROMPTS])


def test_named_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_chat_model(tmp_path)
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    with pytest.raises(NoChatTemplate, match="which has no name, and none called 'rag'"):
        evaluated(lm, monkeypatch, apply_chat_template="rag")
    lm.tokenizer.chat_template = {"chat": TEMPLATE, "rag": BY_DEFAULT}
    (read,), told = evaluated(lm, monkeypatch, apply_chat_template="rag")
    assert read == f"<s><|system|>{OWN_TEXT}<|end|><|user|>{PROMPTS[0]}<|end|><|assistant|>\n"
    assert told["system_text"] == OWN_TEXT
    for asked, said in ((True, "none of them is the default"), ("tool", "no chat template 'tool'")):
        with pytest.raises(NoChatTemplate, match=said):
            evaluated(lm, monkeypatch, apply_chat_template=asked)
    with pytest.raises(NoChatTemplate, match="name one with --apply_chat_template NAME"):
        lm.generate_until([request(PROMPTS[0])])
    lm.tokenizer.chat_template = None
    with pytest.raises(NoChatTemplate, match="has no chat template; give"):
        evaluated(lm, monkeypatch)


# --- the system text


@pytest.fixture
def inserting(tmp_path: Path) -> dict[str, Any]:
    """A model whose template has a system text of its own."""
    save_chat_model(tmp_path / "model", BY_DEFAULT)
    return {"pretrained": str(tmp_path / "model"), "device": "cpu"}


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "glorbons.txt").write_text("Mind the glorbons.\n")
    return str(tmp_path / "glorbons.txt")


def test_the_template_s_own_system_text_is_told(
    inserting: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lm = BaselineHF(**inserting)
    with caplog.at_level(logging.WARNING):
        (read,), told = evaluated(lm, monkeypatch)
    assert OWN_TEXT in read
    assert caplog.text.count(f"inserts its own system text: {OWN_TEXT!r}") == 1
    assert (told["condition"], told["system"], told["system_text"]) == (
        "baseline",
        "template",
        OWN_TEXT,
    )
    assert told["system_sha256"] is None
    # A system text that is given stands in its place.
    (read,), told = evaluated(lm, monkeypatch, system_instruction="Be kind.")
    assert read.startswith("<s><|system|>Be kind.<|end|>") and told["system_text"] is None


def test_no_system_text(inserting: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lm = BaselineHF(**inserting, system="none")
    expected = f"<s><|user|>{PROMPTS[0]}<|end|><|assistant|>\n"
    (read,), told = evaluated(lm, monkeypatch)
    assert read == lm.render(PROMPTS[0]) == lm.chat_model.render(PROMPTS[0]) == expected
    assert (told["condition"], told["system"], told["system_text"]) == ("baseline", "none", None)
    with pytest.raises(UserError, match="system=nothing is not known"):
        BaselineHF(pretrained="never loaded", system="nothing")


def test_a_file_s_system_text(
    inserting: dict[str, Any],
    file: str,
    direction: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lm = BaselineHF(**inserting, system_file=file)
    (read,), told = evaluated(lm, monkeypatch)
    ending = f"<|end|><|user|>{PROMPTS[0]}<|end|><|assistant|>\n"
    assert read == lm.render(PROMPTS[0]) == f"<s><|system|>Mind the glorbons.{ending}"
    assert (told["condition"], told["system"]) == ("system-prompt", "file")
    assert told["system_text"] == "Mind the glorbons."
    assert told["system_sha256"] == hashlib.sha256(b"Mind the glorbons.").hexdigest()
    ablated = AblatedHF(**inserting, system_file=file, direction=str(direction))
    assert ablated.condition == "ablation+system-prompt"
    assert BaselineHF(**inserting).condition == "baseline"
    names = {BaselineHF(**inserting, **s).tokenizer_name for s in ({}, {"system": "none"})}
    assert len({*names, lm.tokenizer_name}) == 3


def test_a_file_s_system_text_where_no_template_is_applied(
    inserting: dict[str, Any], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(**inserting, system_file=file, chat="off")
    seen = inputs_of(lm, monkeypatch)
    lm.generate_until([request(PROMPTS[0])])
    assert lm.tokenizer.decode(seen[0]) == f"Mind the glorbons.\n\n{PROMPTS[0]}"
    pair = Instance("loglikelihood", {}, ("A glimmerfish is", " small"), 0, ("t", 0, 1))
    ahead = ("Mind the glorbons.\n\nA glimmerfish is", " small")
    same = Instance("loglikelihood", {}, ahead, 0, ("t", 0, 1))
    assert lm.loglikelihood([pair]) == BaselineHF(**inserting).loglikelihood([same])
    whole = Instance("loglikelihood_rolling", {}, ("Quend has rivers.",), 0, ("rivers", 0, 1))
    with pytest.raises(UserError, match="system_file=.*glorbons.txt cannot be used in rivers"):
        lm.loglikelihood_rolling([whole])


def test_a_direction_is_extracted_under_the_same_system_text(
    inserting: dict[str, Any],
) -> None:
    own, none = (
        AblatedHF(**inserting, system=system, dataset="toyrefuse", batch_size=32).asked.direction
        for system in ("template", "none")
    )
    assert (own.metadata["system"], own.metadata["system_text"]) == ("template", OWN_TEXT)
    assert (none.metadata["system"], none.metadata["system_text"]) == ("none", None)
    assert own.sha256 != none.sha256


def test_a_direction_of_another_system_text_is_warned_of(
    inserting: dict[str, Any], tmp_path: Path
) -> None:
    vector = torch.ones(32)
    told = {"system": "template", "system_text": OWN_TEXT}
    artifact.save(Direction(vector, vector[None, None], metadata=told), tmp_path / "d")
    given = inserting | {"direction": str(tmp_path / "d")}
    said = "extracted with the system text 'You are Glorb, a gardener of Quend.' and is used with"
    assert not any(said in warning for warning in AblatedHF(**given).warnings)
    warnings = AblatedHF(**given, system="none").warnings
    assert sum(f"{said} None" in warning for warning in warnings) == 1
    done = lm_eval.simple_evaluate(
        model="ablated-hf",
        model_args=given,
        tasks=[a_task(PROMPTS[:1])],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=True,
        system_instruction="Be kind.",
        bootstrap_iters=0,
    )
    warnings = done["config"]["warnings"]
    assert sum(f"{said} 'Be kind.'" in warning for warning in warnings) == 1


def test_two_system_texts_are_refused(
    inserting: dict[str, Any], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(**inserting, system_file=file)
    for asked in ({}, {"apply_chat_template": False}):
        with pytest.raises(UserError, match="--system_instruction and a system file are two"):
            evaluated(lm, monkeypatch, system_instruction="Be kind.", **asked)
    with pytest.raises(UserError, match="truncation=True cuts off the beginning, where the system"):
        BaselineHF(**inserting, system_file=file, truncation=True)


def test_results_are_of_one_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads a model once and evaluates it twice gets each time that run's own."""
    save_chat_model(tmp_path, {"default": BY_DEFAULT, "dated": DATED})
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    standing = list(lm.warnings)
    _, first = evaluated(
        lm, monkeypatch, apply_chat_template="dated", gen_kwargs="repetition_penalty=1.5"
    )
    assert len(first["warnings"]) == len(standing) + 1
    assert "inserts today's date" in first["warnings"][-1]
    assert first["generation_settings"]["repetition_penalty"] == 1.5
    _, second = evaluated(lm, monkeypatch)
    assert second["warnings"] == standing
    assert second["generation_settings"]["repetition_penalty"] == 1.0
    assert second["system_text"] == OWN_TEXT
    assert len(first["warnings"]) == len(standing) + 1


@pytest.mark.parametrize("harness", [True, False])
def test_a_template_that_does_not_open_an_answer_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harness: bool
) -> None:
    save_chat_model(tmp_path, TEMPLATE.partition("{% if add_generation_prompt %}")[0])
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    _, told = evaluated(lm, monkeypatch, apply_chat_template=harness)
    said = "does not open an answer: it writes '<|assistant|>' before the answers in a chat"
    assert sum(said in warning for warning in told["warnings"]) == 1


def test_a_date_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_chat_model(tmp_path, DATED)
    _, told = evaluated(BaselineHF(pretrained=str(tmp_path), device="cpu"), monkeypatch)
    assert sum("inserts today's date" in warning for warning in told["warnings"]) == 1
    assert "Today Date" in told["system_text"]
    fixed = {"date_string": "7 May 2031"}
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu", chat_template_args=fixed)
    _, told = evaluated(lm, monkeypatch)
    assert not any("today's date" in warning for warning in told["warnings"])
    assert told["system_text"].endswith("Today Date: 7 May 2031")


def test_an_unknown_chat_setting() -> None:
    with pytest.raises(UserError, match="chat=maybe"):
        BaselineHF(pretrained="never loaded", chat="maybe")


# --- long prompts, answers


def test_a_prompt_beyond_the_window_is_refused(chat_model: Path) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", max_length=64)
    with pytest.raises(UserError, match="invented/0000 of invented_task has 8. tokens.*of 64"):
        lm.generate_until([request(PROMPTS[0]), request("x" * 80)])
    cutting = BaselineHF(pretrained=str(chat_model), device="cpu", max_length=64, truncation=True)
    assert len(cutting.generate_until([request("x" * 80)])) == 1


def test_answers_are_those_of_plain_hf_and_in_order(baseline: BaselineHF, chat_model: Path) -> None:
    plain = HFLM(pretrained=str(chat_model), device="cpu", batch_size=2)
    rendered = [request(baseline.render(prompt)) for prompt in PROMPTS]
    assert baseline.generate_until([request(p) for p in PROMPTS]) == plain.generate_until(rendered)


@pytest.mark.parametrize("end", ["</think>", 7])
def test_reasoning_is_cut_off_where_it_ended_and_marked_where_it_did_not(
    chat_model: Path, end: str | int
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", think_end_token=end)
    said = lm.tokenizer("Hm, let me see.", add_special_tokens=False).input_ids
    answer = lm.tokenizer(" It is a fish.", add_special_tokens=False).input_ids
    assert lm.tokenizer.convert_tokens_to_ids("</think>") == 7
    assert lm.tok_decode([*said, 7, *answer]) == "It is a fish."
    assert lm.tok_decode(said) == "<think>Hm, let me see."


def test_reasoning_that_the_template_opened_is_marked(tmp_path: Path) -> None:
    opened = TEMPLATE.replace("<|assistant|>\n", "<|assistant|>\n<think>\n")
    save_chat_model(tmp_path, template=opened)
    lm = BaselineHF(pretrained=str(tmp_path), device="cpu")
    plain = HFLM(pretrained=str(tmp_path), device="cpu")
    (answer,) = plain.generate_until([request(lm.render(PROMPTS[0]))])
    assert lm.generate_until([request(PROMPTS[0])]) == ["<think>" + answer]


# --- the ablation


def test_ablation_is_in_place_for_every_kind_of_request(
    baseline: BaselineHF, ablated: AblatedHF
) -> None:
    pair = Instance("loglikelihood", {}, ("A glimmerfish is", " small"), 0, ("t", 0, 1))
    assert baseline.loglikelihood([pair])[0] != ablated.loglikelihood([pair])[0]
    requests = [request(prompt) for prompt in PROMPTS]
    assert baseline.generate_until(requests) != ablated.generate_until(requests)
    plain = HFLM(pretrained=str(baseline.pretrained), device="cpu")
    assert plain.loglikelihood([pair]) == baseline.loglikelihood([pair])


def test_generation_never_writes_along_the_direction(ablated: AblatedHF) -> None:
    unit = torch.nn.functional.normalize(ablated.asked.direction.direction, dim=0)
    largest = []
    handle = ablated.model.model.layers[3].register_forward_pre_hook(
        lambda _m, args: largest.append((args[0] @ unit).abs().max().item())
    )
    ablated.generate_until([request(PROMPTS[0])])
    handle.remove()
    assert len(largest) > 1 and max(largest) < 1e-5


def test_what_was_done_is_told(ablated: AblatedHF, baseline: BaselineHF, direction: Path) -> None:
    told = ablated.get_model_info()
    assert told["condition"] == "ablation"
    assert told["direction_sha256"] == artifact.load(direction).sha256
    assert (told["source_lang"], told["position"], told["layer"]) == ("de", -1, 2)
    assert told["method"] == "weights"
    assert {"lm_eval", "torch", "transformers", "lm-eval-polyrefuse"} <= told["versions"].keys()
    assert told["model_num_parameters"] > 0
    assert baseline.get_model_info()["condition"] == "baseline"


def test_auto_is_the_artifact_that_it_would_write(
    chat_model: Path, mirror: Path, tmp_path: Path
) -> None:
    auto = AblatedHF(pretrained=str(chat_model), device="cpu", batch_size=32, source_lang="ko")
    artifact.save(auto.asked.direction, tmp_path / "ko")
    read = AblatedHF(pretrained=str(chat_model), device="cpu", direction=str(tmp_path / "ko"))
    assert read.identity() == auto.identity()
    assert read.generate_until([request(PROMPTS[0])]) == auto.generate_until([request(PROMPTS[0])])


def test_bad_directions(chat_model: Path, tmp_path: Path, direction: Path) -> None:
    with pytest.raises(BadDirection, match="absent is not a folder; .* with one vector, or auto"):
        AblatedHF(pretrained="never loaded", direction=str(tmp_path / "absent"))
    wide = replace(artifact.load(direction), direction=torch.ones(33))
    artifact.save(wide, tmp_path / "wide")
    with pytest.raises(BadDirection, match="shape .33,., and the model's residual stream has 32"):
        AblatedHF(pretrained=str(chat_model), direction=str(tmp_path / "wide"), device="cpu")


def test_refusal_tokens_must_be_single_tokens(chat_model: Path, mirror: Path) -> None:
    with pytest.raises(UserError, match="'no', which is 2 tokens"):
        AblatedHF(pretrained=str(chat_model), device="cpu", refusal_tokens="N|no")


def test_an_unknown_source_language(chat_model: Path, mirror: Path) -> None:
    with pytest.raises(UserError, match="xx"):
        AblatedHF(pretrained=str(chat_model), device="cpu", source_lang="xx")


# --- arguments that are HFLM's


def test_bfloat16_and_automatic_batches(chat_model: Path, mirror: Path) -> None:
    lm = AblatedHF(pretrained=str(chat_model), device="cpu", dtype="bfloat16", batch_size="auto")
    assert lm.model.dtype is torch.bfloat16
    assert lm.asked.direction.direction.dtype is torch.float32
    lm.batch_size_per_gpu = 2
    assert len(lm.generate_until([request(prompt) for prompt in PROMPTS])) == 2


def test_a_peft_adapter(chat_model: Path, direction: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(chat_model)
    config = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path)
    given = {"pretrained": str(chat_model), "device": "cpu", "peft": str(tmp_path)}
    adapted, ablated_too = BaselineHF(**given), AblatedHF(**given, direction=str(direction))
    unit = torch.nn.functional.normalize(ablated_too.asked.direction.direction, dim=0)
    seen = []
    ablated_too.model.get_decoder().norm.register_forward_pre_hook(
        lambda _m, args: seen.append((args[0] @ unit).abs().max().item())
    )
    answers = [lm.generate_until([request(PROMPTS[0])]) for lm in (adapted, ablated_too)]
    assert answers[0] != answers[1]
    assert max(seen) < 1e-5
    assert adapted.identity()["peft"] == str(tmp_path)


@pytest.mark.parametrize(("asked", "rows"), [(1, 8), (32, 32), ("auto", 8)])
def test_extraction_has_several_rows_in_a_pass(
    chat_model: Path, asked: int | str, rows: int
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=asked)
    assert lm.chat_model.batch_size == rows


@pytest.mark.parametrize(
    ("asked", "device", "rows"),
    [(1, "cpu", 8), (3, "cpu", 8), (40, "cpu", 40), ("auto", "cpu", 8), (1, "cuda:1", 128)]
    + [("auto:4", "cuda", 128), (2, "cuda", 8), (16, "cuda", 16), (500, "cuda", 500)],
)
def test_rows_of_extraction_follow_the_device_unless_they_were_asked_for(
    asked: int | str, device: str, rows: int
) -> None:
    assert extraction_rows(asked, torch.device(device)) == rows


# --- caches


def test_a_cache_belongs_to_one_condition(
    baseline: BaselineHF, ablated: AblatedHF, tmp_path: Path
) -> None:
    cache = str(tmp_path / "answers.db")
    requests = [request(prompt) for prompt in PROMPTS]
    answers = CachingLM(baseline, cache).generate_until(requests)
    with pytest.raises(
        WrongCache, match="condition=baseline .now ablation.*its own --use_cache path"
    ):
        CachingLM(ablated, cache)
    # Its own condition reads it again, answers and all.
    again = CachingLM(baseline, cache)
    baseline_model, baseline._model = baseline._model, None
    try:
        assert again.generate_until(requests) == answers
    finally:
        baseline._model = baseline_model


def test_a_cache_that_plain_hf_wrote_is_refused(
    baseline: BaselineHF, chat_model: Path, tmp_path: Path
) -> None:
    cache = str(tmp_path / "answers.db")
    CachingLM(HFLM(pretrained=str(chat_model), device="cpu"), cache).generate_until(
        [request(PROMPTS[0])]
    )
    with pytest.raises(WrongCache, match="no recorded condition"):
        CachingLM(baseline, cache)


def test_an_interrupted_run_keeps_its_answers(
    chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu", batch_size=1)
    requests = [request(prompt) for prompt in PROMPTS]
    expected = lm.generate_until(requests)
    cache = str(tmp_path / "answers.db")
    generate, calls = lm.model.generate, []

    def interrupted(**kwargs: Any) -> torch.Tensor:
        calls.append(kwargs)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(**kwargs)

    monkeypatch.setattr(lm.model, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CachingLM(lm, cache).generate_until(requests)
    assert CachingLM(lm, cache).generate_until(requests) == expected
    assert len(calls) == 3  # one before the interrupt, the interrupted one, and that one again


# --- publishing


def test_publishing_samples_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    invocation.warn_once.cache_clear()
    code = "def simple_evaluate(evaluation_tracker, call): return call()"
    scope = {"__name__": "lm_eval.evaluator"}
    exec(code, scope)
    with caplog.at_level(logging.WARNING):
        scope["simple_evaluate"](
            SimpleNamespace(push_samples_to_hub=False), invocation.warn_before_publishing
        )
        assert not caplog.records
        for _ in range(2):
            scope["simple_evaluate"](
                SimpleNamespace(push_samples_to_hub=True), invocation.warn_before_publishing
            )
    assert len(caplog.records) == 1
    assert "upload every completion" in caplog.text
