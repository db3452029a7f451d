"""`ablated-hf` and `refusal-added-hf`: methods, layers, coefficients, and what is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from polyrefuse_models.directions import artifact
from polyrefuse_models.directions.artifact import BadDirection, Direction
from polyrefuse_models.interventions import LayerOutOfRange
from polyrefuse_models.interventions.orthogonalise import NotExact
from polyrefuse_models.wrappers.direction_arguments import parse_layer, parse_layers
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, RefusalAddedHF
from polyrefuse_shared.errors import UserError
from tests.models import make_llama, make_tokenizer

PAIR = Instance("loglikelihood", {}, ("A glimmerfish is", " small"), 0, ("t", 0, 1))


def generated(lm: BaselineHF) -> list[str]:
    settings = {"until": [], "do_sample": False, "max_gen_toks": 12}
    prompt = "Name three rivers of Quend."
    request = Instance("generate_until", {}, (prompt, settings), 0, ("t", 0, 1))
    return lm.generate_until([request])


@pytest.fixture(scope="module")
def given(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments that every wrapper here is made with."""
    torch.manual_seed(4)
    folder = tmp_path_factory.mktemp("directions") / "invented"
    candidates = torch.randn(3, 4, 32)
    found = {"source_lang": "de", "position": -1, "layer": 2, "model": str(chat_model)}
    artifact.save(Direction(candidates[-1, 2], candidates, metadata=found), folder)
    return {"pretrained": str(chat_model), "direction": str(folder), "device": "cpu"}


def test_weights_and_hooks_answer_alike_and_auto_takes_weights(given: dict[str, Any]) -> None:
    by_hooks, by_weights = AblatedHF(**given, method="hooks"), AblatedHF(**given, method="weights")
    assert generated(by_hooks) == generated(by_weights)
    one, other = by_hooks.loglikelihood([PAIR])[0][0], by_weights.loglikelihood([PAIR])[0][0]
    assert one == pytest.approx(other, abs=1e-4)
    auto = AblatedHF(**given)
    assert auto.identity() == by_weights.identity()
    assert auto.identity()["method"] == "weights"


def test_auto_takes_hooks_where_weights_are_not_exact(given: dict[str, Any]) -> None:
    half = AblatedHF(**given, coefficient=0.5)
    some = AblatedHF(**given, layers="1-2")
    assert (half.identity()["method"], half.identity()["coefficient"]) == ("hooks", 0.5)
    assert (some.identity()["method"], some.identity()["layers"]) == ("hooks", "1-2")
    scores = {lm.loglikelihood([PAIR])[0][0] for lm in (half, some, AblatedHF(**given))}
    assert len(scores) == 3
    with pytest.raises(NotExact, match="coefficient=0.5 is not 1; use method=hooks"):
        AblatedHF(**given, coefficient=0.5, method="weights")


def test_the_weights_of_a_model_that_the_caller_made_are_left_alone(given: dict[str, Any]) -> None:
    model = make_llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lm = AblatedHF(**given | {"pretrained": model}, tokenizer=make_tokenizer())
    assert lm.identity()["method"] == "hooks"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_addition_at_the_artifact_s_layer_or_a_given_one(given: dict[str, Any]) -> None:
    baseline = BaselineHF(pretrained=given["pretrained"], device="cpu")
    added, elsewhere = RefusalAddedHF(**given), RefusalAddedHF(**given, layer=0, coefficient=3)
    assert (added.identity()["condition"], added.identity()["layer"]) == ("addition", 2)
    assert (elsewhere.identity()["layer"], elsewhere.identity()["coefficient"]) == (0, 3.0)
    scores = {lm.loglikelihood([PAIR])[0][0] for lm in (baseline, added, elsewhere)}
    assert len(scores) == 3
    with pytest.raises(LayerOutOfRange, match="Layer 9"):
        RefusalAddedHF(**given, layer=9)


