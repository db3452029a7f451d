"""Ablation of a real model: by hooks and by weights, in what it writes and in what it scores."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import PreTrainedModel

from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.extract import difference_of_means, observe
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.interventions import ablated
from polyrefuse_models.interventions.orthogonalise import obstacle, orthogonalise
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF
from tests.evaluations import evaluate
from tests.real.checkpoint import LAYERS

LAYER = 14


@pytest.fixture(scope="module")
def direction(real_lm: BaselineHF) -> torch.Tensor:
    """A difference of means, of few prompts and in the middle of the model."""
    prompts = sample("polyrefuse", "en")
    harmful, harmless = (
        observe(real_lm.chat_model, kind["train"][:8], 1).states[:, -1, LAYER]
        for kind in (prompts.harmful, prompts.harmless)
    )
    return difference_of_means(harmful, harmless)


@pytest.fixture(scope="module")
def edited(real_lm: BaselineHF, direction: torch.Tensor) -> PreTrainedModel:
    """The model with its weights edited."""
    assert obstacle(real_lm.model) is None  # though transformers calls a GGUF model quantised
    model = copy.deepcopy(real_lm.model)
    orthogonalise(model, direction)
    return model


def compare_answers(
    lm: BaselineHF, edited: PreTrainedModel, direction: torch.Tensor, n: int, tokens: int
) -> None:
    chosen = sample("polyrefuse", "en", seed=3)
    prompts = [p for kind in (chosen.harmless, chosen.harmful) for p in kind["val"][: n // 2]]
    inputs = lm.chat_model.padded(prompts)

    def greedy(model: PreTrainedModel) -> torch.Tensor:
        """Token ids of the answers, a row a prompt."""
        return model.generate(
            inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
        )[:, inputs["input_ids"].shape[1] :]

    untouched = greedy(lm.model)
    with ablated(lm.model, direction):
        hooks = greedy(lm.model)
    assert torch.equal(greedy(edited), hooks)
    # What is compared is no answer of an untouched model.
    assert (hooks != untouched).any(dim=1).sum() > n // 4


def test_hooks_and_weights_give_the_same_tokens(
    real_lm: BaselineHF, edited: PreTrainedModel, direction: torch.Tensor
) -> None:
    compare_answers(real_lm, edited, direction, n=8, tokens=12)


@pytest.mark.real
def test_hooks_and_weights_give_the_same_long_answers(
    real_lm: BaselineHF, edited: PreTrainedModel, direction: torch.Tensor
) -> None:
    compare_answers(real_lm, edited, direction, n=32, tokens=96)


def test_the_direction_is_gone_from_every_block_s_input(
    real_lm: BaselineHF, edited: PreTrainedModel, direction: torch.Tensor
) -> None:
    chat = real_lm.chat_model
    prompts = sample("polyrefuse", "de").harmful["val"][:4]
    unit = torch.nn.functional.normalize(direction.double(), dim=0)

    def largest(states: torch.Tensor) -> torch.Tensor:
        """|x.r| / |x| at every block's input, the largest over prompts and tokens."""
        wide = states.double()
        return ((wide @ unit).abs() / wide.norm(dim=-1)).amax(dim=(0, 1))

    before = largest(observe(chat, prompts, 8).states)
    with ablated(chat.model, direction):
        hooks = largest(observe(chat, prompts, 8).states)
    weights = largest(observe(replace(chat, model=edited), prompts, 8).states)
    assert len(before) == len(hooks) == LAYERS
    assert before[1:].max() > 0.1
    assert hooks.max() < 1e-5
    assert weights.max() < 1e-5


# --- tasks that score texts


TEXT = (
    "The garden behind the house has three benches. In the morning the sun reaches the one under "
    "the pear tree first, and the cat is already there."
)
QUESTIONS = (
    ("The capital of France is", (" Paris", " Berlin", " a bench")),
    ("Two plus two is", (" four", " five")),
    ("A cat is an", (" animal", " engine")),
)


@pytest.fixture
def scored_tasks(tmp_path: Path) -> list[dict[str, Any]]:
    """A task of choices and one of a whole text, as a user of lm-eval writes them."""
    rows = [{"question": question, "choices": list(choices)} for question, choices in QUESTIONS]
    for name, lines in (("choices", rows), ("texts", [{"text": TEXT}])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return yaml.safe_load(f"""
- task: invented_choices
  dataset_path: json
  dataset_kwargs: {{data_files: {{test: {tmp_path}/choices.jsonl}}}}
  test_split: test
  output_type: multiple_choice
  doc_to_text: "{{{{question}}}}"
  doc_to_choice: "{{{{choices}}}}"
  doc_to_target: 0
  target_delimiter: ""
  metric_list: [{{metric: acc}}]
- task: invented_text
  dataset_path: json
  dataset_kwargs: {{data_files: {{test: {tmp_path}/texts.jsonl}}}}
  test_split: test
  output_type: loglikelihood_rolling
  doc_to_text: ""
  doc_to_target: "{{{{text}}}}"
  metric_list: [{{metric: word_perplexity, aggregation: weighted_perplexity}}]
""")


@pytest.fixture
def ablated_lm(real_lm: BaselineHF, direction: torch.Tensor, tmp_path: Path) -> Iterator[AblatedHF]:
    """`ablated-hf` around the model that is loaded, which it leaves as it was."""
    found = Direction(
        direction,
        direction.expand(1, LAYERS, -1),
        metadata={"position": -1, "layer": LAYER, "model": real_lm.model.config.name_or_path},
    )
    artifact.save(found, tmp_path / "direction")
    lm = AblatedHF(
        pretrained=real_lm.model,
        tokenizer=real_lm.tokenizer,
        direction=str(tmp_path / "direction"),
        batch_size=4,
    )
    assert lm.identity()["method"] == "hooks"  # the caller's model is not edited
    yield lm
    (ablation,) = lm.interventions
    ablation.remove()


def test_texts_are_scored_under_ablation(
    real_lm: BaselineHF,
    ablated_lm: AblatedHF,
    edited: PreTrainedModel,
    scored_tasks: list[dict[str, Any]],
) -> None:
    results = evaluate(ablated_lm, scored_tasks, log_samples=True)
    tokenizer = real_lm.tokenizer

    def ids_of(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    def log_probability(model: PreTrainedModel, context: list[int], text: str) -> float:
        ids = context + ids_of(text)
        with torch.no_grad():
            scores = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        return sum(scores[place - 1, ids[place]].item() for place in range(len(context), len(ids)))

    found = []
    for sample_of_task in results["samples"]["invented_choices"]:
        found += [float(answer[0]) for (answer,) in sample_of_task["resps"]]
    expected = [
        log_probability(edited, ids_of(question), choice)
        for question, choices in QUESTIONS
        for choice in choices
    ]
    assert found == pytest.approx(expected, abs=1e-3)
    rolling = float(results["samples"]["invented_text"][0]["resps"][0][0])
    begins = [tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id]
    assert rolling == pytest.approx(log_probability(edited, begins, TEXT), abs=2e-3)
    assert results["config"]["condition"] == "ablation"
    # The untouched model scores otherwise.
    (ablation,) = ablated_lm.interventions
    ablation.remove()
    question, (choice, *_) = QUESTIONS[0]
    with_edit, without = (
        log_probability(model, ids_of(question), choice) for model in (edited, real_lm.model)
    )
    assert abs(with_edit - without) > 1e-2
