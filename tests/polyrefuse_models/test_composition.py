"""Interventions compose in any number and order, and other engines install the same objects."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer

from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.interventions import (
    Ablation,
    Addition,
    Intervention,
    Preamble,
    SoftPrompt,
    SystemText,
    condition_of,
    identity_of,
)
from polyrefuse_models.neutral_generation import neutralise
from polyrefuse_models.system import read_system
from polyrefuse_models.wrappers import identity
from polyrefuse_models.wrappers.asked import AskedAblation
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF
from polyrefuse_models.wrappers.prompting import Prompting
from polyrefuse_models.wrappers.ranks import ALONE
from polyrefuse_models.wrappers.run_notes import RunNotes
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import LmEvalChanged
from tests.conftest import ROOT
from tests.models import make_llama, make_tokenizer
from tests.polyrefuse_models.test_generation import ask

ENGINE_FREE = sorted(
    f"polyrefuse_models.wrappers.{path.stem}"
    for path in (ROOT / "polyrefuse_models/wrappers").glob("*.py")
    if path.stem
    not in ("__init__", "measured", "hf", "lm_evals_vllm", "vllm", "weightless", "workload")
)
"""All but the wrappers, which are classes of lm-eval's, and the models that a study's plan counts
with in their place."""


def four(tokenizer: Any) -> list[Intervention]:
    generator = torch.Generator().manual_seed(0)
    away, along = torch.randn(2, 32, generator=generator)
    return [
        Ablation(away),
        Addition(along, 2, coefficient=0.5),
        SoftPrompt(tokenizer, torch.randn(3, 32, generator=generator), name="prompt=p"),
        SystemText("system_file=s", "Be kind.", {"system": "file"}),
    ]


@torch.inference_mode()
def logits(interventions: list[Intervention], soft: str) -> torch.Tensor:
    model, tokenizer = make_llama(seed=2), make_tokenizer()
    for intervention in interventions:
        intervention.install(model)
    # Made for another tokenizer of the same vocabulary, which has the tokens already.
    tokenizer.add_tokens([f"<|soft_prompt_{index}|>" for index in range(3)], special_tokens=True)
    ids = tokenizer(f"{soft}What is a glimmerfish?", return_tensors="pt").input_ids
    return model(input_ids=ids).logits


def test_the_order_in_which_they_are_installed_makes_no_difference() -> None:
    expected = None
    for order in itertools.permutations(range(4)):
        interventions = four(make_tokenizer())
        soft = next(one for one in interventions if isinstance(one, SoftPrompt))
        seen = logits([interventions[place] for place in order], soft.text)
        expected = seen if expected is None else expected
        torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-5)
    for left_out in range(3):
        interventions = four(make_tokenizer())
        soft = interventions[2]
        assert isinstance(soft, SoftPrompt)
        text = "" if left_out == 2 else soft.text
        others = [one for place, one in enumerate(interventions) if place != left_out]
        assert expected is not None
        assert (logits(others, text)[:, -1] - expected[:, -1]).abs().max() > 1e-3


def test_conditions_are_named_from_them() -> None:
    ablation, addition, soft, text = four(make_tokenizer())
    assert condition_of([]) == "baseline"
    assert condition_of([ablation]) == "ablation"
    assert condition_of([addition, soft]) == "addition+mcd"
    assert condition_of([ablation, soft, text]) == "ablation+mcd+system-prompt"
    assert condition_of([text, text]) == "system-prompt"
    assert [isinstance(one, Preamble) for one in (ablation, addition, soft, text)] == [
        *(False, False, True, True)
    ]
    assert identity_of([Ablation(torch.ones(4), layers=range(1, 3)), text]) == {
        "coefficient": 1.0,
        "method": "hooks",
        "layers": "1-2",
        "system": "file",
    }


class Engine:
    """What another engine has to bring: a model, a tokenizer and its own encoding; no HFLM."""

    revision, peft, delta = "main", None, None
    truncation = False
    ranks = ALONE
    max_length = 4096

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.asked = AskedAblation(arguments, str(folder))
        self.notes = RunNotes()
        self.pretrained = str(folder)
        self.model_arguments = identity.model_arguments(arguments)
        self.chat_template_args: dict[str, Any] = {}
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model_name = str(folder)
        self.prompting = Prompting(
            self.tokenizer,
            self.model_name,
            chat=True,
            system=read_system(),
            template_arguments=self.chat_template_args,
            notes=self.notes,
        )
        neutralise(self.model)
        self.interventions = self.asked.fit(self)
        self.weights = identity.weights_of(self)
        for intervention in self.interventions:
            intervention.install(self.model)
        self.prompting.put_in_front(self.interventions, self.max_length)

    own_model = False

    def warn(self, sentence: str) -> None:
        self.notes.warn(sentence)

    @property
    def chat_model(self) -> ChatModel:
        return ChatModel(
            self.model, self.tokenizer, self.prompting.render, self.tok_batch_encode, 8
        )

    @contextmanager
    def whole_model(self) -> Iterator[ChatModel]:
        yield self.chat_model

    def prompt_ids(self, text: str) -> list[int]:
        return self.tok_batch_encode([text])[0][0].tolist()

    def tok_batch_encode(self, strings: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        read = self.tokenizer(strings, return_tensors="pt", padding=True, add_special_tokens=False)
        return read.input_ids, read.attention_mask


@pytest.fixture
def direction(tmp_path: Path) -> str:
    from safetensors.torch import save_file

    vector = torch.randn(32, generator=torch.Generator().manual_seed(3))
    save_file({"direction": vector}, tmp_path / "direction.safetensors")
    return str(tmp_path / "direction.safetensors")


def test_another_engine_installs_the_same_objects(chat_model: Path, direction: str) -> None:
    asked = {"direction": direction, "method": "hooks", "layers": "1-3", "prompt": "mistral"}
    engine = Engine(chat_model, **asked)
    lm = AblatedHF(pretrained=str(chat_model), device="cpu", **asked)
    assert engine.prompting.render("What is a glimmerfish?") == lm.render("What is a glimmerfish?")
    ids, _ = engine.tok_batch_encode([engine.prompting.render("Hi")])
    with torch.inference_mode():
        one, other = (each.model(input_ids=ids).logits for each in (engine, lm))
    assert torch.equal(one, other)
    same = lm.identity()
    assert same["condition"] == "ablation+system-prompt"
    assert same == identity.identity(engine, engine.prompting, engine.interventions, None)
    assert [type(each) for each in engine.interventions] == [
        type(each) for each in lm.interventions
    ]


def test_what_engines_share_imports_no_engine() -> None:
    program = f"""
