"""Measure what batches save in MCD's training, compared with a loop over single queries.

    python -m benchmarks.mcd [--rounds 5] [--steps 20] [--device cuda]

The plain loop works as the published code does (arXiv 2505.11835): it makes one forward pass for
each query, which returns the states of every layer and the logits, and it adds up the gradients of
a step's queries. Both ways read the same anchors of the weakened organism and make the same steps.
The program compares their base states and losses before it prints any time. The two ways take
turns, and each ratio compares times of the same round. Batches should be at least 2.5 times as fast
for base states and 2 times as fast for steps.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import nn

from benchmarks.rounds import ratios, seconds, spread
from polyrefuse_models import bundled
from polyrefuse_models.anatomy import input_device
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.interventions import SoftPrompt, embed_text, installed
from polyrefuse_models.mcd.anchors import Anchors, load_anchors
from polyrefuse_models.mcd.loss import Base, terms, weighted
from polyrefuse_models.mcd.probes import Measure, fit
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.mcd.settings import Settings
from polyrefuse_models.mcd.states import batch_states, states, under
from polyrefuse_models.organism.evaluation import load_chat

SETTINGS = Settings()


def state_of_one(chat: ChatModel, prompt: str) -> torch.Tensor:
    """Return the last state of one query, of shape [1, d]."""
    output = chat.model(**chat.padded([prompt]), output_hidden_states=True)
    return output.hidden_states[-1][:, -1]


@torch.no_grad()
def plain_states(chat: ChatModel, prompts: list[str]) -> torch.Tensor:
    return torch.cat([state_of_one(chat, prompt) for prompt in prompts]).cpu()


def measured(chat: ChatModel, anchors: Anchors) -> tuple[Measure, Base]:
    """Return probes and the anchors' base values.

    Both probes are fitted to the labels of harm, because the time of a step does not depend on what
    the probes predict.
    """
    labels = torch.tensor(anchors.labels).float()
    (language,) = anchors.languages
    seen = states(chat, anchors.prompts(language))
    measure = fit(seen, [language] * len(labels), labels, labels, 0)
    x = measure.coordinates(seen)
    base = Base(labels, measure.refusal(x), measure.harmfulness(x), x, x)
    device = input_device(chat.model)
    return measure.to(device), base.to(device)


def steps(
    chat: ChatModel, prompts: list[str], base: Base, measure: Measure, n: int, *, plain: bool
) -> list[float]:
    """Make `n` steps of training and return the loss of each."""
    words = embed_text(chat.model, chat.tokenizer, SAFETY_PROMPTS[SETTINGS.init])
    vectors = nn.Parameter(words)
    optimizer = torch.optim.AdamW([vectors], lr=SETTINGS.learning_rate)
    order = np.random.default_rng(0).permutation(len(prompts))
    losses = []
    with installed(chat.model, SoftPrompt(chat.tokenizer, vectors)) as soft:
        prompted = under(chat, soft.text)
        for step in range(n):
            rows = order[SETTINGS.batch_size * step :][: SETTINGS.batch_size].tolist()
            optimizer.zero_grad()
            loss = 0.0
            for part in [[row] for row in rows] if plain else [rows]:
                asked = [prompts[row] for row in part]
                seen = state_of_one(prompted, *asked) if plain else batch_states(prompted, asked)
                share = weighted(terms(seen, base[part], measure), SETTINGS.weights)
                share = share * len(part) / len(rows)
                share.backward()
                loss += share.item()
            nn.utils.clip_grad_norm_([vectors], SETTINGS.clip)
            optimizer.step()
            losses.append(loss)
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    chat = load_chat(bundled.path(bundled.WEAKENED), options.device)
    chat.model.requires_grad_(False)
    anchors = load_anchors("toyrefuse", ["en"])
    prompts = anchors.prompts("en")
    texts = {name: under(chat, text) for name, text in SAFETY_PROMPTS.items()}
    under_init = texts[SETTINGS.init]
    measure, base = measured(under_init, anchors)

    def all_states(find) -> list[torch.Tensor]:
        return [find(chat, prompts) for chat in texts.values()]

    def train(plain: bool) -> list[float]:
        return steps(chat, prompts, base, measure, options.steps, plain=plain)

    work = {
        "base states": (lambda: all_states(plain_states), lambda: all_states(states)),
        "steps": (lambda: train(True), lambda: train(False)),
    }
    print(
        f"{options.steps} steps of {SETTINGS.batch_size} queries, states of {len(prompts)} queries "
        f"under {len(texts)} prompts, {options.device}, {torch.get_num_threads()} threads, "
        f"{options.rounds} rounds"
    )
    print(f"{'min, median, max':18}{'plain, s':>21}{'ours, s':>21}{'ratio':>21}{'apart':>10}")
    for name, (plainly, ours) in work.items():
        apart = max(
            float((torch.as_tensor(a) - torch.as_tensor(b)).abs().max())
            for a, b in zip(plainly(), ours(), strict=True)  # a warm-up as well
        )
        assert apart < 1e-3, f"{name} differ by {apart}"
        rounds = [
            {"plain": seconds(plainly, options.device), "ours": seconds(ours, options.device)}
            for _ in range(options.rounds)
        ]
        figures = [spread([entry[way] for entry in rounds]) for way in ("plain", "ours")]
        figures.append(ratios(rounds, "plain", "ours"))
        columns = "".join(f"{value:7.2f}" for figure in figures for value in figure[:3])
        print(f"{name:18}{columns}{apart:10.1e}")


if __name__ == "__main__":
    main()
