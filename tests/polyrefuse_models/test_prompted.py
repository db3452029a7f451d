"""`mcd-hf`, and a prompt in front of an ablated model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.chat_template import BadTemplate
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.interventions.soft_prompt import embed_text
from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd.artifact import BadPrompt, Prompt
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, McdHF, RefusalAddedHF
from polyrefuse_models.wrappers.response_cache import WrongCache
from polyrefuse_shared.errors import UserError
from tests.models import save_chat_model
from tests.polyrefuse_models.templates import DROPS_SYSTEM, NO_SYSTEM, ONLY_ANSWERS
from tests.polyrefuse_models.test_hf import PROMPTS, a_task, evaluated, inputs_of, request

SHORT = SAFETY_PROMPTS["short"]
PAIRS = [
    Instance("loglikelihood", {}, pair, 0, ("t", 0, 1))
    for pair in (("A glimmerfish is", " small"), ("Quend", " has three rivers"), ("", "Quend"))
]
ROLLING = Instance("loglikelihood_rolling", {}, ("Quend has rivers.",), 0, ("rivers", 0, 1))


def answers(lm: BaselineHF) -> list[str]:
    return lm.generate_until([request(prompt, max_gen_toks=12) for prompt in PROMPTS])


def likelihoods(lm: BaselineHF) -> list[float]:
    return [answer[0] for answer in lm.loglikelihood(PAIRS)]


@pytest.fixture(scope="module")
def prompt(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An artifact with vectors of no words."""
    folder = tmp_path_factory.mktemp("prompts") / "invented"
    vectors = torch.randn(6, 32, generator=torch.Generator().manual_seed(5))
    told = {"model": str(chat_model), "dataset": "toyrefuse", "languages": ["en", "de"]}
    anchors = {"overlap": {"polyrefuse": ["polyrefuse/harmful/0001"]}}
    artifact.save(Prompt(vectors, told | {"anchors": anchors}), folder)
    return str(folder)


