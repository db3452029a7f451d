"""Check whether the user may download the gated judges, whose terms have to be accepted."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from polyrefuse_models.doctor.finding import Finding, State

SECONDS = 8.0
"""How long to wait for the hub's answers, in seconds, for all models together."""


def gated_judges() -> Finding:
    """Check which gated judges the user may download. The check waits `SECONDS` at most."""
    from polyrefuse_tasks.data import cache

    name = "gated judges"
    models = gated_models()
    named = ", ".join(models)
    variables = cache.forbidding()
    if variables:
        unset = " ".join(f"-u {one}" for one in variables)
        forbid = "forbids" if len(variables) == 1 else "forbid"
        said = f"{' and '.join(variables)} {forbid} asking the hub about {named}"
        return Finding(name, State.UNKNOWN, said, f"env {unset} polyrefuse doctor")
    answers = _ask(models)
    refused = [judge for judge, given in answers.items() if given is False]
    unheard = [judge for judge in models if answers.get(judge) is None]
    if refused:
        pages = ", ".join(f"https://huggingface.co/{models[judge]}" for judge in refused)
        said = f"no access to {', '.join(refused)}: accept the terms at {pages}, and log in"
        return Finding(name, State.WARNING, said, "hf auth login")
    if unheard:
        said = f"the hub did not answer about {', '.join(unheard)}: check the network"
        return Finding(name, State.UNKNOWN, said, "polyrefuse doctor")
    return Finding(name, State.OK, f"the hub lets you download {named}")


def gated_models() -> dict[str, str]:
    """Map the name of each gated judge to its model on the hub."""
    from polyrefuse_tasks.judges.registry import MODELS, judge_named

    judges: dict[str, Any] = {name: judge_named(name) for name in MODELS}
    cards = {name: judge.format.card for name, judge in judges.items()}
    return {name: card.model for name, card in cards.items() if card.gated}


def _ask(models: Mapping[str, str]) -> dict[str, bool | None]:
    """Map each judge to whether the user may download it; None or no entry if unanswered."""
    answers: dict[str, bool | None] = {}

    def ask(judge: str, model: str) -> None:
        from huggingface_hub import auth_check
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            auth_check(model)
            answers[judge] = True
        except (GatedRepoError, RepositoryNotFoundError):
            answers[judge] = False
        except Exception:
            answers[judge] = None

    # Daemon threads let the process end even if one of them is still waiting.
    threads = [threading.Thread(target=partial(ask, *one), daemon=True) for one in models.items()]
    for thread in threads:
        thread.start()
    waited = threading.Event()
    timer = threading.Timer(SECONDS, waited.set)
    timer.daemon = True
    timer.start()
    for thread in threads:
        while thread.is_alive() and not waited.is_set():
            thread.join(0.05)
    timer.cancel()
    return dict(answers)
