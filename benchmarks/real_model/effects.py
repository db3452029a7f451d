"""Side effects: how far an intervention changes harmless answers and the perplexity of plain text.

The KL divergence compares the untouched model with the model under a condition, at the first token
of the answers to harmless test prompts. The perplexity is that of the Apache licence, a text that
every checkout has. The text is given as the answer to a question, so that a safety prompt can
precede the question.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.real_model.runs import CONDITIONS, arguments_of
from polyrefuse_models.wrappers.hf import AblatedHF, BaselineHF, McdHF, RefusalAddedHF
from polyrefuse_shared.writing import write_whole
from polyrefuse_tasks import data

WRAPPERS = {
    "baseline-hf": BaselineHF,
    "ablated-hf": AblatedHF,
    "refusal-added-hf": RefusalAddedHF,
    "mcd-hf": McdHF,
}
PROMPTS = 64
TEXT = Path(__file__).parent.parent.parent / "LICENSE"
QUESTION = "What are the terms of the Apache License, Version 2.0?"
TOKENS = 1024
"""The number of tokens of the text that are used, from its beginning."""


def measure(model: Path, folder: Path) -> None:
    """Load the model under each condition, the baseline first, and write effects.json."""
    prompts = [row.prompt for row in data.load("harmless", "en", "test")[:PROMPTS]]
    report: dict[str, dict[str, float]] = {}
    untouched = torch.empty(0)
    for name in CONDITIONS:
        wrapper, given = arguments_of(name, model, folder)
        lm = WRAPPERS[wrapper](**given, device="cpu")
        logits = torch.cat([_last_logits(lm, prompt) for prompt in prompts]).double()
        log_p = logits.log_softmax(-1)
        if name == "baseline":
            untouched = log_p
        divergences = (untouched.exp() * (untouched - log_p)).sum(-1)
        spread = 1.96 * divergences.std().item() / len(prompts) ** 0.5
        kl = divergences.mean().item()
        report[name] = {
            "kl": kl,
            "kl_low": max(0.0, kl - spread),
            "kl_high": kl + spread,
            "n": len(prompts),
            **perplexity(lm),
        }
        print(name, report[name], flush=True)
    write_whole(folder / "effects.json", json.dumps(report, indent=1) + "\n")


@torch.inference_mode()
def _last_logits(lm: BaselineHF, prompt: str) -> torch.Tensor:
    ids = torch.tensor([lm.tok_encode(lm.render(prompt), add_special_tokens=False)])
    return lm.model(ids).logits[:, -1]


@torch.inference_mode()
def perplexity(lm: BaselineHF) -> dict[str, float]:
    """Return the perplexity per token of the text as an answer, with its 95% interval over tokens.

    Returns:
        The perplexity, the ends of its interval, and the number of tokens.
    """
    context = lm.tok_encode(lm.render(QUESTION), add_special_tokens=False)
    text = lm.tok_encode(TEXT.read_text(encoding="utf-8"), add_special_tokens=False)[:TOKENS]
    ids = torch.tensor([context + text])
    log_p = lm.model(ids).logits[0, len(context) - 1 : -1].double().log_softmax(-1)
    losses = -log_p.gather(1, torch.tensor(text)[:, None]).flatten()
    mean, spread = losses.mean(), 1.96 * losses.std() / len(losses) ** 0.5
    return {
        "perplexity": mean.exp().item(),
        "perplexity_low": (mean - spread).exp().item(),
        "perplexity_high": (mean + spread).exp().item(),
        "tokens": len(text),
    }
