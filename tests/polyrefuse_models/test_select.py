"""The published selection rule, against the choices the authors published."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from polyrefuse_models.directions.select import Candidate, choose

N_LAYERS = 28  # Qwen2.5-7B-Instruct


@pytest.mark.parametrize("language", ["de", "ja", "ko", "zh"])
def test_the_published_choice(shared: Path, language: str) -> None:
    folder = shared / "oracles/selection"
    rows = json.loads((folder / f"qwen2.5-7b_{language}.evaluations.json").read_text())
    published = json.loads((folder / f"qwen2.5-7b_{language}.selected.json").read_text())
    chosen = choose([Candidate(**row) for row in rows], N_LAYERS)
    assert (chosen.position, chosen.layer) == (published["pos"][0], published["layer"][0])


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