@pytest.fixture(scope="module")
def as_vectors(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An artifact with the embeddings of the short safety prompt."""
    folder = tmp_path_factory.mktemp("prompts") / "short"
    model = AutoModelForCausalLM.from_pretrained(chat_model)
    artifact.save(
        Prompt(embed_text(model, AutoTokenizer.from_pretrained(chat_model), SHORT)), folder
    )
    return str(folder)


@pytest.fixture(scope="module")
def given(chat_model: Path) -> dict[str, Any]:
    return {"pretrained": str(chat_model), "device": "cpu", "batch_size": 2}


@pytest.fixture(scope="module")
def learned(given: dict[str, Any], prompt: str) -> McdHF:
    return McdHF(**given, prompt=prompt)


def save_checkpoint(chat_model: Path, folder: Path, vectors: torch.Tensor) -> None:
    """A PEFT prompt-tuning checkpoint as peft writes it."""
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=len(vectors),
        base_model_name_or_path=str(chat_model),
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(chat_model), config)
    model.prompt_encoder["default"].embedding.weight.data.copy_(vectors)
    model.save_pretrained(folder)


# --- the prompt in its place


def test_the_embeddings_of_a_text_answer_as_the_text_does(
    given: dict[str, Any], as_vectors: str
) -> None:
    words, vectors = McdHF(**given, prompt="short"), McdHF(**given, prompt=as_vectors)
    assert answers(words) == answers(vectors) != answers(BaselineHF(**given))
    assert likelihoods(vectors) == pytest.approx(likelihoods(words), abs=1e-4)


def test_a_prompt_moves_every_kind_of_answer(
    learned: McdHF, given: dict[str, Any], prompt: str
) -> None:
    baseline = BaselineHF(**given)
    assert answers(learned) != answers(baseline)
    pairs = zip(likelihoods(learned), likelihoods(baseline), strict=True)
    assert all(abs(one - other) > 1e-3 for one, other in pairs)
    assert answers(learned) == answers(McdHF(**given | {"batch_size": 1}, prompt=prompt))


def test_it_stands_in_the_system_turn_whoever_applies_the_template(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = McdHF(**given, prompt="short")
    seen = inputs_of(lm, monkeypatch)
    answers(lm)
    lm_eval.simple_evaluate(
        model=lm,
        tasks=[a_task(PROMPTS[:1])],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=True,
        system_instruction="Be brief.",
        bootstrap_iters=0,
    )
    _, ours, theirs = (lm.tokenizer.decode(ids) for ids in seen)
    ending = f"<|end|><|user|>{PROMPTS[0]}<|end|><|assistant|>\n"
    assert ours == f"<s><|system|>{SHORT}{ending}"
    assert theirs == f"<s><|system|>{SHORT}\n\nBe brief.{ending}"


def test_it_stands_in_the_user_s_turn_where_there_is_no_system_role(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_chat_model(tmp_path, NO_SYSTEM)
    lm = McdHF(pretrained=str(tmp_path), device="cpu", prompt="short")
    seen = inputs_of(lm, monkeypatch)
    lm.generate_until([request(PROMPTS[0])])
    expected = f"<s><|user|>{SHORT}\n\n{PROMPTS[0]}<|end|><|assistant|>\n"
    assert lm.tokenizer.decode(seen[0]) == expected


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_it_stands_there_beside_a_system_instruction(
    tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_chat_model(tmp_path, template)
    lm = McdHF(pretrained=str(tmp_path), device="cpu", prompt="short")
    (read,), _ = evaluated(lm, monkeypatch, system_instruction="Be brief.")
    expected = f"<s><|user|>{SHORT}\n\nBe brief.\n\n{PROMPTS[0]}<|end|><|assistant|>\n"
    assert read == expected


def test_a_learned_prompt_and_a_system_file(
    given: dict[str, Any], prompt: str, direction: str, tmp_path: Path
) -> None:
    (tmp_path / "s.txt").write_text("Be brief.")
    settings = given | {"system_file": str(tmp_path / "s.txt"), "prompt": prompt}
    lm = McdHF(**settings)
    assert lm.condition == "mcd+system-prompt"
    soft = lm.interventions[0].text
    ending = f"<|end|><|user|>{PROMPTS[0]}<|end|><|assistant|>\n"
    assert lm.render(PROMPTS[0]) == f"<s><|system|>{soft}\n\nBe brief.{ending}"
    assert lm.plain(PROMPTS[0]) == f"{soft}\n\nBe brief.\n\n{PROMPTS[0]}"
    ablated = AblatedHF(**settings, direction=direction)
    assert ablated.condition == "ablation+mcd+system-prompt"
    with pytest.raises(UserError, match="prompt=short is a system text in words, and so is sys"):
        McdHF(**settings | {"prompt": "short"})


def test_it_stands_in_front_where_there_is_no_template(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = McdHF(**given, prompt="short", chat="off")
    seen = inputs_of(lm, monkeypatch)
    answers(lm)
    assert lm.tokenizer.decode(seen[1]) == f"{SHORT}\n\n{PROMPTS[0]}"
    scored: list[str] = []
    forward = lm.model.forward

    def spy(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        scored.extend(lm.tokenizer.decode(row) for row in input_ids)
        return forward(input_ids, **kwargs)

    monkeypatch.setattr(lm.model, "forward", spy)
    lm.loglikelihood(PAIRS[:1])
    lm.loglikelihood(PAIRS[2:])
    # The last token of what is scored is not read; an empty context is one that begins a text.
    assert scored[0] == f"{SHORT}\n\nA glimmerfish is smal"
    assert scored[1] == f"<s>{SHORT}Quen"


def test_the_harness_s_template_has_it_in_scored_requests(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = McdHF(**given, prompt="short")
    scored: list[str] = []
    encode = lm._loglikelihood_tokens

    def spy(requests: list, *args: Any, **kwargs: Any) -> Any:
        scored.extend(key[0] for key, *_ in requests)
        return encode(requests, *args, **kwargs)

    monkeypatch.setattr(lm, "_loglikelihood_tokens", spy)
    choice = {"output_type": "multiple_choice", "doc_to_choice": ["one", "two"]}
    task = {k: v for k, v in a_task(PROMPTS[:1]).items() if k != "generation_kwargs"} | choice
    task |= {"doc_to_target": 0, "metric_list": [{"metric": "acc"}]}
    calls: list[list[int]] = []
    behind = lm.prompting.behind

    def watched(context: list[int], prefix: int | None) -> list[int]:
        calls.append(behind(context, prefix))
        assert calls[-1] == context
        return calls[-1]

    monkeypatch.setattr(lm.prompting, "behind", watched)
    lm_eval.simple_evaluate(
        model=lm,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    assert len(calls) == len(scored) == 2
    assert all(text.count(SHORT) == 1 for text in scored)


def test_arguments_that_are_hflm_s(given: dict[str, Any], prompt: str) -> None:
    lm = McdHF(**given | {"batch_size": "auto"}, prompt=prompt, dtype="bfloat16")
    lm.batch_size_per_gpu = 2
    assert len(answers(lm)) == 2 and len(likelihoods(lm)) == 3
    lm = McdHF(**given, prompt=prompt, parallelize=True)  # device_map
    assert len(answers(lm)) == 2


def test_an_adapter_and_a_prompt(
    given: dict[str, Any], chat_model: Path, as_vectors: str, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(chat_model)
    config = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path)
    words = McdHF(**given, prompt="short", peft=str(tmp_path))
    vectors = McdHF(**given, prompt=as_vectors, peft=str(tmp_path))
    inside = vectors.model.get_base_model()
    assert len(inside.generation_config.suppress_tokens) == len(SHORT)
    assert answers(words) == answers(vectors) != answers(McdHF(**given, prompt="short"))
    assert likelihoods(vectors) == pytest.approx(likelihoods(words), abs=1e-4)


# --- what peft loads


@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # that it drops positions
def test_a_peft_checkpoint_does_what_peft_s_own_model_does(
    given: dict[str, Any], chat_model: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    vectors = torch.randn(5, 32, generator=torch.Generator().manual_seed(6))
    save_checkpoint(chat_model, tmp_path / "p", vectors)
    lm, plain = McdHF(**given, prompt=str(tmp_path / "p")), BaselineHF(**given)
    told = lm.identity()
    assert (told["condition"], told["prompt_source"]) == ("mcd", "peft")
    # Behind the padding, so that a sliding window counts it as near as it is.
    ids, mask = lm.tok_batch_encode([plain.render(prompt) for prompt in PROMPTS])
    own = lm.tokenizer.convert_tokens_to_ids([f"<|soft_prompt_{index}|>" for index in range(5)])
    for row, real, prompt in zip(ids, mask.bool(), PROMPTS, strict=True):
        assert row[real].tolist() == own + plain.tok_encode(plain.render(prompt))
        assert (row[~real] == lm.tokenizer.pad_token_id).all()
        assert (real.diff().sum(), real[-1]) == ((~real).any(), True)  # padding, then no gap
    base = AutoModelForCausalLM.from_pretrained(chat_model)
    theirs = PeftModel.from_pretrained(base, tmp_path / "p").eval()
    # Ours in a padded batch, and theirs alone, where nothing is padded.
    for prompt, answer in zip(PROMPTS, answers(lm), strict=True):
        ids = plain.tok_encode(plain.render(prompt))
        settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 2}
        # peft 0.21's own generation does not know transformers 5.24's name of the cache.
        settings["use_cache"] = False
        found = theirs.generate(input_ids=torch.tensor([ids]), **settings)[0, len(ids) :]
        assert answer == plain.tok_decode(found)
    for pair, likelihood in zip(PAIRS[:2], likelihoods(lm)[:2], strict=True):
        context, ending = plain._encode_pair(*pair.args)
        with torch.no_grad():
            logits = theirs(input_ids=torch.tensor([context + ending])).logits[0, :-1]
        scores = logits.log_softmax(-1)[-len(ending) :]
        expected = scores.gather(1, torch.tensor(ending)[:, None]).sum().item()
        assert likelihood == pytest.approx(expected, abs=1e-4)


def test_another_kind_of_adapter(chat_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(chat_model)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "lora")
    with pytest.raises(BadPrompt, match="of kind LORA; give a checkpoint of kind PROMPT_TUNING"):
        McdHF(pretrained="never loaded", prompt=str(tmp_path / "lora"))
    save_checkpoint(chat_model, tmp_path / "p", torch.randn(3, 32))
    (tmp_path / "p" / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadPrompt, match="is not a PEFT checkpoint, or is damaged"):
        McdHF(pretrained="never loaded", prompt=str(tmp_path / "p"))


# --- with the direction ablated or added


def block_inputs(lm: BaselineHF, unit: torch.Tensor) -> list[float]:
    """The largest |x.r| at every block's input and the final norm's, over everything asked."""
    seen: list[float] = []

    def look(_module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        seen.append((x @ unit).abs().max().item())

    watched = [block.module for block in dissect(lm.model).blocks] + [lm.model.get_decoder().norm]
    handles = [m.register_forward_pre_hook(look, with_kwargs=True) for m in watched]
    answers(lm)
    likelihoods(lm)
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def logits(lm: BaselineHF) -> torch.Tensor:
    ids, mask = lm.tok_batch_encode([lm.render(prompt) for prompt in PROMPTS])
    return lm.model(input_ids=ids, attention_mask=mask).logits[mask.bool()]


@pytest.mark.parametrize("source", ["soft", "peft"])
@pytest.mark.parametrize("method", ["hooks", "weights"])
def test_the_prompt_s_vectors_are_ablated_too(
    method: str,
    source: str,
    given: dict[str, Any],
    prompt: str,
    direction: str,
    chat_model: Path,
    tmp_path: Path,
) -> None:
    vectors = artifact.load(prompt).vectors
    if source == "peft":
        save_checkpoint(chat_model, tmp_path / "p", vectors)
        prompt = str(tmp_path / "p")
    lm = AblatedHF(**given, prompt=prompt, direction=direction, method=method)
    unit = torch.nn.functional.normalize(lm.asked.direction.direction, dim=0)
    assert (vectors @ unit).abs().max() > 0.1
    assert max(block_inputs(lm, unit)) < 1e-5
    assert max(block_inputs(McdHF(**given, prompt=prompt), unit)) > 0.1
    assert (lm.identity()["condition"], lm.identity()["method"]) == ("ablation+mcd", method)


def test_hooks_and_weights_agree_with_a_prompt_in_place(
    given: dict[str, Any], prompt: str, direction: str
) -> None:
    settings = given | {"direction": direction}
    hooks = AblatedHF(**settings, prompt=prompt, method="hooks")
    weights = AblatedHF(**settings, prompt=prompt, method="weights")
    torch.testing.assert_close(logits(weights), logits(hooks), atol=1e-4, rtol=0)
    assert answers(weights) == answers(hooks)
    assert likelihoods(weights) == pytest.approx(likelihoods(hooks), abs=1e-4)
    without = AblatedHF(**settings)
    assert without.condition == "ablation" and "prompt" not in without.identity()
    assert answers(without) != answers(hooks)


def test_a_direction_is_added_beside_a_prompt(
    given: dict[str, Any], prompt: str, direction: str, learned: McdHF
) -> None:
    lm = RefusalAddedHF(**given, prompt=prompt, direction=direction)
    assert lm.condition == "addition+mcd"
    assert (logits(lm) - logits(learned)).abs().max() > 1e-3
    alone = RefusalAddedHF(**given, direction=direction)
    assert answers(lm) != answers(alone)


def test_a_direction_is_extracted_from_the_model_without_its_prompt(
    given: dict[str, Any], prompt: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def find(chat: Any, *_: Any, **__: Any) -> Direction:
        asked.append(chat.render("Hi"))
        vector = torch.ones(32)
        return Direction(vector, vector[None, None])

    monkeypatch.setattr("polyrefuse_models.wrappers.direction_arguments.find_direction", find)
    lm = AblatedHF(**given, prompt=prompt)
    assert asked == [BaselineHF(**given).render("Hi")]
    assert lm.render("Hi") != asked[0]


# --- what is told


def test_what_was_done_is_told(learned: McdHF, given: dict[str, Any], prompt: str) -> None:
    told = learned.get_model_info()
    found = artifact.load(prompt)
    assert (told["condition"], told["prompt"], told["prompt_source"]) == ("mcd", prompt, "soft")
    assert told["prompt_sha256"] == found.sha256
    assert (told["prompt_dataset"], told["prompt_langs"]) == ("toyrefuse", ["en", "de"])
    assert told["prompt_overlap"] == found.metadata["anchors"]["overlap"]
    json.dumps(learned.identity())
    words = McdHF(**given, prompt="mistral").get_model_info()
    assert (words["condition"], words["prompt"]) == ("system-prompt", "mistral")
    assert words["prompt_source"] == "text" and words["prompt_overlap"] is None
    assert words["prompt_sha256"] != told["prompt_sha256"]


def test_neither_answers_nor_requests_of_another_prompt_are_taken(
    learned: McdHF, given: dict[str, Any], tmp_path: Path
) -> None:
    cache = str(tmp_path / "answers.db")
    requests = [request(prompt) for prompt in PROMPTS]
    expected = CachingLM(learned, cache).generate_until(requests)
    scored = CachingLM(learned, cache).loglikelihood(PAIRS)
    again = CachingLM(learned, cache)
    model, learned._model = learned._model, None
    try:
        assert again.generate_until(requests) == expected
        assert [tuple(pair) for pair in again.loglikelihood(PAIRS)] == scored
    finally:
        learned._model = model
    other = McdHF(**given, prompt="short")
    with pytest.raises(WrongCache, match="condition=mcd .now system-prompt"):
        CachingLM(other, cache)
    names = {lm.tokenizer_name for lm in (learned, other, BaselineHF(**given))}
    assert len(names) == 3


# --- bad input


def test_bad_prompts(given: dict[str, Any], direction: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="mcd-hf and mcd-vllm need a safety prompt; .* one of default"
    ):
        McdHF(pretrained="never loaded")
    with pytest.raises(BadPrompt, match="prompt=shrot is not a folder; give the folder of a soft"):
        McdHF(pretrained="never loaded", prompt="shrot")
    artifact.save(Prompt(torch.ones(4, 33)), tmp_path / "wide")
    with pytest.raises(BadPrompt, match="shape .4, 33., and the model's embedding has 32"):
        McdHF(**given, prompt=str(tmp_path / "wide"))
    artifact.save(Prompt(torch.full((4, 32), torch.nan)), tmp_path / "nan")
    with pytest.raises(BadPrompt, match="has NaN or infinite entries"):
        AblatedHF(**given, prompt=str(tmp_path / "nan"), direction=direction)


def test_another_model_s_prompt_is_warned_of(
    given: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifact.save(Prompt(torch.ones(4, 32), {"model": "quend/glorbon"}), tmp_path / "p")
    with caplog.at_level(logging.WARNING):
        McdHF(**given, prompt=str(tmp_path / "p"))
    assert "The soft prompt was trained for quend/glorbon" in caplog.text


def test_a_prompt_beyond_the_window(given: dict[str, Any], learned: McdHF, prompt: str) -> None:
    with pytest.raises(
        BadPrompt, match="prompt=short has 109 tokens, and the model has a window of 64"
    ):
        McdHF(**given, prompt="short", max_length=64)
    narrow = McdHF(**given, prompt=prompt, max_length=40)
    with pytest.raises(UserError, match="more than the model's window of 40"):
        narrow.generate_until([request(PROMPTS[0])])
    long = Instance("loglikelihood", {}, ("A glimmerfish is " * 3, "small"), 0, ("t", 0, 1))
    with pytest.raises(UserError, match="tokens with prompt=.* a window of 40; lower --num_few"):
        narrow.loglikelihood([long])
    with pytest.raises(UserError, match="truncation=True cuts off the beginning, where prompt="):
        McdHF(**given, prompt=prompt, truncation=True)


def test_no_place_for_a_prompt(tmp_path: Path, learned: McdHF, given: dict[str, Any]) -> None:
    save_chat_model(tmp_path, ONLY_ANSWERS)
    lm = McdHF(pretrained=str(tmp_path), device="cpu", prompt="short")
    with pytest.raises(BadTemplate, match="does not write what the user says"):
        answers(lm)
    with pytest.raises(UserError, match="cannot be used in rivers, which scores whole texts"):
        learned.loglikelihood_rolling([ROLLING])
    assert BaselineHF(**given).loglikelihood_rolling([ROLLING])[0] < 0
