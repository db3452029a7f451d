"""The engine of judge models: batches say what single prompts say, by weights made here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
)

from polyrefuse_tasks.judge_engines import rendering
from polyrefuse_tasks.judge_engines.engine import CannotJudge, Loading
from polyrefuse_tasks.judge_engines.loading import load
from polyrefuse_tasks.judge_engines.transformers_engine import TransformersEngine
from polyrefuse_tasks.judge_models.formats import Chat, Text
from tests.models import COMMON, OWN, make_tokenizer, tiny

# In their order: PolyGuard's, Qwen3Guard's, WildGuard's, Llama Guard's 2 and 3 and HarmBench's,
# StrongREJECT's, gpt-oss-safeguard's, Llama Guard 4's and Shieldstral's.
ARCHITECTURES = (
    *("qwen2", "qwen3", "mistral", "llama"),
    *("gemma", "gpt_oss", "llama4", "mistral3"),
)
TEXT_PART_OF = {"llama4": "llama4_text", "mistral3": "ministral3"}
_EYE = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 28,
    "patch_size": 14,
}
EYES: dict[str, dict[str, Any]] = {
    "llama4": _EYE
    | {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
    "mistral3": _EYE | {"model_type": "pixtral", "head_dim": 8},
}
TEXTS = ["a", "some more words", "x" * 90, "words of another length", "b"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(name, tmp_path_factory.mktemp(name)) for name in ARCHITECTURES}


def random_model(name: str, **settings: Any) -> PreTrainedModel:
    """With pictures where the published judge knows them: `llama4` and `mistral3` are such."""
    sizes = {"vocab_size": len(make_tokenizer()), "max_position_embeddings": 256} | settings
    if name not in TEXT_PART_OF:
        return tiny(name, **sizes)
    text = COMMON | OWN.get(TEXT_PART_OF[name], {}) | sizes | {"model_type": TEXT_PART_OF[name]}
    config = AutoConfig.for_model(name, text_config=text, vision_config=EYES[name])
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def save(name: str, folder: Path, **settings: Any) -> Path:
    tokenizer = make_tokenizer()
    model = random_model(name, **settings)
    # What a published judge may bring, and what may not decide its verdicts.
    model.generation_config.do_sample = True
    model.generation_config.temperature = 2.0
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.min_new_tokens = 6
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_says_what_each_prompt_says_alone(name: str, folder_of: dict[str, Path]) -> None:
    prompts = [Text(text) for text in TEXTS]
    alone = load(Loading(str(folder_of[name]), engine="transformers", batch_size=1))
    batched = load(Loading(str(folder_of[name]), engine="transformers", batch_size=3))
    expected = [alone.complete([prompt], 7)[0] for prompt in prompts]
    assert batched.complete(prompts, 7) == expected
    assert len(set(expected)) > 1
    assert expected == alone.complete(prompts, 7)


@pytest.mark.parametrize("name", ["qwen2", "llama"])
def test_completions_are_the_likeliest_tokens(name: str, folder_of: dict[str, Path]) -> None:
    """Whatever the published generation settings say: their penalties would change a verdict."""
    engine = load(Loading(str(folder_of[name]), engine="transformers"))
    assert isinstance(engine, TransformersEngine)
    found = engine.complete([Text(text) for text in TEXTS], 9)
    for text, written in zip(TEXTS, found, strict=True):
        ids = engine.tokenizer(text).input_ids
        begin = len(ids)
        while len(ids) < begin + 9 and engine.tokenizer.eos_token_id not in ids[begin:]:
            with torch.no_grad():
                ids.append(int(engine.model(torch.tensor([ids])).logits[0, -1].argmax()))
        assert written == engine.tokenizer.decode(ids[begin:], skip_special_tokens=True)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_token_is_one_forward_pass(
    name: str, folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(Loading(str(folder_of[name]), engine="transformers", batch_size=3))
    assert isinstance(engine, TransformersEngine)
    prompts = [Text(text) for text in TEXTS]
    two = engine.complete(prompts, 2)
    monkeypatch.setattr(engine.model, "generate", None)
    one = engine.complete(prompts, 1)
    assert all(
        longer is not None and shorter is not None and longer.startswith(shorter.rstrip("\ufffd"))
        for longer, shorter in zip(two, one, strict=True)
    )


def test_a_prompt_longer_than_the_context_is_no_verdict(folder_of: dict[str, Path]) -> None:
    engine = load(Loading(str(folder_of["llama"]), engine="transformers"))
    assert isinstance(engine, TransformersEngine)
    most = engine.model.config.max_position_embeddings
    short, fits, longer = "y", "x" * (most - 5), "x" * (most - 4)
    # One token a byte, and one of the beginning.
    found = engine.complete([Text(longer), Text(short), Text(fits, special_tokens=False)], 5)
    assert found[0] is None
    assert None not in found[1:]


def test_expected_numbers_are_those_of_a_single_pass(folder_of: dict[str, Path]) -> None:
    engine = load(Loading(str(folder_of["gemma"]), engine="transformers", batch_size=2))
    assert isinstance(engine, TransformersEngine)
    found = engine.expected_number([Text(text) for text in TEXTS], ["1", "2", "5"])
    for text, number in zip(TEXTS, found, strict=True):
        ids = engine.tokenizer(text, return_tensors="pt").input_ids
        tokens = [engine.tokenizer(one, add_special_tokens=False).input_ids[0] for one in "125"]
        with torch.no_grad():
            shares = engine.model(ids).logits[0, -1, tokens].double().softmax(-1)
        expected = float(shares @ torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
        assert number == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_vllm_says_what_transformers_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB; half of the machine's by default
    # Its kernels know no head narrower than 32.
    folder = save("qwen3", tmp_path / "judge", hidden_size=128, head_dim=32)
    own = load(Loading(str(folder), engine="transformers", dtype="float32"))
    vllm = load(Loading(str(folder), engine="vllm", dtype="float32"))
    prompts = [Text(text) for text in (*TEXTS, "x" * 300)]
    for n in (1, 9):
        for special_tokens in (False, True):
            expected = own.complete(prompts, n, special_tokens=special_tokens)
            assert vllm.complete(prompts, n, special_tokens=special_tokens) == expected
            assert expected[-1] is None
    assert vllm.revision == own.revision
    with pytest.raises(CannotJudge, match="use --engine transformers"):
        vllm.expected_number(prompts, ["1"])


def test_contents_are_given_as_parts_where_a_template_wants_them(tmp_path: Path) -> None:
    """As Llama Guard 3 1B's template, which renders an empty conversation of plain texts."""
    from polyrefuse_tasks.judge_engines.rendering import token_ids

    parts = (
        "{% for message in messages %}{% for part in message.content "
        "if part.type == 'text' %}{{ part.text }}|{% endfor %}{% endfor %}"
    )
    chat = Chat([{"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}])
    tokenizer = make_tokenizer(parts)
    assert tokenizer.decode(token_ids(tokenizer, chat)) == "why|so|"
    plain = make_tokenizer()
    assert "so" in plain.decode(token_ids(plain, chat))
    for broken in ("{{ messages[0].content }}", "{{ raise_exception('no') }}"):
        with pytest.raises(CannotJudge, match="cannot render the content to judge"):
            token_ids(make_tokenizer(broken), chat)


def test_the_revision_is_of_the_weights(folder_of: dict[str, Path], tmp_path: Path) -> None:
    first = load(Loading(str(folder_of["llama"]), engine="transformers")).revision
    again = load(Loading(str(folder_of["llama"]), engine="transformers", batch_size=2)).revision
    assert first == again
    other = save("llama", tmp_path / folder_of["llama"].name, rms_norm_eps=1e-3)
    assert load(Loading(str(other), engine="transformers")).revision != first


def save_adapter(base: Path, folder: Path) -> Any:
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False),
    )
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return model


def test_an_adapter_judges_on_its_base(folder_of: dict[str, Path], tmp_path: Path) -> None:
    """As StrongREJECT's judge is published."""
    base = folder_of["gemma"]
    folder = tmp_path / "judge"
    model = save_adapter(base, folder)
    engine = load(Loading(str(folder), engine="transformers"))
    assert isinstance(engine, TransformersEngine)
    text = Text("words")
    found = engine.expected_number([text], ["1", "5"])
    assert found != load(Loading(str(base), engine="transformers")).expected_number([text], "15")
    ids = engine.tokenizer(text.text, return_tensors="pt").input_ids
    one, five = (engine.tokenizer(n, add_special_tokens=False).input_ids[0] for n in "15")
    with torch.no_grad():
        shares = model.eval()(ids).logits[0, -1, [one, five]].double().softmax(-1)
    assert found == pytest.approx([float(shares @ torch.tensor([1.0, 5.0]).double())], abs=1e-5)
    own, of_base = engine.revision.split(" on ")
    assert own.startswith("judge@sha256:")
    assert of_base == load(Loading(str(base), engine="transformers")).revision


def cut_out(file: Path, part: str) -> None:
    """Weights without the tensors of which this is part of the name."""
    weights = load_file(file)
    kept = {name: each for name, each in weights.items() if part not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, file, metadata={"format": "pt"})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tensors_that_are_missing(name: str, folder_of: dict[str, Path], tmp_path: Path) -> None:
    """Random numbers would stand in for them, others at each run."""
    folder = tmp_path / "judge"
    shutil.copytree(folder_of[name], folder)
    cut_out(folder / "model.safetensors", "layers.1.self_attn.")
    with pytest.raises(CannotJudge, match=r"lack tensors .*layers\.1\.self_attn\."):
        load(Loading(str(folder), engine="transformers"))


def test_tied_tensors_are_not_missing(folder_of: dict[str, Path]) -> None:
    assert "lm_head.weight" not in load_file(folder_of["gemma"] / "model.safetensors")
    load(Loading(str(folder_of["gemma"]), engine="transformers"))


@pytest.mark.parametrize("inside", [False, True])
def test_tensors_that_are_missing_below_an_adapter(
    inside: bool, folder_of: dict[str, Path], tmp_path: Path
) -> None:
    """Its base may be in the same folder."""
    base, folder = tmp_path / "base", tmp_path / "judge"
    shutil.copytree(folder_of["gemma"], base)
    save_adapter(base, folder)
    if inside:
        for path in base.iterdir():
            shutil.copy(path, folder)
        base = folder
    load(Loading(str(folder), engine="transformers"))
    cut_out(base / "model.safetensors", "layers.1.mlp.")
    with pytest.raises(CannotJudge, match=rf"{base} lack tensors .*layers\.1\.mlp\."):
        load(Loading(str(folder), engine="transformers"))


def test_tensors_that_are_missing_in_an_adapter(folder_of: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    save_adapter(folder_of["gemma"], folder)
    cut_out(folder / "adapter_model.safetensors", "layers.1.self_attn.q_proj.lora_B")
    with pytest.raises(CannotJudge, match=r"judge lack tensors .*lora_B"):
        load(Loading(str(folder), engine="transformers"))


@pytest.mark.parametrize("max_new_tokens", [1, 2])
def test_memory_that_runs_out_names_the_batch_size(
    max_new_tokens: int, folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(*arguments: object, **settings: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    engine = load(Loading(str(folder_of["llama"]), engine="transformers", batch_size=7))
    assert isinstance(engine, TransformersEngine)
    monkeypatch.setattr(engine.model, "forward", forward)
    with pytest.raises(CannotJudge, match=r"--batch-size 7 .*CUDA out of memory\)"):
        engine.complete([Text("a")], max_new_tokens)


def test_memory_that_runs_out_while_loading(
    folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def to(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(PreTrainedModel, "to", to)
    with pytest.raises(CannotJudge, match="does not fit on the device cpu .*--device"):
        load(Loading(str(folder_of["llama"]), engine="transformers", device="cpu"))


def test_vllm_s_own_exceptions(folder_of: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Fault(Exception):
        pass

    class LLM:
        llm_engine = SimpleNamespace(
            model_config=SimpleNamespace(dtype=torch.float32, max_model_len=256)
        )

        def __init__(self, model: str, **settings: object) -> None:
            if model == str(folder_of["qwen2"]):
                raise Fault("no such layer")

        def generate(self, *arguments: object, **settings: object) -> None:
            raise Fault("the engine is dead")

    made_up = SimpleNamespace(LLM=LLM, SamplingParams=dict, __version__="0")
    monkeypatch.setitem(sys.modules, "vllm", made_up)
    with pytest.raises(CannotJudge, match="vLLM cannot load .*Fault: no such layer"):
        load(Loading(str(folder_of["qwen2"]), engine="vllm"))
    engine = load(Loading(str(folder_of["llama"]), engine="vllm"))
    with pytest.raises(CannotJudge, match="vLLM cannot run .*Fault: the engine is dead"):
        engine.complete([Text("a")], 1)


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    tokenizer = make_tokenizer()
    found = rendering.token_ids(tokenizer, Text("a \ud800 b"))
    assert found == rendering.token_ids(tokenizer, Text("a ? b"))
    half, mark = ([{"role": "user", "content": f"why {one}"}] for one in ("\udc00", "?"))
    assert rendering.token_ids(tokenizer, Chat(half)) == rendering.token_ids(tokenizer, Chat(mark))


def test_a_template_that_fails_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """mistral-common's tokenizers do not say what they were loaded from."""
    nameless = make_tokenizer("{{ raise_exception('no') }}")
    assert nameless.name_or_path == ""
    monkeypatch.setattr(
        rendering.AutoTokenizer, "from_pretrained", lambda *arguments, **settings: nameless
    )
    tokenizer = rendering.load_tokenizer(Loading("some/judge"))
    with pytest.raises(CannotJudge, match="The chat template of some/judge cannot render"):
        rendering.token_ids(tokenizer, Chat([{"role": "user", "content": "why"}]))
