"""How much jobs ask: against prompts and tokens that are counted here, by transformers alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lm_eval.api.instance import Instance
from polyrefuse_studies.commands.study import _jobs
from polyrefuse_studies.forecast.workload import Asked, Counter, NotKnown
from transformers import AutoTokenizer

from polyrefuse_models import bundled
from polyrefuse_models.directions import scores
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.select import RULES
from polyrefuse_models.directions.workload import of_direction
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.workload import Part, Workload, read
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_models.wrappers.weightless import weightless
from polyrefuse_models.wrappers.workload import _Tokens as Tokens
from polyrefuse_tasks import data

STUDY = {
    "study": "counted",
    "models": {"toy": "polyrefuse-organism"},
    "datasets": ["toyrefuse_harmful", "toyrefuse_harmless"],
    "languages": ["de", "yo"],
    "limit": 7,
    "conditions": {"baseline": None},
    "generation": {"max_gen_toks": 33},
}

LAYERS, POSITIONS = 4, 2
"""Of the organism; its template ends with two tokens."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(bundled.path())


def tokens(tokenizer: Any, prompt: str, system: str | None = None) -> list[int]:
    """What the organism reads, by transformers alone."""
    turns = [{"role": "user", "content": prompt}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def rows(name: str, language: str, split: str = "test") -> list[str]:
    return [row.prompt for row in data.load(name, language, split)]


def counted(folder: Path, **changed: object) -> dict[str, Workload | str]:
    """Workloads by what the job is, or why there is none."""
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY | changed))
    _, placed, *_ = _jobs(file, None)
    jobs = [
        Asked(one.job.name, one.job.kind, one.job.needs, one.command, one.job.tasks)
        for one in placed
    ]
    counter = Counter(jobs, timed=False)
    found: dict[str, Workload | str] = {}
    for job in jobs:
        try:
            found[job.name.split("/")[1]] = counter.count(job)
        except NotKnown as reason:
            found[job.name.split("/")[1]] = str(reason)
    return found


def known(workload: Workload | str) -> Workload:
    assert isinstance(workload, Workload), workload
    return workload


def test_answers_are_prompts_of_every_task_in_the_models_own_tokens(
    tmp_path: Path, tokenizer: Any
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("Be kind to every gardener.")
    conditions = {
        "baseline": None,
        "ablation": None,
        "system-prompt": {"system_file": "words.txt"},
        "words": {"model": "mcd", "prompt": "mistral"},
        "mcd": None,
    }
    found = counted(tmp_path, conditions=conditions, judges=["substring", "wildguard"])
    asked = [
        prompt
        for kind in ("harmful", "harmless")
        for language in ("de", "yo")
        for prompt in rows(f"toyrefuse_{kind}", language)[:7]
    ]

    def length(system: str | None) -> int:
        return sum(len(tokens(tokenizer, prompt, system)) for prompt in asked)

    baseline = known(found["baseline"])
    assert (baseline.prompts, baseline.judged) == (28, 28)
    assert baseline.prompt_tokens == length(None)
    assert baseline.generated_tokens_at_most == 28 * 33
    # The direction is not there before it is extracted, and changes nothing of what is read.
    assert found["ablation"] == baseline
    assert known(found["system-prompt"]).prompt_tokens == length("Be kind to every gardener.")
    mistral = SAFETY_PROMPTS["mistral"]
    assert known(found["words"]).prompt_tokens == length(mistral)
    # A trained prompt has a vector for each token of the words that it begins with.
    vectors = len(tokenizer(mistral, add_special_tokens=False).input_ids)
    word, spoken = "a", len(tokenizer("a", add_special_tokens=False).input_ids)
    assert known(found["mcd"]).prompt_tokens == length(word) + 28 * (vectors - spoken)
    judged = known(found["baseline-judged-by-substring"])
    assert (judged.judged, judged.parts) == (28, ())
    assert "the judge wildguard is a model" in str(found["baseline-judged-by-wildguard"])


def test_a_sampled_family_asks_every_prompt_25_times(
    tmp_path: Path, mirror: Path, tokenizer: Any
) -> None:
    found = counted(
        tmp_path, datasets=["mcd_malicious_instruct"], languages=["en"], limit=3, generation={}
    )
    baseline = known(found["baseline"])
    three = [len(tokens(tokenizer, prompt)) for prompt in rows("malicious_instruct", "en")[:3]]
    assert baseline.prompts == 3
    assert baseline.prompt_tokens == 25 * sum(three)
    assert baseline.generated_tokens_at_most == 25 * 3 * 300
    assert baseline.judged == 20 * 3  # the longest of each prompt's answers


def test_data_that_is_not_here_is_not_known_and_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(tmp_path / "empty"))
    monkeypatch.delenv("POLYREFUSE_DATA_DIR", raising=False)
    for variable in ("HF_HUB_OFFLINE", "POLYREFUSE_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    found = counted(
        tmp_path,
        datasets=["advbench", "toyrefuse_harmful"],
        directions={"geometry": ["de"]},
        judges=["substring"],
    )
    assert "`polyrefuse data fetch advbench` fetches it" in str(found["baseline"])
    assert "not known how many answers" in str(found["baseline-judged-by-substring"])
    # It also reads the prompts of the baseline's answers.
    assert "`polyrefuse data fetch advbench` fetches it" in str(found["geometry"])


