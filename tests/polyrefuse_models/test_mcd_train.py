"""The loss against closed forms in float64, and training on small random models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import expit
from transformers import PreTrainedModel

from polyrefuse_models.anatomy import width
from polyrefuse_models.answering import PromptTooLong
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.interventions import SoftPrompt, embed_text, installed
from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd import train as training
from polyrefuse_models.mcd.anchors import Anchors
from polyrefuse_models.mcd.checkpoint import Checkpoint, OtherTraining
from polyrefuse_models.mcd.labels import soft_labels
from polyrefuse_models.mcd.loss import Base, Terms, terms, weighted
from polyrefuse_models.mcd.probes import Measure, Probe
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.mcd.settings import PRESETS, Settings
from polyrefuse_models.mcd.states import batch_states, states, under
from polyrefuse_models.mcd.train import Trained, identity, train
from polyrefuse_models.mcd.training_pictures import pictures_of
from polyrefuse_tasks.judges import Judgement, Label
from tests.conftest import ROOT
from tests.models import SPECIAL, make_llama, make_tokenizer, memory_for
from tests.polyrefuse_models.test_architectures import (
    EMBEDDED_OTHERWISE,
    PARALLEL,
    PLAIN,
    POST_NORM,
    tiny,
)

D = 9
SAMPLED = ("mixtral", "gpt_neox", "gemma3_text", "gpt2", "llama4_text")
"""Architectures that are trained on in CI."""
SLIDING = ("mistral", "mixtral", "gpt_oss", "cohere2", "gemma2", "gemma3_text")
SETTINGS = Settings(mixed=False, init="short", epochs=2, batch_size=4, answers=2, max_new_tokens=4)


def random_loss(seed: int = 0) -> tuple[torch.Tensor, Base, Measure]:
    """Seven states, their base, and a basis with probes, all random."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    basis, _ = torch.linalg.qr(draw(D, D))
    probes = [Probe(draw(4), draw(1).item(), 0.0) for _ in range(2)]
    labels = torch.tensor([0.0, 1, 0, 1, 1, 0, 0])
    base = Base(labels, draw(7), draw(7), draw(7, D), draw(7, D))
    return 3 * draw(7, D), base, Measure(draw(D), basis, (), *probes)


def entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    p = expit(logits)
    return float(np.mean(-labels * np.log(p) - (1 - labels) * np.log(1 - p)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_term_is_its_closed_form(seed: int) -> None:
    states, base, measure = random_loss(seed)
    losses = terms(states, base, measure)
    assert {term.dtype for term in losses} == {torch.float32}
    x = (states.double().numpy() - measure.mean.double().numpy()) @ measure.basis.double().numpy()
    y = base.labels.double().numpy()
    for name in ("refusal", "harmfulness"):
        probe: Probe = getattr(measure, name)
        new = x[:, :4] @ probe.weight.double().numpy() + probe.bias
        old = getattr(base, name).double().numpy()
        assert getattr(losses, name).item() == pytest.approx(entropy(new - old, y), rel=1e-5)
    moved = (x - base.coordinates.double().numpy())[:, 4:]
    assert losses.norm.item() == pytest.approx(np.mean(moved**2), rel=1e-5)
    apart = x - base.others.double().numpy()
    assert losses.multilingual.item() == pytest.approx(np.mean(apart**2), rel=1e-5)


def test_weights_and_ablations() -> None:
    losses = Terms(*torch.tensor([2.0, 3.0, 5.0, torch.inf]))
    assert weighted(losses, Terms(1.0, 1e-2, 1e-3, 0.0)).item() == pytest.approx(2.035)
    states, base, measure = random_loss()
    alone = terms(states, replace(base, others=None), measure)
    assert alone.multilingual.item() == 0
    assert torch.equal(alone.norm, terms(states, base, measure).norm)


def test_the_papers_settings() -> None:
    """By the published code of 2505.11835, as docs/how-to/soft-prompts.md has it."""
    paper = PRESETS["paper"]
    assert paper.weights == Terms(1.0, 1e-2, 1e-3, 1e-3)
    assert (paper.learning_rate, paper.batch_size, paper.epochs, paper.clip) == (1e-3, 10, 5, 1.0)
    assert (paper.answers, paper.max_new_tokens, paper.labels) == (25, 300, "published")
    assert (paper.pivot, paper.mixed, paper.reshuffled) == (True, False, False)
    assert (paper.init, paper.precision, paper.probes) == ("default", "model", "published")


# --- training


def chat_of(
    seed: int = 0, template: str | None = None, model: PreTrainedModel | None = None
) -> ChatModel:
    tokenizer = make_tokenizer(template) if template else make_tokenizer()

    def encode(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        batch = tokenizer(
            texts, padding=True, padding_side="left", return_tensors="pt", add_special_tokens=False
        )
        return batch.input_ids, batch.attention_mask

    return ChatModel(model or make_llama(seed, layers=2), tokenizer, str, encode, batch_size=16)


def invented(*languages: str, n: int = 6) -> Anchors:
    """Questions of no world: about glorbons."""
    return Anchors(
        dataset="glorbons",
        languages=languages,
        harmful={
            lang: [f"{lang}: steal {i} glorbons" + "?" * i for i in range(n)] for lang in languages
        },
        harmless={
            lang: [f"{lang}: feed {i} glorbons" + "!" * i for i in range(n)] for lang in languages
        },
        ids=tuple(f"glorbons/{i}" for i in range(2 * n)),
        sha256={},
        overlap={},
    )


def trained(folder: Path, settings: Settings = SETTINGS, *languages: str, seed: int = 0) -> Trained:
    chat, anchors = chat_of(seed), invented(*(languages or ("en", "de")))
    return train(chat, anchors, settings, Checkpoint(folder, identity(chat, anchors, settings)))


def test_where_memory_is_too_small_passes_without_a_gradient_have_half_of_the_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chat, anchors = chat_of(), invented("en", "de")
    checkpoint = Checkpoint(tmp_path / "full", identity(chat, anchors, SETTINGS))
    with memory_for(8, chat.model):
        halved = train(chat, anchors, SETTINGS, checkpoint)
    said = [r.getMessage() for r in caplog.records if "ran out of memory" in r.getMessage()]
    assert len(said) == 2  # before the first step, and after the last
    fewer = replace(chat_of(), batch_size=8)
    plain = Checkpoint(tmp_path / "plain", identity(fewer, anchors, SETTINGS))
    assert halved.prompt.sha256 == train(fewer, anchors, SETTINGS, plain).prompt.sha256


@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(model_type, marks=() if model_type in SAMPLED else pytest.mark.slow)
        for model_type in (*PLAIN, *PARALLEL, *POST_NORM, *EMBEDDED_OTHERWISE, "llama4_text")
    ],
)
def test_the_loss_falls_and_the_artifact_loads_on_every_architecture(
    model_type: str, tmp_path: Path
) -> None:
    chat = chat_of(model=tiny(model_type, vocab_size=len(SPECIAL) + 256))
    anchors = invented("en", "de", n=24)
    # All of the anchors in a step: every step's loss is of the same. A random model refuses none.
    settings = replace(
        SETTINGS,
        weights=Terms(1.0, 1.0, 1e-3, 1e-3),
        mixed=True,
        batch_size=96,
        answers=1,
        max_new_tokens=2,
        epochs=6,
        learning_rate=3e-4,
    )
    checkpoint = Checkpoint(tmp_path / "prompt", identity(chat, anchors, settings))
    result = train(chat, anchors, settings, checkpoint)
    loss = [float(weighted(step, settings.weights)) for step in result.losses]
    assert loss[-1] < loss[0] - 1e-4
    artifact.save(result.prompt, tmp_path / "prompt", {})
    again = artifact.load(tmp_path / "prompt")
    assert torch.equal(again.vectors, result.prompt.vectors)
    again.check(width(chat.model), "prompt")
    seen = {}
    for name, vectors in (("trained", result.prompt.vectors), ("loaded", again.vectors)):
        with installed(chat.model, SoftPrompt(chat.tokenizer, vectors)) as soft:
            seen[name] = states(under(chat, soft.text), anchors.prompts("de"))
    assert torch.equal(seen["trained"], seen["loaded"])
    coordinates = result.measure.coordinates(seen["loaded"])
    torch.testing.assert_close(coordinates, result.after["de"], atol=1e-4, rtol=1e-4)


def test_the_loss_falls_in_sequence_too(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=6, learning_rate=1e-2)
    result = trained(tmp_path / "prompt", settings)
    assert len(result.losses) == 2 * 6 * 3
    loss = [float(weighted(step, settings.weights)) for step in result.losses]
    # One language's epochs: the other's have another base.
    assert np.mean(loss[15:18]) < np.mean(loss[:3]) - 0.001
    assert np.mean(loss[33:]) < np.mean(loss[18:21])
    pictures = pictures_of(result)
    artifact.save(result.prompt, tmp_path / "prompt", pictures)
    again = artifact.load(tmp_path / "prompt")
    assert torch.equal(again.vectors, result.prompt.vectors)
    assert again.metadata == json.loads(json.dumps(result.prompt.metadata))
    assert again.metadata["anchors"]["ids"] == list(invented("en").ids)
    assert again.metadata["settings"]["weights"]["norm"] == 1.0
    for name in ("training", "states"):
        written = {
            ending: tmp_path / f"prompt/{name}.{ending}" for ending in ("png", "svg", "json")
        }
        assert written["png"].read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in written["svg"].read_text()
        assert json.loads(written["json"].read_text())["model"] == result.prompt.metadata["model"]
    losses = json.loads((tmp_path / "prompt/training.json").read_text())["losses"]
    assert losses["refusal"] == [step.refusal for step in result.losses]
    states = json.loads((tmp_path / "prompt/states.json").read_text())["states"]
    harmful = result.after["de"][result.labels == 0, :2]
    assert states["de"]["after"]["harmful"] == harmful.tolist()


def test_a_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one, same = (trained(tmp_path / name) for name in ("one", "same"))
    assert one.prompt.vectors.numpy().tobytes() == same.prompt.vectors.numpy().tobytes()
    assert one.prompt.metadata == same.prompt.metadata
    assert pictures_of(one) == pictures_of(same)
    other = trained(tmp_path / "other", replace(SETTINGS, seed=1))
    assert not torch.equal(one.prompt.vectors, other.prompt.vectors)


@pytest.mark.parametrize("term", Terms._fields)
def test_every_term_changes_the_prompt(term: str, tmp_path: Path) -> None:
    weights = SETTINGS.weights._replace(harmfulness=1.0, multilingual=1.0)
    # Random models refuse nothing: a probe of their refusals says nothing.
    whole, without = (
        trained(tmp_path / str(index), replace(SETTINGS, weights=w))
        for index, w in enumerate((weights, weights._replace(**{term: 0.0})))
    )
    assert bool(whole.prompt.metadata["warnings"])
    changed = not torch.equal(whole.prompt.vectors, without.prompt.vectors)
    assert changed == (term != "refusal")


@pytest.mark.parametrize(("follow_kind", "said"), [(False, True), (True, False)])
def test_a_probe_that_predicts_the_same_of_everything_is_told(
    follow_kind: bool, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that refuses one answer in a hundred: the labels vary, and say nothing."""

    def labels(_chat: ChatModel, prompts: list[str], *_: object, **__: object) -> torch.Tensor:
        if follow_kind:
            return torch.tensor([0.1 if "steal" in prompt else 0.9 for prompt in prompts])
        return torch.tensor([0.95 if index == 5 else 1.0 for index in range(len(prompts))])

    monkeypatch.setattr("polyrefuse_models.mcd.train.soft_labels", labels)
    warnings = trained(tmp_path / "prompt").prompt.metadata["warnings"]
    assert bool(warnings) == said
    if said:
        (warning,) = warnings
        assert warning.startswith("the refusal probe says nothing: the model refused 0.4% of all")
        assert warning.endswith("so the refusal term trains nothing")


def test_mixed_languages_take_as_many_steps(tmp_path: Path) -> None:
    mixed = trained(tmp_path / "mixed", replace(SETTINGS, mixed=True))
    one_by_one = trained(tmp_path / "sequence")
    assert len(mixed.losses) == len(one_by_one.losses) == 12
    assert not torch.equal(mixed.prompt.vectors, one_by_one.prompt.vectors)


@pytest.mark.parametrize("reshuffled", [True, False])
def test_each_language_has_the_orders_of_the_first(
    reshuffled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def record(chat: ChatModel, prompts: list[str]) -> torch.Tensor:
        if chat.render("").count("soft_prompt"):  # a step of training, not a base state
            asked.extend(prompts)
        return batch_states(chat, prompts)

    monkeypatch.setattr(training, "batch_states", record)
    anchors = invented("en", "de")
    trained(tmp_path / "prompt", replace(SETTINGS, reshuffled=reshuffled))
    english, german = asked[:24], asked[24:48]
    places = [
        [anchors.prompts(language).index(prompt) for prompt in part]
        for language, part in (("en", english), ("de", german))
    ]
    assert sorted(places[0][:12]) == sorted(places[1][12:]) == list(range(12))
    assert places[0][:12] != places[0][12:]
    assert (places[0] == places[1]) is not reshuffled


@pytest.mark.parametrize("precision", ["float32", "model"])
def test_the_vectors_have_the_model_s_precision_in_training(precision: str, tmp_path: Path) -> None:
    chat, anchors = chat_of(), invented("en", "de")
    chat.model.to(torch.bfloat16)
    settings = replace(SETTINGS, precision=precision)
    result = train(chat, anchors, settings, Checkpoint(tmp_path, identity(chat, anchors, settings)))
    vectors = result.prompt.vectors
    begun = embed_text(chat.model, chat.tokenizer, SAFETY_PROMPTS[settings.init])
    assert (vectors.float() != begun).any()
    representable = torch.equal(vectors.float(), vectors.to(torch.bfloat16).float())
    assert representable is (precision == "model")


def test_the_papers_settings_train_a_prompt(tmp_path: Path) -> None:
    settings = replace(PRESETS["paper"], epochs=1, answers=3, max_new_tokens=12, init="short")
    result = trained(tmp_path / "prompt", settings)
    assert len(result.losses) == 2 * 2
    assert np.isfinite(np.array(result.losses)).all()
    metadata = result.prompt.metadata
    assert metadata["settings"]["probes"] == metadata["settings"]["labels"] == "published"
    assert set(metadata["not_refused"]["none"]) == {"en"}
    # A random model does not write three lines in twelve tokens, so that no harmful query complies.
    (warning,) = metadata["warnings"]
    assert "separates harmful from harmless anchors" in warning


def test_gradients_reach_the_prompt_alone(tmp_path: Path) -> None:
    chat, anchors = chat_of(), invented("en", "de")
    before = {name: weight.clone() for name, weight in chat.model.state_dict().items()}
    train(chat, anchors, SETTINGS, Checkpoint(tmp_path / "x", identity(chat, anchors, SETTINGS)))
    assert all(torch.equal(before[name], w) for name, w in chat.model.state_dict().items())
    assert all(w.grad is None and w.requires_grad for w in chat.model.parameters())
    assert not chat.model.get_input_embeddings()._forward_hooks


def test_states_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def count(chat: ChatModel, prompts: list[str]) -> torch.Tensor:
        asked.append((chat.render(prompts[0]), prompts[0]))
        return states(chat, prompts)

    monkeypatch.setattr(training, "states", count)
    trained(tmp_path / "x")
    # Four conditions and the soft prompt's, two languages.
    assert len(asked) == len(set(asked)) == 10


def test_pivot_takes_the_first_language_s_logits(tmp_path: Path) -> None:
    chat, anchors = chat_of(), invented("en", "de")
    for pivot in (True, False):
        settings = replace(SETTINGS, pivot=pivot)
        left = Checkpoint(tmp_path / str(pivot), identity(chat, anchors, settings))
        prepared = training.prepare(chat, anchors, settings, left)
        english, german = prepared.base["en"], prepared.base["de"]
        assert torch.equal(english.harmfulness, german.harmfulness) == pivot
        assert torch.equal(german.others, english.coordinates)
        assert (set(prepared.not_refused["none"]) == {"en"}) == pivot


# --- states and labels


@pytest.mark.parametrize(
    "model_type", [*PLAIN, *PARALLEL, *POST_NORM, *EMBEDDED_OTHERWISE, "llama4_text"]
)
def test_states_are_those_of_single_prompts(model_type: str) -> None:
    # Where attention slides, its window is shorter than what the prompts begin with.
    window = {"sliding_window": 8} if model_type in SLIDING else {}
    chat = chat_of(model=tiny(model_type, vocab_size=len(SPECIAL) + 256, **window))
    prompted = under(chat, "Mind the glorbons.")
    prompts = invented("en").prompts("en")
    last_states = states(prompted, prompts)
    for prompt, state in zip(prompts, last_states, strict=True):
        text = f"<s><|system|>Mind the glorbons.<|end|><|user|>{prompt}<|end|><|assistant|>\n"
        ids = chat.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            alone = chat.model(ids, output_hidden_states=True).hidden_states[-1][0, -1]
        torch.testing.assert_close(state, alone, atol=1e-5, rtol=1e-5)


def test_a_gradient_goes_through_what_prompts_begin_with() -> None:
    chat = chat_of()
    words = embed_text(chat.model, chat.tokenizer, "Mind the glorbons.")
    prompts = invented("en").prompts("en")
    gradients = []
    for parts in ([prompts], [[prompt] for prompt in prompts]):
        vectors = torch.nn.Parameter(words.clone())
        with installed(chat.model, SoftPrompt(chat.tokenizer, vectors)) as soft:
            for part in parts:
                batch_states(under(chat, soft.text), part).square().sum().backward()
        gradients.append(vectors.grad)
    together, alone = gradients
    assert (alone != 0).all()
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_labels_are_shares_of_what_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[tuple[str, str]] = []

    def judge(text: str, language: str) -> Judgement:
        """By the first letter: the share is to be that of the answers counted here."""
        judged.append((text, language))
        return Judgement(Label.REFUSAL if sum(text.encode()) % 2 else Label.COMPLIANCE)

    monkeypatch.setattr("polyrefuse_models.mcd.labels.judge_response", judge)
    chat, prompts = under(chat_of(), None), invented("en").prompts("en")
    given = {"answers": 5, "max_new_tokens": 6}
    torch.manual_seed(4)
    undisturbed = torch.rand(1)
    torch.manual_seed(4)
    labels = soft_labels(chat, prompts, "yo", seed=7, **given)
    assert torch.equal(torch.rand(1), undisturbed)
    assert len(judged) == 12 * 5 and {language for _, language in judged} == {"yo"}
    assert len({text for text, _ in judged}) > 12
    kept = sum(sum(text.encode()) % 2 == 0 for text, _ in judged)
    assert labels.sum().item() == pytest.approx(kept / 5)
    assert torch.equal(soft_labels(chat, prompts, "yo", seed=7, **given), labels)
    first = list(judged[:60])
    soft_labels(chat, prompts, "yo", seed=8, **given)
    assert judged[-60:] != first


def test_a_prompt_longer_than_the_window() -> None:
    chat = chat_of()
    with pytest.raises(
        PromptTooLong, match=r"need 5\d\d\d tokens together, and the model's window has 4096"
    ):
        states(under(chat, "glorbon " * 640), ["?"])


# --- interruption

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.polyrefuse_models import test_mcd_train as here

steps = 0
def terms(*args):
    global steps
    steps += 1
    if steps == 8:  # of 12, 3 an epoch
        os.kill(os.getpid(), signal.SIGKILL)
    return here.terms(*args)

here.training.terms = terms
here.trained(Path(sys.argv[1]))
"""


def test_the_same_command_goes_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "prompt")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "prompt").exists()
    # Two epochs are kept, and the states and labels too.
    left = tmp_path / ".prompt.train"
    assert torch.load(left / "epoch", weights_only=True)["done"] == 2
    for name in ("states", "soft_labels"):
        monkeypatch.setattr(training, name, lambda *a, name=name, **k: pytest.fail(f"{name} again"))
    monkeypatch.setattr(training, "states", lambda *_: torch.zeros(12, 32))  # after training
    resumed = trained(tmp_path / "prompt")
    monkeypatch.undo()
    whole = trained(tmp_path / "whole")
    assert resumed.losses == whole.losses
    assert resumed.prompt.vectors.numpy().tobytes() == whole.prompt.vectors.numpy().tobytes()
    assert resumed.prompt.metadata == whole.prompt.metadata


def test_a_checkpoint_of_other_settings(tmp_path: Path) -> None:
    trained(tmp_path / "prompt")
    with pytest.raises(OtherTraining, match="differs in settings; remove the folder"):
        trained(tmp_path / "prompt", replace(SETTINGS, seed=1))
    with pytest.raises(OtherTraining, match="differs in weights; "):
        trained(tmp_path / "prompt", seed=1)
