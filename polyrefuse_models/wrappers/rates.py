"""How fast a model is here: a few prompts, read and answered, a few seconds long."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from polyrefuse_tasks.judges import label_responses

if TYPE_CHECKING:
    from polyrefuse_models.wrappers.measured import Measured

TOKENS = 64
"""Most tokens of an answer in the probe."""

NEUTRAL = "Please name {} things that can be found in a garden, and say what each is good for."
"""What is asked where the study's own prompts are not here."""


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        device: that the model ran on, in words.
        rows: prompts that were asked together.
        read: prompt tokens a second.
        generated: tokens a second, those of answers that had ended in their batch counted too.
        longest: tokens of the longest answer; None where one had not ended at `TOKENS`.
        judged: answers a second that a judge labels, by its name.
        imports: seconds until a process has imported what it needs.
        loading: seconds to load the model then.
        indexing: seconds until lm-eval has found its tasks; None where it was not asked to.
    """

    device: str
    rows: int
    read: float
    generated: float
    longest: int | None
    judged: dict[str, float]
    imports: float
    loading: float
    indexing: float | None

    def document(self) -> dict[str, Any]:
        """The rates as JSON has them."""
        return asdict(self)


@dataclass(frozen=True)
class Speed:
    """What a loaded model was measured to do; see `Rates`."""

    read: float
    generated: float
    longest: int | None
    answers: list[str]


def measure(
    lm: Measured, prompts: Sequence[str], *, rows: int, limit: int, own: bool = True
) -> Speed:
    """Have a model read and answer one batch of prompts, twice: one token each, and up to `TOKENS`.

    Args:
        lm: loaded.
        prompts: to choose from, evenly; the shortest and the longest part of them alike.
        rows: of the batch.
        limit: most tokens of an answer in the study.
        own: whether the prompts are the study's own, so that the length of answers says something.
    """
    asked = [prompts[len(prompts) * place // rows] for place in range(rows)]
    tokens = sum(len(lm.prompt_ids(lm.prompting.read(prompt))) for prompt in asked)
    most = min(limit, TOKENS)
    _seconds(lambda: _answers(lm, asked, 2))  # what is set up once, and is no speed
    reading, _ = _seconds(lambda: _answers(lm, asked, 1))
    if most == 1:
        return Speed(tokens / reading, rows / reading, 1, [])
    both, texts = _seconds(lambda: _answers(lm, asked, most))
    lengths = [len(lm.prompting.ids(text)) for text in texts]
    ended = max(lengths) < most - 1
    steps = max(2, max(lengths) + 1 if ended else most)
    writing = max(both - reading, 1e-6)
    return Speed(
        read=tokens / reading,
        generated=rows * (steps - 1) / writing,
        longest=steps if ended and own else None,
        answers=texts,
    )


def labelling(judge: str, answers: Sequence[str], language: str) -> float:
    """Answers a second that a judge labels, which is no model."""
    label_responses(list(answers[:1]), [language], [""], judge=judge)
    seconds, _ = _seconds(
        lambda: label_responses(
            list(answers), [language] * len(answers), [""] * len(answers), judge=judge
        )
    )
    return len(answers) / max(seconds, 1e-6)


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    made = work()
    return time.perf_counter() - begun, made


def _answers(lm: Measured, prompts: Sequence[str], tokens: int) -> list[str]:
    """Greedy answers, as an evaluation asks for them."""
    from lm_eval.api.instance import Instance

    settings: dict[str, Any] = {"until": [], "do_sample": False, "max_gen_toks": tokens}
    requests = [
        Instance(
            "generate_until",
            doc={},
            arguments=(prompt, dict(settings)),
            idx=0,
            metadata=("probe", place, 1),
        )
        for place, prompt in enumerate(prompts)
    ]
    return lm.generate_until(requests, disable_tqdm=True)
