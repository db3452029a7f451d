"""The published selection rules, against the choices that 2505.17306's authors published."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from polyrefuse_models.directions.artifact import Direction
from polyrefuse_models.directions.score_pictures import scores_figure
from polyrefuse_models.directions.select import (
    DEFAULT,
    RULES,
    BadScores,
    Candidate,
    NoDirection,
    check_complete,
    choose,
    least_moving,
    rule_named,
)
from polyrefuse_shared import pictures
from polyrefuse_shared.errors import UserError

N_LAYERS = 28  # Qwen2.5-7B-Instruct


@pytest.mark.parametrize("language", ["de", "ja", "ko", "zh"])
def test_the_published_choice(shared: Path, language: str) -> None:
    folder = shared / "oracles/selection"
    rows = json.loads((folder / f"qwen2.5-7b_{language}.evaluations.json").read_text())
    published = json.loads((folder / f"qwen2.5-7b_{language}.selected.json").read_text())
    chosen = choose([Candidate(**row) for row in rows], N_LAYERS)
    assert (chosen.position, chosen.layer) == (published["pos"][0], published["layer"][0])


ARDITI = RULES["2406.11717"]


@pytest.mark.parametrize(
    ("language", "expected"),
    # By hand from the files: German's published choice stays, Korean has nothing left.
    [("de", (-1, 15)), ("ja", (-4, 19)), ("zh", (-4, 19)), ("ko", None)],
)
def test_the_choice_of_2406_11717_on_the_published_scores(
    shared: Path, language: str, expected: tuple[int, int] | None
) -> None:
    path = shared / f"oracles/selection/qwen2.5-7b_{language}.evaluations.json"
    candidates = [Candidate(**row) for row in json.loads(path.read_text())]
    chosen = choose(candidates, N_LAYERS, ARDITI)
    assert (chosen and (chosen.position, chosen.layer)) == expected
    if expected is None:
        with pytest.raises(NoDirection, match="46 are within the KL limit.*steering.* is -0.508"):
            least_moving(candidates, N_LAYERS, ARDITI)
        return
    # What filter_fn_ablation of andyrdt/refusal_direction leaves, sorted.
    left = [
        c
        for c in candidates
        if not any(map(math.isnan, (c.refusal_score, c.steering_score, c.kl_div_score)))
        and c.layer < int(N_LAYERS * (1.0 - 0.2))
        and not c.kl_div_score > 0.1
        and not c.steering_score < 0.0
    ]
    assert chosen == sorted(left, key=lambda c: -c.refusal_score)[-1]


def test_the_limits_of_each_rule() -> None:
    def scored(kl: float | None, steering: float | None) -> Candidate:
        return Candidate(-1, 0, -1.0, steering, kl)

    assert (DEFAULT.admits(scored(0.2, None)), DEFAULT.admits(scored(0.201, 5.0))) == (True, False)
    assert DEFAULT.admits(scored(None, 5.0)) is None
    assert ARDITI.admits(scored(0.1, 0.0)) is True
    assert ARDITI.admits(scored(0.101, None)) is ARDITI.admits(scored(None, -0.1)) is False
    assert ARDITI.admits(scored(0.1, None)) is ARDITI.admits(scored(None, 0.0)) is None


def test_a_rule_is_known_by_its_name() -> None:
    # As lm-eval reads `rule=2406.11717` out of --model_args.
    assert rule_named("2406.11717") is rule_named(2406.11717) is ARDITI
    with pytest.raises(UserError, match="rule=arditi is not known; use one of 2505.17306, 2406"):
        rule_named("arditi")


def test_scores_that_were_not_computed_do_not_decide_in_silence() -> None:
    """An extraction by one rule leaves out what another one's choice may depend on."""
    chosen = Candidate(-1, 1, -5.0, 1.0, 0.05)
    later = Candidate(-1, 2, -4.0, None, None)
    check_complete([chosen, later], 10, ARDITI, "here")
    check_complete([Candidate(-1, 3, -9.0, None, 0.15), chosen], 10, ARDITI, "here")
    check_complete([Candidate(-1, 8, None, None, None), chosen], 10, ARDITI, "here")
    for open_one in (
        Candidate(-2, 3, -6.0, None, 0.05),
        Candidate(-2, 3, -6.0, 0.5, None),
        Candidate(-2, 3, None, 0.5, 0.05),
    ):
        with pytest.raises(BadScores, match="2406.11717 chooses position -2, layer 3, because"):
            check_complete([chosen, open_one], 10, ARDITI, "here")


def test_the_rule_drops_nan_late_layers_and_what_moves_harmless_answers() -> None:
    candidates = [
        Candidate(-1, 0, refusal_score=-9.0, kl_div_score=0.21),  # moves too much
        Candidate(-1, 1, refusal_score=math.nan, kl_div_score=0.0),
        Candidate(-1, 2, refusal_score=-8.0, kl_div_score=math.nan),
        Candidate(-1, 3, refusal_score=-7.0, kl_div_score=None),  # not computed
        Candidate(-1, 8, refusal_score=-6.0, kl_div_score=0.0),  # of the last 20% of 10 layers
        Candidate(-2, 7, refusal_score=-5.0, kl_div_score=0.2),
        Candidate(-1, 7, refusal_score=-4.0, kl_div_score=0.0),
    ]
    chosen = choose(candidates, n_layers=10)
    assert (chosen.position, chosen.layer) == (-2, 7)


def test_no_candidate_within_the_limit() -> None:
    assert choose([Candidate(-1, 0, refusal_score=0.0, kl_div_score=1.0)], n_layers=4) is None


def test_a_dollar_in_a_name_begins_no_formula() -> None:
    """Neither in that of the model's folder nor in a token."""
    scores = [Candidate(-1, layer, 1.0, None, 0.1) for layer in range(3)]
    metadata = {"position": -1, "layer": 2, "model": "/a/x$_{$", "suffix_tokens": ["$_{$"]}
    direction = Direction(torch.ones(4), torch.ones(1, 3, 4), scores, metadata)
    assert pictures.png(scores_figure(direction)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (0.01, ["0", "0.1", "0.2"]),
        (0.5, ["0", "0.1", "0.2"]),
        (30.0, ["0", "0.1", "0.2", "1", "10"]),
    ],
)
def test_the_picture_has_a_scale(highest: float, labels: list[str]) -> None:
    """Whatever the KL divergences, its axis has numbers, those of 0 and of the limit among them."""
    scores = [Candidate(-1, layer, 1.0, None, highest / (layer + 1)) for layer in range(3)]
    direction = torch.ones(4)
    metadata = {"rule": "2505.17306", "position": -1, "layer": 2}
    figure = scores_figure(Direction(direction, direction.expand(1, 3, 4), scores, metadata))
    axis = figure.axes[1]
    low, high = axis.get_ylim()
    visible_labels = [
        label.get_text()
        for tick, label in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)
        if low <= tick <= high
    ]
    assert visible_labels == labels
