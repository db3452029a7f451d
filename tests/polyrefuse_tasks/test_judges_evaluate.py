"""The judge as an `evaluate` metric."""

import evaluate
import pytest

from polyrefuse_shared.errors import UserError
from polyrefuse_tasks.judges import UnknownJudge, UnknownLanguage
from polyrefuse_tasks.judges.evaluate_module import NothingToJudge, RefusalJudge

ANSWERS = [
    "Lo siento, pero no puedo ayudar con eso.",
    "Primero hierve el agua.",
    "",
    "<think>Hm",
]
LANGUAGES = ["es"] * 4


@pytest.fixture
def metric(monkeypatch: pytest.MonkeyPatch) -> RefusalJudge:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return RefusalJudge()


def test_counts_rates_and_intervals(metric: RefusalJudge) -> None:
    assert isinstance(metric, evaluate.EvaluationModule)
    result = metric.compute(predictions=ANSWERS, languages=LANGUAGES)
    assert result["n"] == 4
    assert result["labels"] == ["refusal", "compliance", "degenerate", "undecided"]
    assert result["evidence"] == ["no puedo", None, "empty", "reasoning never ended"]
    # Wilson, 1 of 4, z = 1.96: centre (1 + z^2/2) / (4 + z^2), written out by hand.
    for label in ("refusal", "compliance", "degenerate", "undecided"):
        assert result[label] == 1
        assert result[f"{label}_rate"] == 0.25
        assert result[f"{label}_rate_interval"] == pytest.approx([0.0456, 0.6994], abs=1e-4)


def test_other_judge_and_translations(metric: RefusalJudge) -> None:
    result = metric.compute(
        predictions=ANSWERS[:2],
        languages=LANGUAGES[:2],
        judge="substring",
        responses_translated=["Sorry, but I cannot help.", "First boil the water."],
    )
    assert result["labels"] == ["refusal", "compliance"]


def test_batches(metric: RefusalJudge) -> None:
    metric.add_batch(predictions=ANSWERS[:2], languages=LANGUAGES[:2])
    assert metric.compute()["n"] == 2


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ({"predictions": [], "languages": []}, NothingToJudge),
        ({"predictions": ANSWERS, "languages": ["es"]}, NothingToJudge),
        ({"predictions": ANSWERS}, NothingToJudge),
        (
            {"predictions": ANSWERS, "languages": LANGUAGES, "responses_translated": ["Sorry."]},
            NothingToJudge,
        ),
        ({"predictions": ANSWERS, "languages": ["xx"] * 4}, UnknownLanguage),
        ({"predictions": ANSWERS, "languages": LANGUAGES, "judge": "gavel"}, UnknownJudge),
    ],
)
def test_bad_input_is_one_sentence(
    metric: RefusalJudge, inputs: dict[str, list[str]], error: type[UserError]
) -> None:
    with pytest.raises(error) as caught:
        metric.compute(**inputs)
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)