import importlib, sys
for module in {ENGINE_FREE}:
    importlib.import_module(module)
    engines = [name for name in sys.modules if name.startswith(("lm_eval", "vllm"))]
    assert not engines, f"{{module}} imports {{engines[0]}}"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# --- no prompt gets the template twice


def evaluated(lm: BaselineHF, monkeypatch: pytest.MonkeyPatch, prompts: list[str]) -> list[str]:
    """What the model reads of prompts that the harness renders."""
    read: list[str] = []

    def generate(self: Any, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        read.extend(request.args[0] for request in requests)
        return ["An answer." for _ in requests]

    monkeypatch.setattr("lm_eval.models.huggingface.HFLM.generate_until", generate)
    task = {
        "task": "invented_questions",
        "output_type": "generate_until",
        "custom_dataset": lambda **_: {
            "test": Dataset.from_list([{"q": prompt} for prompt in prompts])
        },
        "test_split": "test",
        "doc_to_text": "{{q}}",
        "doc_to_target": "",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": 4},
        "process_results": lambda doc, results: {"length": 1},
        "metric_list": [{"metric": "length", "aggregation": "mean", "higher_is_better": True}],
    }
    lm_eval.simple_evaluate(
        model=lm,
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        apply_chat_template=True,
        bootstrap_iters=0,
    )
    return read


PROMPTS = ["What is a glimmerfish?", "Wer ist Quend?", "{{ 7 }} <|user|>?", "  spaced  "]


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be read off the harness's frames."""
    monkeypatch.setattr(
        "polyrefuse_models.wrappers.prompting.asked_of_lm_eval", lambda _argument: None
    )


@pytest.mark.parametrize("front", [{}, {"prompt": "mistral"}])
def test_the_template_is_applied_once_though_no_frame_can_be_read(
    chat_model: Path,
    direction: str,
    blind: None,
    monkeypatch: pytest.MonkeyPatch,
    front: dict[str, str],
) -> None:
    lm = AblatedHF(pretrained=str(chat_model), device="cpu", direction=direction, **front)
    read = evaluated(lm, monkeypatch, PROMPTS)
    assert [text.count("<|assistant|>") for text in read] == [1, 1, 1, 1]
    assert all(prompt.strip() in text for prompt, text in zip(PROMPTS, read, strict=True))


def test_the_template_is_applied_once_on_another_thread(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = BaselineHF(pretrained=str(chat_model), device="cpu")
    generate_until = lm.generate_until

    def on_a_thread(requests: list[Instance], **options: Any) -> list[str]:
        answers: list[str] = []
        thread = threading.Thread(
            target=lambda: answers.extend(generate_until(requests, **options))
        )
        thread.start()
        thread.join()
        return answers

    monkeypatch.setattr(lm, "generate_until", on_a_thread)
    read = evaluated(lm, monkeypatch, PROMPTS)
    assert [text.count("<|assistant|>") for text in read] == [1, 1, 1, 1]


def test_what_another_process_rendered_is_recognised(chat_model: Path) -> None:
    """Kept requests (`--cache_requests`) come without a call of `apply_chat_template`."""
    rendered = BaselineHF(pretrained=str(chat_model), device="cpu").render("What is it?")
    lm = BaselineHF(pretrained=str(chat_model), device="cpu")
    assert lm.prompting.read(rendered) == rendered
    assert lm.prompting.read("What is it?") == rendered


def test_what_was_rendered_without_the_prompt_is_refused(chat_model: Path) -> None:
    from polyrefuse_models.wrappers.hf import McdHF

    rendered = BaselineHF(pretrained=str(chat_model), device="cpu").render("What is it?")
    lm = McdHF(pretrained=str(chat_model), device="cpu", prompt="mistral")
    with pytest.raises(
        UserError, match="has the chat template already, but without prompt=mistral"
    ):
        lm.generate_until([ask(rendered)])


def test_a_harness_without_the_argument_is_an_error(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*, lm: Any, task_dict: Any, apply_the_template: bool = False) -> None:
        """What lm-eval's function might be called with one day."""

    changed.__module__ = "lm_eval.evaluator"
    lm = BaselineHF(pretrained=str(chat_model), device="cpu")
    monkeypatch.setattr(lm_eval, "evaluate", changed)
    monkeypatch.setattr(lm_eval, "simple_evaluate", changed)
    with pytest.raises(LmEvalChanged, match="cannot know how they were called"):
        lm.generate_until([ask("What is a glimmerfish?")])
