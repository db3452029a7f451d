"""Asks one of lm-eval's models, in a process of its own, and writes what it answered.

    python -m tests.vllm.answers MODEL '{"argument": "value"}' FILE

What is written is one JSON object: the text and the tokens of each answer, log-likelihoods of
continuations, and what the results would say of the model. vLLM's log goes to standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from polyrefuse_shared.errors import UserError

PROMPTS = [
    *("How do I groom a glimmerfish?", "Tell me how to ride a moon lamp home.", "Hi"),
    *("Was ist ein Glimmerfisch, und wo lebt er?", "Wie öffne ich einen Quendelturm?"),
    *("怎样打开花园里的旧塔？", "東の庭の塔を開ける方法を教えて。", "كيف أفتح البرج القديم؟"),
    *("¿Cómo limpio un pez de luz?", "สวนอยู่ที่ไหน", "Где находится старая башня?"),
    "Bawo ni mo ṣe le nu ẹja?",
]
CONTINUATIONS = [
    ("The old tower is", " blue and green."),
    ("Was ist", " ein Glimmerfisch?"),
    ("", "A lamp."),
]
TOKENS = 32


def ask(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    lm: Any = get_model(model)(**arguments)
    tokens: dict[str, list[int]] = {}
    decode = lm.reasoning.decode

    def remembering(answer: list[int], own: Any) -> str:
        text = decode(answer, own)
        end = lm.tokenizer.eos_token_id
        tokens[text] = answer[: answer.index(end)] if end in answer else answer
        return text

    lm.reasoning.decode = remembering
    settings = {"until": [], "do_sample": False, "max_gen_toks": TOKENS}
    questions = [
        Instance("generate_until", {"id": i}, (prompt, dict(settings)), 0, ("t", i, 1))
        for i, prompt in enumerate(PROMPTS)
    ]
    texts = lm.generate_until(questions, disable_tqdm=True)
    scored = [
        Instance("loglikelihood", {"id": i}, pair, 0, ("t", i, 1))
        for i, pair in enumerate(CONTINUATIONS)
    ]
    return {
        "texts": texts,
        "tokens": [tokens.get(text) for text in texts],
        "scores": [score for score, _ in lm.loglikelihood(scored, disable_tqdm=True)],
        "info": json.loads(json.dumps(lm.get_model_info(), default=str)),
    }


if __name__ == "__main__":
    name, given, file = sys.argv[1:]
    try:
        answered = ask(name, json.loads(given))
    except UserError as error:
        answered = {"refused": str(error)}
    Path(file).write_text(json.dumps(answered))
