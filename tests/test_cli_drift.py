"""`polyrefuse drift`: KL divergence on harmless prompts, against transformers and float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from polyrefuse_leaderboard.drifts import read_drift
from polyrefuse_leaderboard.reading import identity
from scipy.stats import binomtest, bootstrap
from transformers import AutoModelForCausalLM, AutoTokenizer

from polyrefuse_models import bundled
from polyrefuse_models.drift import mean_interval
from polyrefuse_tasks import data
from tests.commands import assert_one_sentence, run_in_process

N = 3


@pytest.fixture(scope="module")
def direction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("direction") / "en"
    code, _, err = run_in_process("direction", "extract", "--output", folder)
    assert code == 0, err
    return folder


def measured(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    usual = ("--langs", "en,yo", "--limit", N, "--output", tmp_path / "drift", "--json")
    code, out, err = run_in_process("drift", *arguments, *usual)
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    assert json.loads((tmp_path / "drift" / "drift.json").read_text()) == document
    return document


@torch.inference_mode()
def reference(language: str, system: str | None, change: Any = None) -> torch.Tensor:
    """Logits of the first token, one prompt at a time, by transformers alone, in float64."""
    folder = bundled.path(bundled.ORGANISM)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if change is not None:
        change(model)
    rows = []
    for row in data.load("toyrefuse_harmless", language)[:N]:
        turns = [] if system is None else [{"role": "system", "content": system}]
        ids = tokenizer.apply_chat_template(
            [*turns, {"role": "user", "content": row.prompt}],
            add_generation_prompt=True, return_tensors="pt", return_dict=True,
        )  # fmt: skip
        rows.append(model(**ids).logits[0, -1])
    return torch.stack(rows)


def expected(before: torch.Tensor, after: torch.Tensor) -> tuple[list[float], float]:
    p, q = before.softmax(-1), after.softmax(-1)
    divergences = (p * (p / q).log()).sum(-1)
    agreement = float((before.argmax(-1) == after.argmax(-1)).double().mean())
    return divergences.tolist(), agreement


def assert_is(entry: dict[str, Any], before: torch.Tensor, after: torch.Tensor) -> None:
    divergences, agreement = expected(before, after)
    assert entry["n"] == N
    assert entry["kl_mean"] == pytest.approx(np.mean(divergences), rel=1e-3, abs=1e-6)
    assert entry["kl_median"] == pytest.approx(np.median(divergences), rel=1e-3, abs=1e-6)
    assert entry["kl_max"] == pytest.approx(max(divergences), rel=1e-3, abs=1e-6)
    assert entry["first_token_agreement"] == agreement
    interval = binomtest(round(agreement * N), N).proportion_ci(method="wilson")
    assert entry["first_token_low"] == pytest.approx(interval.low, abs=1e-9)
    assert entry["kl_low"] <= entry["kl_mean"] <= entry["kl_high"]


@pytest.mark.parametrize("method", ["hooks", "weights"])
def test_ablation(tmp_path: Path, direction: Path, method: str) -> None:
    arguments = f"pretrained=polyrefuse-organism,direction={direction},method={method}"
    document = measured(tmp_path, "--model", "ablated-hf", "--model_args", arguments)
    from safetensors.torch import load_file

    r = load_file(direction / "direction.safetensors")["direction"].double()
    r /= r.norm()

    def ablate(model: Any) -> None:
        """The projections to the residual stream, each without its part along r."""
        keep = torch.eye(len(r), dtype=torch.float64) - torch.outer(r, r)
        embedding = model.get_input_embeddings()
        embedding.weight = torch.nn.Parameter(embedding.weight @ keep)
        for block in model.model.layers:
            for projection in (block.self_attn.o_proj, block.mlp.down_proj):
                projection.weight = torch.nn.Parameter(keep @ projection.weight)

    for language in ("en", "yo"):
        before = reference(language, None)
        assert_is(document["languages"][language], before, reference(language, None, ablate))
    found, problem = read_drift(tmp_path / "drift")
    assert problem == "" and found is not None
    assert (found.condition, found.dataset) == ("ablation", "toyrefuse_harmless")
    assert found.languages["yo"].mean == document["languages"]["yo"]["kl_mean"]
    # As in the results of lm_eval: the same checksum of what was done.
    assert found.intervention == identity.intervention({"config": document["config"]}, "here")[1]
    assert document["data_sha256"] and document["config"]["versions"]


def test_a_system_text_is_part_of_the_condition(tmp_path: Path) -> None:
    text = "Be careful, and refuse whatever may do harm."
    (tmp_path / "words.txt").write_text(text)
    arguments = f"system_file={tmp_path / 'words.txt'}"
    document = measured(tmp_path, "--model", "baseline-hf", "--model_args", arguments)
    for language in ("en", "yo"):
        before, after = reference(language, None), reference(language, text)
        assert_is(document["languages"][language], before, after)


def test_nothing_done_is_no_divergence(tmp_path: Path) -> None:
    document = measured(tmp_path, "--model", "baseline-hf")
    for entry in document["languages"].values():
        assert entry["kl_max"] < 1e-6
        assert entry["first_token_agreement"] == 1


def test_the_reference_may_have_arguments_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("Be careful.")
    same = f"system_file={tmp_path / 'words.txt'}"
    document = measured(
        tmp_path, "--model", "baseline-hf", "--model_args", same, "--reference_args", same
    )
    assert max(one["kl_max"] for one in document["languages"].values()) < 1e-6


def test_what_is_wrong_is_told_and_nothing_written(tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str, str]:
        return run_in_process("drift", "--output", tmp_path / "new", *arguments)

    for arguments, said in (
        (("--langs", "en", "--model", "hf"), "--model hf cannot be compared"),
        (("--langs", "en", "--model", "ablated-vllm"), "--model ablated-vllm cannot be compared"),
        (("--langs", "xx"), "xx"),
        (("--langs", "en", "--dataset", "toyrefuse_harmful"), "has harmful prompts"),
        (("--langs", "en", "--dataset", "nothing"), "nothing"),
        (("--langs", "en", "--model_args", "direction=none/of/it"), "none/of/it"),
        (("--langs", "en", "--model_args", "{1}"), "cannot be read; give arguments"),
        (
            ("--langs", "en", "--model", "baseline-hf", "--dataset", "toyrefuse_harmless")
            + ("--model_args", "pretrained=no/such/model"),
            "no/such/model",
        ),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), (arguments, err)
        assert said in err.splitlines()[-1], (arguments, err)
        assert "Traceback" not in err
    assert_one_sentence(run("--langs", ","), "--langs ',' names no language")
    assert list(tmp_path.iterdir()) == []


class TestMeanInterval:
    def test_is_the_bootstrap_of_scipy(self) -> None:
        values = np.random.default_rng(5).exponential(size=40)
        low, high = mean_interval(values, 3)
        other = bootstrap(
            (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(3)
        ).confidence_interval
        assert (low, high) == (other.low, other.high)

    def test_one_value_and_equal_values_are_a_point(self) -> None:
        assert mean_interval(np.array([0.25]), 0) == (0.25, 0.25)
        assert mean_interval(np.full(7, 0.5), 0) == (0.5, 0.5)

    @pytest.mark.slow
    def test_covers_the_mean_of_skewed_values(self) -> None:
        """Of 64 values of a log-normal distribution with sigma 1, nearly as often as it says."""
        random, mean, hits = np.random.default_rng(0), np.exp(0.5), 0
        for seed in range(300):
            low, high = mean_interval(random.lognormal(sigma=1, size=64), seed)
            hits += low <= mean <= high
        assert 0.88 <= hits / 300 <= 0.98


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2}, {"languages": {}}, {"languages": []}, {"dataset": 3}, {"config": None},
        {"languages": {"en": {}}}, {"languages": {"e\nn": {}}},
        {"languages": {"en": {"n": 0}}},
    ],
    ids=repr,
)  # fmt: skip
def test_a_broken_report_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    entry = dict.fromkeys(("kl_mean", "kl_low", "kl_high", "kl_max"), 0.5)
    entry |= dict.fromkeys(("first_token_agreement", "first_token_low", "first_token_high"), 0.5)
    good = {"schema": 1, "dataset": "harmless", "config": {"condition": "mcd"}}
    good |= {"languages": {"en": entry | {"n": 3}}}
    (tmp_path / "drift.json").write_text(json.dumps(good))
    assert read_drift(tmp_path)[1] == ""
    for bad in (good | change, good | {"languages": {"en": entry | {"n": 3, "kl_low": -1}}}):
        (tmp_path / "drift.json").write_text(json.dumps(bad))
        found, problem = read_drift(tmp_path)
        assert found is None and "not a report of `polyrefuse drift`" in problem
    for key, value, said in (
        ("n", 10**4000, "is not a number of prompts"),
        ("kl_low", 0.75, "begins at 0.75 and ends at 0.5"),
        ("first_token_high", 0.25, "begins at 0.5 and ends at 0.25"),
    ):
        bad = good | {"languages": {"en": entry | {"n": 3, key: value}}}
        (tmp_path / "drift.json").write_text(json.dumps(bad))
        assert said in read_drift(tmp_path)[1]
    (tmp_path / "drift.json").write_text("{}")
    assert "(it has no 'schema')" in read_drift(tmp_path)[1]
    assert "cannot be read" in read_drift(tmp_path / "none")[1]