@pytest.mark.slow
def test_capability_is_counted_as_lm_eval_asks_it(tmp_path: Path) -> None:
    documents = [{"question": f"What is {n} and {n}?", "answer": str(2 * n)} for n in range(5)]
    (tmp_path / "data.json").write_text("\n".join(map(json.dumps, documents)))
    task = tmp_path / "sums.yaml"
    task.write_text(
        yaml.safe_dump(
            {
                "task": "sums",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(tmp_path / "data.json")}},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": "{{question}}",
                "doc_to_target": "{{answer}}",
                "doc_to_choice": ["0", "2", "4"],
                "metric_list": [{"metric": "acc"}],
            }
        )
    )
    capability = {"tasks": [str(task)], "limit": 2}
    found = counted(tmp_path, capability=capability)
    tokenizer = AutoTokenizer.from_pretrained(bundled.path())
    of_sums = known(found["baseline-capability"])
    texts = [f"{document['question']} {choice}" for document in documents[:2] for choice in "024"]
    assert (of_sums.prompts, of_sums.parts[0].prompts) == (2, 6)
    assert of_sums.prompt_tokens == sum(len(tokenizer(text).input_ids) for text in texts)
    assert (of_sums.generated_tokens_at_most, of_sums.judged) == (0, 0)


# --- directions


@pytest.fixture(scope="module")
def organism() -> Iterator[BaselineHF]:
    return BaselineHF(device="cpu", batch_size=8)


def test_a_direction_reads_each_validation_prompt_under_each_candidate(
    tmp_path: Path, tokenizer: Any
) -> None:
    found = counted(tmp_path, directions={"source": "yo", "geometry": ["de"]})
    direction = known(found["direction-yo"])
    prompts = sample("toyrefuse", "yo", 0)
    parts = {part.what: part for part in direction.parts}

    def once(asked: list[str]) -> int:
        return sum(len(tokens(tokenizer, prompt)) for prompt in asked)

    def behind_the_head(asked: list[str]) -> int:
        every = [tokens(tokenizer, prompt) for prompt in asked]
        head = len(os.path.commonprefix(every))
        assert head
        return head + sum(len(ids) - head for ids in every)

    val = prompts.harmful["val"], prompts.harmless["val"]
    train = prompts.harmful["train"] + prompts.harmless["train"]
    looked_at = POSITIONS * int(0.8 * LAYERS)
    assert parts["states of training prompts"].prompt_tokens == once(train)
    answers = parts["answers to harmful validation prompts"]
    assert (answers.answers, answers.tokens_each, answers.prompt_tokens) == (32, 48, once(val[0]))
    ablated = parts["refusal scores with a candidate ablated"]
    assert ablated.prompts == looked_at * 32
    assert ablated.prompt_tokens == looked_at * behind_the_head(val[0])
    moved = parts["KL divergence of the first candidates"]
    assert moved.prompt_tokens == looked_at * behind_the_head(val[1])
    beyond = parts["scores of further candidates"]
    assert not beyond.certain
    assert direction.prompt_tokens_at_most - direction.prompt_tokens == beyond.prompt_tokens
    geometry = known(found["geometry"])
    both = [
        prompt
        for language in ("en", "de")
        for kind in ("harmful", "harmless")
        for prompt in rows(f"toyrefuse_{kind}", language)[:128]
    ]
    assert (geometry.prompts, geometry.prompt_tokens) == (len(both), once(both))


@pytest.mark.parametrize("rule", ["2505.17306", "cosmic"])
@pytest.mark.parametrize("all_scores", [False, True])
def test_what_is_counted_of_a_direction_is_what_the_extraction_reads(
    organism: BaselineHF, monkeypatch: pytest.MonkeyPatch, all_scores: bool, rule: str
) -> None:
    """The rows of every pass under candidates, counted in the model."""
    read_rows = 0
    logits = scores.SideBySide._logits

    def noting(self: Any, ids: torch.Tensor, lasts: torch.Tensor) -> torch.Tensor:
        nonlocal read_rows
        read_rows += len(ids) * len(self._directions)
        return logits(self, ids, lasts)

    monkeypatch.setattr(scores.SideBySide, "_logits", noting)
    prompts = sample("toyrefuse", "de", 3)
    chat = organism.chat_model
    by = RULES[rule]
    direction = make_direction(chat, prompts, rule=by, all_scores=all_scores)
    assert direction.metadata["prompts"]["harmful_val"] == 32  # none was filtered out
    assert direction.metadata["prompts"]["harmless_val"] == 32
    parts = of_direction(chat, prompts, by, all_scores=all_scores).parts[3:]
    sure = sum(part.prompts for part in parts if part.certain)
    if all_scores:
        assert read_rows == sure == 3 * POSITIONS * LAYERS * 32
    else:
        # Candidates above the limit are left before the end of the first wave.
        assert sure - 6 * 32 < read_rows <= sum(part.prompts for part in parts)