def test_a_bare_file_with_one_vector(given: dict[str, Any], tmp_path: Path) -> None:
    vector = artifact.load(given["direction"]).direction
    path = tmp_path / "vector.safetensors"
    save_file({"anything": vector.clone()}, path)
    bare = AblatedHF(**given | {"direction": str(path)})
    assert bare.asked.direction.sha256 == AblatedHF(**given).asked.direction.sha256
    with pytest.raises(UserError, match="no layer; give layer=N"):
        RefusalAddedHF(**given | {"direction": str(path)})
    placed = RefusalAddedHF(**given | {"direction": str(path)}, layer=2)
    assert placed.loglikelihood([PAIR]) == RefusalAddedHF(**given).loglikelihood([PAIR])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    pickled = tmp_path / "direction.pt"
    torch.save(torch.ones(32), pickled)
    with pytest.raises(BadDirection, match="a pickle can run code"):
        AblatedHF(pretrained="never loaded", direction=str(pickled))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(pickled.read_bytes())
    with pytest.raises(BadDirection, match="is not a safetensors file"):
        AblatedHF(pretrained="never loaded", direction=str(broken))
    matrix = tmp_path / "matrix.safetensors"
    save_file({"a": torch.ones(2, 2)}, matrix)
    with pytest.raises(BadDirection, match="give a file with one vector"):
        AblatedHF(pretrained="never loaded", direction=str(matrix))


