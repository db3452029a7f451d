"""How stable a direction is, against closed forms, and what extraction says of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from polyrefuse_models.directions.stability import FEWEST, SAMPLES, SPLITS, stability
from tests.commands import run_in_process


def drawn(n: int, d: int, mean: float, spread: float, seed: int) -> torch.Tensor:
    """States around a mean along the first axis, with independent normal noise in every other."""
    states = spread * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    states[:, 0] = mean
    return states


@pytest.mark.parametrize(("mean", "n", "m"), [(1.0, 120, 80), (3.0, 64, 90), (0.4, 200, 200)])
def test_halves_have_the_cosine_of_signal_and_noise(mean: float, n: int, m: int) -> None:
    """Of two directions s + e1 and s + e2 the cosine is about s^2 / (s^2 + |e|^2).

    Each half of n and m prompts has noise of variance d (2 / n + 2 / m). Halves are drawn without
    replacement, so that their errors cancel in the whole's: e1 = e + x, e2 = e - x, with |e| and
    |x| alike, whose inner product is 0 on average.
    """
    d, spread = 2000, 0.3
    found = stability(drawn(n, d, mean, spread, 1), drawn(m, d, 0.0, spread, 2), seed=0)
    noise = (d - 1) * spread**2 * (2 / n + 2 / m)
    assert found["halves"]["mean"] == pytest.approx(mean**2 / (mean**2 + noise), abs=0.03)
    assert found["halves"]["n"] == SPLITS
    assert found["halves"]["low"] <= found["halves"]["mean"] <= found["halves"]["high"]


@pytest.mark.parametrize(("mean", "n", "m"), [(1.0, 120, 80), (0.4, 200, 200)])
def test_bootstrap_samples_have_the_cosine_of_two_resamplings(mean: float, n: int, m: int) -> None:
    """Each is the whole direction w plus noise of its own, of about the variance of w's own noise:
    the cosine is about |w|^2 / (|w|^2 + |e|^2)."""
    d, spread = 2000, 0.3
    harmful, harmless = drawn(n, d, mean, spread, 1), drawn(m, d, 0.0, spread, 2)
    found = stability(harmful, harmless, seed=0)
    whole = (harmful.mean(0) - harmless.mean(0)).square().sum().item()
    noise = (d - 1) * spread**2 * ((n - 1) / n**2 + (m - 1) / m**2)
    assert found["bootstrap"]["mean"] == pytest.approx(whole / (whole + noise), abs=0.02)
    assert found["bootstrap"]["n"] == math.comb(SAMPLES, 2)


def test_prompts_that_are_all_alike_give_one_direction() -> None:
    found = stability(torch.ones(9, 5), torch.zeros(7, 5), seed=3)
    ends = [figure[end] for figure in found.values() for end in ("mean", "low", "high")]
    assert ends == pytest.approx([1.0] * 6)


def test_noise_alone_has_no_stability() -> None:
    states = torch.randn(100, 500, generator=torch.Generator().manual_seed(4))
    found = stability(states[:50], states[50:], seed=0)
    # The halves' errors are opposite parts of the same sum, and have no direction in common.
    assert abs(found["halves"]["mean"]) < 0.05


def test_the_seed_decides_and_few_prompts_have_none() -> None:
    harmful, harmless = drawn(40, 50, 0.2, 1.0, 1), drawn(40, 50, 0.0, 1.0, 2)
    assert stability(harmful, harmless, seed=5) == stability(harmful, harmless, seed=5)
    assert stability(harmful, harmless, seed=5) != stability(harmful, harmless, seed=6)
    assert stability(harmful[: FEWEST - 1], harmless, seed=0) is None
    assert stability(harmful[:FEWEST], harmless[:FEWEST], seed=0) is not None


def test_extract_prints_and_records_it(tmp_path: Path) -> None:
    code, out, _ = run_in_process(
        "direction", "extract", "--source-lang", "ko", "--output", tmp_path / "ko", "--json"
    )
    assert code == 0
    printed = json.loads(out)
    recorded = json.loads((tmp_path / "ko" / "metadata.json").read_text())
    assert printed["stability"] == recorded["stability"]
    # The organism's difference is along its planted direction, and hardly anything else.
    assert recorded["stability"]["halves"]["low"] > 0.9
    assert recorded["stability"]["bootstrap"]["mean"] >= recorded["stability"]["halves"]["mean"]
    refused = recorded["untouched"]["harmful_refused"]
    assert printed["harmful_refused"] == refused
    assert (refused["refused"], refused["n"]) == (32, 32)
    code, out, _ = run_in_process(
        "direction", "extract", "--source-lang", "ko", "--output", tmp_path / "again"
    )
    assert "the untouched model refuses 32 of 32 harmful validation prompts (89.3 to 100.0%)" in out
    halves = recorded["stability"]["halves"]
    assert (
        f"directions of halves of the training prompts have a cosine of {halves['mean']:.3f} "
        f"({halves['low']:.3f} to {halves['high']:.3f}, n = 100)"
    ) in out