def test_a_model_without_weights_is_counted_as_the_loaded_one(organism: BaselineHF) -> None:
    empty = weightless({"pretrained": None})
    prompts = sample("toyrefuse", "ja", 1)
    assert all(weight.is_meta for weight in empty.model.parameters())
    same = (of_direction(lm.chat_model, prompts) for lm in (empty, organism))
    assert next(same) == next(same)


@pytest.mark.parametrize("prompt", [None, "short", "mistral"])
def test_a_log_likelihood_request_is_counted_with_the_text_in_front(prompt: str | None) -> None:
    lm = weightless({"pretrained": None, "prompt": prompt})
    pair = ("A glimmerfish is", " small")
    counted = Tokens(lm).of([Instance("loglikelihood", {}, pair, 0, ("t", 0, 1))])
    context, continuation = lm._encode_pair(*pair)
    assert counted == [len(lm.prompting.behind(context, None)) + len(continuation)]
    assert (counted[0] > len(context + continuation)) == (prompt is not None)


# --- training and transfer


def test_training_samples_labels_under_every_text_and_reads_anchors_each_epoch(
    tmp_path: Path, tokenizer: Any
) -> None:
    options = {"answers": 3, "max-gen-toks": 20, "epochs": 2, "step-size": 16}
    mcd = {"languages": ["en", "yo"], "options": options}
    found = counted(tmp_path, conditions={"mcd": None}, mcd=mcd)
    training = known(found["mcd-training"])
    of = {
        language: rows("toyrefuse_harmful", language, "train")
        + rows("toyrefuse_harmless", language, "train")
        for language in ("en", "yo")
    }
    n = len(of["en"])
    parts = {part.what: part for part in training.parts}
    labels = parts["sampled answers to the anchors"]
    assert training.prompts == 2 * n
    assert labels.prompts == 4 * 2 * n  # without a text, and under three
    assert (labels.answers, labels.tokens_each) == (4 * 2 * n * 3, 20)
    assert training.judged == labels.answers
    assert labels.prompt_tokens == sum(
        len(tokens(tokenizer, prompt, system))
        for system in (None, *SAFETY_PROMPTS.values())
        for language in ("en", "yo")
        for prompt in of[language]
    )
    steps = parts["training"]
    assert steps.trains and steps.prompts == 2 * 2 * n
    # What all begin with is read once a step of 16 anchors, and the rest of each once an epoch.
    vectors = len(tokenizer(SAFETY_PROMPTS["mistral"], add_special_tokens=False).input_ids)
    every = [tokens(tokenizer, prompt, "a") for language in of for prompt in of[language]]
    head = len(os.path.commonprefix(every))
    rest = sum(len(ids) - head for ids in every)
    spoken = len(tokenizer("a", add_special_tokens=False).input_ids)
    n_steps = -(-2 * n // 16)
    assert steps.prompt_tokens == 2 * (n_steps * (head - spoken + vectors) + rest)


def test_a_transfer_asks_the_targets_once_a_direction_and_once_without(
    tmp_path: Path, tokenizer: Any
) -> None:
    directions = {"transfer": ["en", "de", "yo"], "targets": ["ja", "fr"]}
    transfer = known(counted(tmp_path, directions=directions)["transfer"])
    asked = [
        prompt for language in ("ja", "fr") for prompt in rows("toyrefuse_harmful", language)[:7]
    ]
    assert transfer.prompts == 14
    assert transfer.prompt_tokens == 4 * sum(len(tokens(tokenizer, prompt)) for prompt in asked)
    assert transfer.generated_tokens_at_most == 4 * 14 * 512


def test_a_workload_is_read_as_it_was_written() -> None:
    parts = (Part("a", 3, 40, 6, 5), Part("b", 2, 9, certain=False), Part("c", 1, 4, trains=True))
    workload = Workload(5, parts, judged=6)
    assert read(workload.document()) == workload
    assert (workload.prompt_tokens, workload.prompt_tokens_at_most) == (44, 53)
    assert workload.generated_tokens_at_most == 30