def test_a_direction_of_another_model_is_warned_of(
    given: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    direction = artifact.load(given["direction"])
    artifact.save(replace(direction, metadata={"model": "another"}), tmp_path / "foreign")
    with caplog.at_level(logging.WARNING):
        AblatedHF(**given)
        assert "was extracted from" not in caplog.text
        AblatedHF(**given | {"direction": str(tmp_path / "foreign")})
    assert "was extracted from another" in caplog.text


def test_another_revision_is_warned_of_and_another_name_of_the_folder_is_not(
    given: dict[str, Any],
    chat_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(chat_model.parent)
    direction = artifact.load(given["direction"])
    known = {"model": "./" + chat_model.name, "revision": "abc"}
    for revision, warned in (("abc", False), ("def", True)):
        caplog.clear()
        config = LlamaConfig()
        config._name_or_path, config._commit_hash = str(chat_model), revision
        replace(direction, metadata=known).warn_of_another_model(config)
        assert ("(revision abc), but this model is" in caplog.text) == warned
        assert ("(revision def)" in caplog.text) == warned


@pytest.fixture
def never_extracted(monkeypatch: pytest.MonkeyPatch) -> None:
    def extract(*_arguments: object, **_settings: object) -> None:
        raise AssertionError("extracted")

    monkeypatch.setattr("polyrefuse_models.wrappers.direction_arguments.find_direction", extract)


@pytest.mark.parametrize("coefficient", ["abc", "", None, "nan", float("inf"), True])
@pytest.mark.parametrize("wrapper", [AblatedHF, RefusalAddedHF])
def test_a_coefficient_that_is_no_number(wrapper: type, coefficient: Any) -> None:
    with pytest.raises(UserError, match=f"coefficient={coefficient} is not a finite number"):
        wrapper(pretrained="never loaded", coefficient=coefficient)


@pytest.mark.parametrize("coefficient", [1e25, "-1e25", "1e300"])
def test_a_multiple_beyond_every_type_is_refused_before_a_model_is_loaded(
    given: dict[str, Any], coefficient: Any
) -> None:
    with pytest.raises(UserError, match=r"^coefficient=-?1e\+\d+: .* give a smaller coefficient.$"):
        RefusalAddedHF(**given | {"pretrained": "never loaded"}, coefficient=coefficient)


def test_a_multiple_beyond_the_type_of_the_weights_is_refused(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """65,504 is the largest number of float16 (IEEE 754); float32 has larger ones."""
    largest = float(artifact.load(given["direction"]).direction.abs().max())
    within, beyond = 65_000 / largest, 66_000 / largest
    said = r"^coefficient=\S+: an entry of \S+ times the direction is 6.6e\+04, and float16 holds"
    with pytest.raises(UserError, match=said):
        RefusalAddedHF(**given, coefficient=beyond, dtype="float16")
    for accepted in ({"coefficient": within, "dtype": "float16"}, {"coefficient": beyond}):
        lm = RefusalAddedHF(**given, **accepted)
        assert lm.identity()["coefficient"] == accepted["coefficient"]
    # The same of a direction that is not read but extracted.
    found = artifact.load(given["direction"])
    monkeypatch.setattr(
        "polyrefuse_models.wrappers.direction_arguments.find_direction", lambda *_, **__: found
    )
    auto = given | {"direction": "auto", "dataset": "toyrefuse", "dtype": "float16"}
    with pytest.raises(UserError, match=said):
        RefusalAddedHF(**auto, coefficient=beyond)


@pytest.mark.parametrize("layer", ["abc", 1.5, "2.5", True, "", -1, "9" * 5000])
def test_a_layer_that_is_no_number(layer: Any) -> None:
    with pytest.raises(LayerOutOfRange, match=f"layer={layer} is not a layer; give its number"):
        RefusalAddedHF(pretrained="never loaded", layer=layer)
    assert parse_layer("2") == parse_layer(2) == 2


@pytest.mark.parametrize(
    ("wrapper", "settings", "said"),
    [
        (AblatedHF, {"layers": "2-4"}, "Layer 2-4 is not in the model"),
        (AblatedHF, {"layers": "2-3", "method": "weights"}, "not exact: .* layers"),
        (AblatedHF, {"coefficient": 0.5, "method": "weights"}, "coefficient=0.5 is not 1"),
        (RefusalAddedHF, {"layer": 4}, "Layer 4 is not in the model"),
        (AblatedHF, {"refusal_tokens": "N|no"}, "'no', which is 2 tokens"),
    ],
)
def test_settings_are_checked_before_a_direction_is_extracted(
    chat_model: Path, never_extracted: None, wrapper: type, settings: dict[str, Any], said: str
) -> None:
    usual = {"pretrained": str(chat_model), "device": "cpu", "dataset": "toyrefuse"}
    with pytest.raises(UserError, match=said):
        wrapper(**usual, **settings)


def test_the_rule_of_auto(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval reads `rule=2406.11717` as a number; one that is not known is told at once."""
    asked = {}

    def find(_chat: object, _prompts: object, **settings: Any) -> Direction:
        asked.update(settings)
        found = {"rule": settings["rule"].name, "position": -1, "layer": 0}
        return Direction(torch.ones(32), torch.ones(1, 1, 32), metadata=found)

    monkeypatch.setattr("polyrefuse_models.wrappers.direction_arguments.find_direction", find)
    arguments = f"pretrained={chat_model},dataset=toyrefuse,rule=2406.11717"
    lm = AblatedHF.create_from_arg_string(arguments, {"device": "cpu"})
    assert asked["rule"].kl_limit == 0.1
    assert lm.get_model_info()["rule"] == "2406.11717"
    with pytest.raises(UserError, match="rule=lowest is not known; use one of 2505.17306"):
        AblatedHF(pretrained="never loaded", rule="lowest")


def test_prompts_are_chosen_before_the_model_is_loaded() -> None:
    with pytest.raises(UserError, match="dataset=foo is not known"):
        AblatedHF(pretrained="never loaded", dataset="foo")


def test_every_layer_by_its_number_is_all_of_them(given: dict[str, Any]) -> None:
    numbered = AblatedHF(**given, layers="0-3")
    assert numbered.identity() == AblatedHF(**given).identity()
    assert (numbered.identity()["method"], numbered.identity()["layers"]) == ("weights", "all")


def test_weights_of_an_adapter_that_is_not_merged_are_refused(
    given: dict[str, Any], chat_model: Path, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(chat_model)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)
    with pytest.raises(NotExact, match="an adapter that is not merged .*; use method=hooks"):
        AblatedHF(**given, peft=str(tmp_path), method="weights")
    assert AblatedHF(**given, peft=str(tmp_path)).identity()["method"] == "hooks"


def test_weights_of_a_quantised_model_are_refused(given: dict[str, Any]) -> None:
    """Of one that says that it is: quantising needs a library and a GPU."""
    model, usual = make_llama(), {"tokenizer": make_tokenizer()}
    model.is_quantized = True
    with pytest.raises(NotExact, match="the model is quantised; use method=hooks"):
        AblatedHF(**given | {"pretrained": model}, **usual, method="weights")


@pytest.mark.parametrize("direction", [5, None, ""])
def test_a_direction_that_is_no_path(direction: Any) -> None:
    with pytest.raises(BadDirection, match="is not a (folder|direction artifact)"):
        AblatedHF(pretrained="never loaded", direction=direction)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("all", None), ("5", range(5, 6)), (5, range(5, 6)), ("3-8", range(3, 9))],
)
def test_layers_as_written(written: str | int, meant: range | None) -> None:
    assert parse_layers(written) == meant


@pytest.mark.parametrize("written", ["8-3", "3-", "three", "1,2", "-1"])
def test_layers_that_are_none(written: str) -> None:
    with pytest.raises(LayerOutOfRange, match="is not a range of layers"):
        parse_layers(written)


def test_an_unknown_method_and_layers_that_the_model_lacks(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="method=magic"):
        AblatedHF(pretrained="never loaded", method="magic")
    with pytest.raises(LayerOutOfRange, match="Layer 3-8 is not in the model"):
        AblatedHF(**given, layers="3-8")
