"""Invented records, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Iterable

from polyrefuse_leaderboard.rates import means
from polyrefuse_leaderboard.records import Record

from polyrefuse_shared.intervals import wilson


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
    cells = list(records)
    return cells + means(cells)


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
