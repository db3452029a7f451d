"""Invented records, for tests of what is made of them.

Their intervals and means are computed here, without the code of the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from polyrefuse_leaderboard.records import Record

Z = 1.959963984540054
"""The normal distribution's quantile at .975."""


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval: where (p - share)^2 = z^2 p (1 - p) / n (Wilson 1927)."""
    share, z_squared = hits / n, Z * Z
    root = math.sqrt(share * (1 - share) / n + z_squared / (4 * n * n))
    low, high = (
        (share + z_squared / (2 * n) + sign * Z * root) / (1 + z_squared / n) for sign in (-1, 1)
    )
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def record(
    language: str = "en",
    hits: int = 1,
    n: int = 10,
    *,
    model: str = "invented/model-1",
    condition: str = "baseline",
    dataset: str = "harmful",
    metric: str = "asr",
    judge: str = "native",
    revision: str = "main",
    intervention: str = "",
    generation: str = "00" * 8,
    run: str = "invented/2026-01-01T00-00-00.000001",
) -> Record:
    """One rate, with Wilson's interval."""
    low, high = wilson(hits, n)
    return Record(
        model=model,
        revision=revision,
        condition=condition,
        intervention=intervention,
        generation=generation,
        dataset=dataset,
        language=language,
        judge=judge,
        metric=metric,
        value=hits / n,
        n=n,
        low=low,
        high=high,
        run=run,
    )


def with_means(records: Iterable[Record]) -> list[Record]:
    """Records, and behind them the mean over languages of those that are otherwise alike.

    The ends of a mean's interval are the means of the languages' ends, and its n is their sum.
    """
    cells = list(records)
    groups: dict[Record, list[Record]] = {}
    for one in cells:
        alike = replace(one, language="mean", value=0.0, n=1, low=0.0, high=0.0, run="")
        groups.setdefault(alike, []).append(one)
    return cells + [
        replace(
            alike,
            value=math.fsum(one.value for one in group) / len(group),
            n=sum(one.n for one in group),
            low=math.fsum(one.low for one in group) / len(group),
            high=math.fsum(one.high for one in group) / len(group),
            # The newest: a run's name ends with its date.
            run=max((one.run for one in group), key=lambda run: run.split("/")[-1]),
        )
        for alike, group in groups.items()
    ]


def board(models: int = 3, languages: Iterable[str] = ("ar", "de", "en")) -> list[Record]:
    """Models under three conditions, on harmful and harmless prompts; no two rates are equal."""
    codes = list(languages)
    cells = []
    for number in range(models):
        for place, condition in enumerate(("baseline", "ablation", "mcd")):
            for step, language in enumerate(codes):
                hits = 11 * number + 120 * place + 3 * step + 1
                about = {
                    "model": f"invented/model-{number}",
                    "condition": condition,
                    "intervention": "" if condition == "baseline" else f"{place:016x}",
                }
                cells.append(record(language, hits % 998, 997, **about))
                cells.append(
                    record(
                        language,
                        (hits * 7) % 400,
                        401,
                        dataset="harmless",
                        metric="false_refusal_rate",
                        **about,
                    )  # fmt: skip
                )
    return with_means(cells)
