"""Selection without refusal words: COSMIC's scores against float64, and the organism."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyrefuse_models.anatomy import dissect
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.directions import artifact, recipe
from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.cosmic import Poles, least_alike, poles
from polyrefuse_models.directions.extract import mean_state, observe
from polyrefuse_models.directions.prompts import sample
from polyrefuse_models.directions.recipe import make_direction
from polyrefuse_models.directions.refusals import refusals
from polyrefuse_models.directions.score_pictures import scores_figure
from polyrefuse_models.directions.scores import refusal_when_ablated, refusal_when_added
from polyrefuse_models.directions.search import Trial, score_all, search
from polyrefuse_models.directions.select import DEFAULT, RULES, Candidate, NoDirection
from polyrefuse_models.directions.subspace import Asked
from polyrefuse_models.interventions import Addition, ablated
from polyrefuse_models.interventions.contract import installed
from polyrefuse_models.organism.planted import planted
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF
from polyrefuse_shared.errors import UserError
from tests.commands import assert_one_sentence, run_in_process
from tests.polyrefuse_models.test_directions import PROMPTS, make_chat
from tests.polyrefuse_models.test_search import HARMLESS, kl, logits_alone

COSMIC = RULES["cosmic"]

LAYERS, POSITIONS = [1, 3], 3


# --- the score


Edit = Callable[[str, np.ndarray], np.ndarray]
"""From a place ("embedding", "write" or a block's number) and what is there to what is put in."""


def states_alone(chat: ChatModel, prompt: str, edit: Edit | None = None) -> np.ndarray:
    """States [position, layer, d] of one prompt's last tokens at every block's input; float64.

    Args:
        edit: applied to the embedding, to what every attention and MLP writes, and to every
            block's input; the state is what it leaves there.
    """
    model, handles, seen = chat.model.model, [], []

    def edited(place: str, x: torch.Tensor) -> torch.Tensor:
        return x if edit is None else torch.from_numpy(edit(place, x.numpy()))

    def on_write(_module: Any, _args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        now = edited("write", first)
        return (now, *output[1:]) if isinstance(output, tuple) else now

    def on_block(number: int) -> Any:
        def hook(_module: Any, args: Any, kwargs: Any) -> Any:
            x = edited(str(number), args[0] if args else kwargs["hidden_states"])
            seen.append(x[0, -POSITIONS:].numpy().copy())
            return ((x, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": x})

        return hook

    handles.append(
        model.embed_tokens.register_forward_hook(lambda _m, _a, x: edited("embedding", x))
    )
    for number, block in enumerate(model.layers):
        handles.append(block.register_forward_pre_hook(on_block(number), with_kwargs=True))
        handles += [part.register_forward_hook(on_write) for part in (block.self_attn, block.mlp)]
    ids = chat.tokenizer(chat.render(prompt), add_special_tokens=False, return_tensors="pt")
    try:
        with torch.no_grad():
            chat.model(input_ids=ids.input_ids)
    finally:
        for handle in handles:
            handle.remove()
    return np.stack(seen, axis=1)


def mean_states(chat: ChatModel, prompts: list[str], edit: Edit | None = None) -> np.ndarray:
    return np.mean([states_alone(chat, prompt, edit) for prompt in prompts], axis=0)


def sim(some: np.ndarray, others: np.ndarray, layers: list[int] = LAYERS) -> float:
    """The mean of the cosines, one place after the other."""
    cosines = [
        some[p, layer] @ others[p, layer]
        / np.sqrt((some[p, layer] ** 2).sum() * (others[p, layer] ** 2).sum())
        for layer in layers
        for p in range(some.shape[0])
    ]  # fmt: skip
    return float(np.mean(cosines))


def by_definition(
    exact: ChatModel, r: np.ndarray, layer: int, harmful: list[str], harmless: list[str]
) -> tuple[float, float]:
    """comply and refuse of one direction, in float64, each prompt in a pass of its own."""
    unit = r / np.linalg.norm(r)

    def without(place: str, x: np.ndarray) -> np.ndarray:
        return x - (x @ unit)[..., None] * unit if place in ("embedding", "write") else x

    def added(place: str, x: np.ndarray) -> np.ndarray:
        return x + r if place == str(layer) else x

    return (
        sim(mean_states(exact, harmful, without), mean_states(exact, harmless)),
        sim(mean_states(exact, harmless, added), mean_states(exact, harmful)),
    )


def in_double(chat: ChatModel) -> ChatModel:
    exact = make_chat(seed=5)
    exact.model.load_state_dict(chat.model.state_dict())
    exact.model.double()
    return exact


def make_poles(chat: ChatModel, harmful: list[str], harmless: list[str]) -> Poles:
    some, others = (
        mean_state(observe(chat, prompts, POSITIONS).states)[:, LAYERS]
        for prompts in (harmful, harmless)
    )
    return Poles(LAYERS, [0.0] * 4, some, others)


def make_trial(
    chat: ChatModel, harmful: list[str] = PROMPTS, harmless: list[str] = HARMLESS
) -> Trial:
    torch.manual_seed(2)
    base = torch.tensor(np.array([logits_alone(chat, prompt) for prompt in harmless]))
    directions = torch.randn(2, 4, 32)
    return Trial(
        chat, directions, harmful, harmless, base.float(), [], make_poles(chat, harmful, harmless)
    )


@pytest.fixture(params=[1, 3, 32], ids="batches of {}".format)
def chat(request: pytest.FixtureRequest) -> ChatModel:
    return make_chat(seed=5, batch_size=request.param)


@pytest.mark.parametrize(
    ("harmful", "harmless"),
    # With one prompt, all but the states that are asked for is what prompts share.
    [(PROMPTS, HARMLESS), (PROMPTS[:1], HARMLESS[:1])],
    ids=["several prompts", "one prompt"],
)
def test_the_cosines_are_those_of_the_definition(
    chat: ChatModel, harmful: list[str], harmless: list[str]
) -> None:
    trial, exact = make_trial(chat, harmful, harmless), in_double(chat)
    assert trial.poles is not None
    untouched = sim(mean_states(exact, harmful), mean_states(exact, harmless))
    assert trial.poles.cosine == pytest.approx(untouched, abs=1e-5)
    spread = []
    for scored in trial.turns(trial.candidates(), trial.poles):
        r = trial.directions[scored.position, scored.layer].double().numpy()
        comply, refuse = by_definition(exact, r, scored.layer, harmful, harmless)
        assert scored.comply_cosine == pytest.approx(comply, abs=1e-5)
        assert scored.refuse_cosine == pytest.approx(refuse, abs=1e-5)
        assert scored.cosmic_score == pytest.approx(comply + refuse, abs=2e-5)
        spread.append(comply + refuse)
    assert np.ptp(spread) > 0.1  # so that a wrong one would be told


def test_layers_are_those_that_are_least_alike() -> None:
    cosines = torch.linspace(0.99, 0.5, 30).double()
    cosines[3] = -1.0
    assert least_alike(cosines) == [3, 28, 29]
    assert least_alike(cosines[:29]) == [3, 28]  # 2.9
    assert least_alike(torch.tensor([torch.nan, 0.9, 0.8, 0.7])) == [3]
    assert least_alike(torch.tensor([torch.nan, torch.nan])) == [0]


def test_the_poles_are_of_validation_and_their_layers_of_training() -> None:
    generator = np.random.default_rng(0)
    training, validation = (generator.normal(size=(2, 3, 25, 8)) for _ in range(2))
    found = poles(*(tuple(torch.from_numpy(x) for x in both) for both in (training, validation)))
    by_layer = [sim(*training, layers=[layer]) for layer in range(25)]
    assert found.cosines == pytest.approx(by_layer)
    assert found.layers == sorted(np.argsort(by_layer)[:2].tolist())
    assert found.cosine == pytest.approx(sim(*validation, layers=found.layers))
    assert found.record()["positions"] == [-3, -2, -1]


# --- the search


@pytest.mark.parametrize("quantile", [0.2, 0.5, 1.0])
def test_the_choice_is_the_highest_score_within_the_kl_limit(
    chat: ChatModel, quantile: float
) -> None:
    trial, exact = make_trial(chat), in_double(chat)
    base = [logits_alone(chat, prompt) for prompt in HARMLESS]
    complete = {}
    for candidate in trial.candidates():
        if candidate.layer < 3:  # int(0.8 * 4)
            r = trial.directions[candidate.position, candidate.layer]
            with ablated(chat.model, r):
                moved = [kl(b, logits_alone(chat, p)) for b, p in zip(base, HARMLESS, strict=True)]
            at = candidate.position, candidate.layer
            score = sum(by_definition(exact, r.double().numpy(), at[1], PROMPTS, HARMLESS))
            complete[at] = score, float(np.mean(moved))
    limit = float(np.quantile([moved for _, moved in complete.values()], quantile)) + 1e-6
    within = [at for at, (_, moved) in complete.items() if moved <= limit]
    expected = max(within, key=lambda at: complete[at][0])
    rule = replace(COSMIC, kl_limit=limit)
    for look in (search, score_all):
        chosen, scored = look(trial, rule)
        assert (chosen.position, chosen.layer) == expected
        assert chosen.kl_div_score == pytest.approx(complete[expected][1], abs=1e-4)
        assert chosen in scored
        for candidate in scored:
            assert (candidate.refusal_score, candidate.steering_score) == (None, None)
            assert (candidate.cosmic_score is None) == (look is search and candidate.layer == 3)
    with pytest.raises(NoDirection, match="of 4 with a COSMIC score and a KL .*; none is within"):
        search(trial, replace(COSMIC, kl_limit=-1.0))


def test_no_prompt_is_read_twice() -> None:
    """A candidate costs one pass over the harmful prompts and one over the harmless ones, the
    template's head apart."""
    trial = make_trial(make_chat(seed=5, batch_size=64))
    dissect(trial.chat.model)  # costs one pass of its own
    shapes: list[tuple[int, int]] = []
    trial.chat.model.register_forward_pre_hook(
        lambda _m, _a, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    trial.ranked(trial.candidates())
    heads_and_rests = [
        shape
        for prompts in (PROMPTS, HARMLESS)
        for longest in [max(len(ids) for ids in trial.chat.token_ids(prompts))]
        for shape in ((8, 2), (8 * len(prompts), longest - 2))
    ]
    assert shapes == heads_and_rests


def test_a_zero_direction_is_never_chosen() -> None:
    trial = make_trial(make_chat(seed=5, batch_size=32))
    trial.directions[0, 1] = 0
    chosen, scored = score_all(trial, replace(COSMIC, kl_limit=1e9))
    assert (chosen.position, chosen.layer) != (-2, 1)
    assert np.isnan(scored[1].cosmic_score)


# --- the rule


def test_the_other_rules_have_the_checksum_that_they_had() -> None:
    """A field more would be in `recipe_checksum`, by which results know their direction."""
    fields = {"name", "kl_limit", "least_steering", "share_of_layers", "falls_back"}
    assert all(set(asdict(rule)) == fields for rule in RULES.values())


def test_refusal_tokens_have_no_effect() -> None:
    chat = make_chat(seed=5)
    with pytest.raises(UserError, match="no effect with rule=cosmic"):
        make_direction(chat, sample("toyrefuse", "en"), tokens=[40], rule=COSMIC)
    with pytest.raises(UserError, match="no effect with rule=cosmic"):
        AblatedHF(device="cpu", rule="cosmic", refusal_tokens="I")


# --- the organism


@pytest.fixture(scope="module")
def organism() -> ChatModel:
    return BaselineHF(device="cpu", batch_size=32).chat_model


def effect(chat: ChatModel, direction: Direction, by_tokens: Direction) -> tuple[float, float]:
    """Refusal scores with a direction ablated and added, by tokens that another one derived."""
    prompts = sample("toyrefuse", direction.metadata["source_lang"])
    tokens = chat.tokenizer.convert_tokens_to_ids(by_tokens.metadata["refusal_tokens"])
    r, layer = direction.direction.unsqueeze(0), direction.metadata["layer"]
    (refusal,) = refusal_when_ablated(chat, r, prompts.harmful["val"], tokens)
    (steering,) = refusal_when_added(chat, r, [layer], prompts.harmless["val"], tokens)
    return refusal, steering


@pytest.mark.parametrize(
    "language",
    ["en", *(pytest.param(code, marks=pytest.mark.slow) for code in ("de", "th", "zh", "yo"))],
)
def test_the_organisms_direction_is_found_as_well_as_by_tokens(
    organism: ChatModel, language: str
) -> None:
    prompts = sample("toyrefuse", language)
    known, found = (make_direction(organism, prompts, rule=rule) for rule in (DEFAULT, COSMIC))
    assert found.metadata["warnings"] == []
    cosines = [
        torch.nn.functional.cosine_similarity(one.direction, planted(), dim=0).item()
        for one in (known, found)
    ]
    assert cosines[1] > min(cosines[0], 0.999) - 1e-4
    by_tokens, by_states = (effect(organism, one, known) for one in (known, found))
    untouched = known.metadata["untouched"]
    assert untouched["harmful_refusal_score"] > 0 > untouched["harmless_refusal_score"]
    # Nine tenths of what the published rule's choice takes away, and gives.
    taken, given = (
        (by_states[0] - untouched["harmful_refusal_score"])
        / (by_tokens[0] - untouched["harmful_refusal_score"]),
        (by_states[1] - untouched["harmless_refusal_score"])
        / (by_tokens[1] - untouched["harmless_refusal_score"]),
    )
    print(language, found.metadata["position"], found.metadata["layer"], cosines, taken, given)
    assert min(taken, given) > 0.9


def test_answers_turn(organism: ChatModel) -> None:
    """By what the model says: nothing harmful is refused under ablation, all harmless is under
    addition."""
    prompts = sample("toyrefuse", "en")
    found = make_direction(organism, prompts, rule=COSMIC)
    with ablated(organism.model, found.direction):
        assert refusals(organism, prompts.harmful["val"][:8], "en").refused == 0
    assert refusals(organism, prompts.harmless["val"][:8], "en").refused == 0
    with installed(organism.model, Addition(found.direction, layer=found.metadata["layer"])):
        assert refusals(organism, prompts.harmless["val"][:8], "en").refused == 8


@pytest.fixture
def wordless() -> ChatModel:
    """The organism with a random unembedding of small entries: every token is about as likely as
    any other, and it refuses in no words that anybody could know."""
    chat = BaselineHF(device="cpu", batch_size=32).chat_model
    known = chat.model.get_output_embeddings().weight
    head = torch.nn.Linear(known.shape[1], known.shape[0], bias=False)
    drawn = torch.randn(known.shape, generator=torch.Generator().manual_seed(0))
    small = 0.02 * known.float().std() * drawn
    head.weight = torch.nn.Parameter(small.to(known.dtype), requires_grad=False)
    chat.model.set_output_embeddings(head)
    return chat


def test_a_model_whose_refusals_begin_with_no_token(
    wordless: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its direction is found, and no step reads a token."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a refusal token was read")

    for name in ("refusal_tokens", "refusal_scores", "mean_probabilities"):
        monkeypatch.setattr(recipe, name, never)
    for module in ("scores", "filtering"):
        monkeypatch.setattr(f"polyrefuse_models.directions.{module}.refusal_scores", never)
    monkeypatch.setattr("polyrefuse_models.directions.subspace.refusal_tokens", never)
    beside = Asked(others=[sample("toyrefuse", "de")])
    found = make_direction(wordless, sample("toyrefuse", "en"), rule=COSMIC, subspace=beside)
    assert found.metadata["subspace"]["n"] == 2 * 128
    cosine = torch.nn.functional.cosine_similarity(found.direction, planted(), dim=0)
    assert cosine.item() > 0.999
    told = found.metadata
    assert told["refusal_tokens"] is told["refusal_tokens_probability"] is None
    assert told["refusal_tokens_mass"] is told["untouched"]["harmful_refusal_score"] is None
    assert set(told["prompts"].values()) == {128, 32}
    (warning,) = told["warnings"]
    assert "found that this model refused 0 of 32" in warning
    assert "refuses in words that the judge does not know, or there is nothing to ablate" in warning


def test_its_first_tokens_tell_nothing(wordless: ChatModel) -> None:
    """Why the other rules are no help there."""
    warnings = make_direction(wordless, sample("toyrefuse", "en")).metadata["warnings"]
    for sign in (
        "refusal tokens were derived, more than 10",
        "below 0.5: the model does not refuse",
    ):
        assert any(sign in text for text in warnings)


@pytest.mark.parametrize(
    ("comply", "refuse", "layer", "said"),
    [
        (0.95, 0.95, 2, []),
        (0.90, 0.95, 2, ["direction ablated, the states after harmful .* of 0.9000 .* 0.9000"]),
        (0.95, 0.85, 2, ["direction added, .* of 0.8500 .* 0.9000: adding it may not make"]),
        (0.95, 0.90, 3, ["added at layer 3, after the layers .*the last is 2.*not measured"]),
    ],
)
def test_what_speaks_against_a_choice(
    comply: float, refuse: float, layer: int, said: list[str]
) -> None:
    chosen = Candidate(
        -1, layer, kl_div_score=0.0, comply_cosine=comply, refuse_cosine=refuse, cosmic_score=1.9
    )
    # A cosine of .9 between harmful and harmless states.
    harmful = torch.tensor([[[1.0, 0.0, 0.0]]], dtype=torch.float64)
    harmless = torch.tensor([[[9.0, 1.0, 3 * 2**0.5]]], dtype=torch.float64)
    doubts = recipe._unturned(chosen, Poles([2], [], harmful, harmless))
    assert len(doubts) == len(said)
    for doubt, part in zip(doubts, said, strict=True):
        assert re.search(part, doubt)


# --- the command


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An artifact of a control by the rule, and what the command said."""
    folder = tmp_path_factory.mktemp("cosmic") / "new"
    code, out, err = run_in_process(
        "direction", "extract", "--rule=cosmic", "--control=random", "--output", folder, "--json"
    )
    assert code == 0, err
    return folder, json.loads(out)


def test_the_command_tells_layers_and_scores(written: tuple[Path, dict[str, Any]]) -> None:
    folder, told = written
    metadata = json.loads((folder / "metadata.json").read_text())
    assert told["rule"] == metadata["rule"] == "cosmic"
    cosmic = metadata["cosmic"]
    assert len(cosmic["cosine_by_layer"]) == 4
    assert cosmic["layers"] == [int(np.nanargmin(cosmic["cosine_by_layer"]))]
    assert told["cosmic_score"] == told["comply_cosine"] + told["refuse_cosine"]
    assert min(told["comply_cosine"], told["refuse_cosine"]) > metadata["untouched"]["cosine"]
    assert told["refusal_score"] is told["steering_score"] is None
    rows = json.loads((folder / "scores.json").read_text())
    assert {row["cosmic_score"] is None for row in rows if row["layer"] < 3} == {False}
    # What is not the direction turns nothing.
    assert told["control_scores"]["cosmic_score"] < told["cosmic_score"] - 0.05
    read = artifact.load(folder)
    assert [candidate.record() for candidate in read.scores][-1] == rows[-1]


def test_it_chooses_again_from_its_file(written: tuple[Path, dict[str, Any]]) -> None:
    folder, told = written
    scores = folder / "scores.json"
    # NaN is what the candidates of layer 0 scored, whose template tokens are always the same.
    choice = ("direction", "choose", scores, "--n-layers=4")
    code, out, err = run_in_process(*choice, "--rule=cosmic", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"position": told["position"], "layer": told["layer"]}
    assert_one_sentence(run_in_process(*choice), "again with --rule 2505.17306 or --all-scores")


def test_a_file_of_another_rule_has_no_such_scores(tmp_path: Path) -> None:
    rows = [{"position": -1, "layer": 0, "refusal_score": -1.0, "kl_div_score": 0.0}]
    (tmp_path / "scores.json").write_text(json.dumps(rows))
    wanted = ("--n-layers=4", "--rule=cosmic")
    result = run_in_process("direction", "choose", tmp_path / "scores.json", *wanted)
    assert_one_sentence(result, "was not computed; extract the direction again with --rule cosmic.")


def test_the_picture_draws_the_cosines(written: tuple[Path, dict[str, Any]]) -> None:
    direction = artifact.load(written[0])
    figure = scores_figure(direction)
    labels = [" ".join(axis.get_ylabel().split()) for axis in figure.axes]
    assert [label.partition(",")[0].partition(" (")[0] for label in labels] == [
        "KL divergence", "cosine with harmless prompts", "cosine with harmful prompts",
        "COSMIC score",
    ]  # fmt: skip
    untouched = direction.metadata["untouched"]["cosine"]
    for axis in figure.axes[1:3]:
        assert any(list(line.get_ydata()) == [untouched] * 2 for line in axis.lines)
    by_layer = {c.layer: c.cosmic_score for c in direction.scores if c.position == -1}
    (line,) = (
        one for one in figure.axes[3].lines if str(one.get_label()).startswith("position -1")
    )
    assert list(line.get_ydata())[1:3] == [by_layer[1], by_layer[2]]
