"""How fast a model is here: a few prompts, read and answered, a few seconds long."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from polyrefuse_tasks.judges import label_responses

if TYPE_CHECKING:
    from polyrefuse_models.wrappers.measured import Measured

TOKENS = 64
"""Most tokens of an answer in the probe."""

MOMENT = 2.0
"""Seconds after which nothing is measured once more."""

NEUTRAL = "Please name {} things that can be found in a garden, and say what each is good for."
"""What is asked where the study's own prompts are not here."""


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Attributes:
        device: that the model ran on, in words.
        machine: its name.
        rows: prompts that were asked together.
        read: prompt tokens a second.
        generated: tokens a second, those of answers that had ended in their batch counted too.
        longest: tokens of the longest answer; None where one had not ended at `TOKENS`.
        judged: answers a second that a judge labels, by its name.
        light: seconds until a process that loads no model was ready to judge.
        imports: the same of one that loads a model.
        loading: seconds to load the model then.
    """

    device: str
    machine: str
    rows: int
    read: float
    generated: float
    longest: int | None
    judged: dict[str, float]
    light: float
    imports: float
    loading: float

    def document(self) -> dict[str, Any]:
        """The rates as JSON has them."""
        return asdict(self)


def import_what_jobs_import() -> None:
    """Import what a process of a study imports before it loads a model."""
    from lm_eval import simple_evaluate  # noqa: F401

    import polyrefuse_models.wrappers.hf  # noqa: F401


def probe(
    model: str,
    arguments: dict[str, Any],
    prompts: Sequence[str],
    *,
    rows: int,
    limit: int,
    judges: Sequence[str],
    light: float,
    imports: float,
) -> Rates:
    """Load a model as lm_eval does, and measure it.

    Args:
        model: name of lm-eval's model, such as `baseline-hf`.
        arguments: of it.
        prompts: the study's own, to choose from; neutral ones are asked where there are none.
        rows: prompts that are asked together.
        limit: most tokens of an answer in the study.
        judges: without a model, whose labelling is measured as well.
        light, imports: as of `Rates`; they went by before.

    Raises:
        Exception: whatever the engine raises where it cannot load or run the model.
    """
    from lm_eval.api.registry import get_model

    loaded: Any = None

    def load() -> None:
        nonlocal loaded
        loaded = get_model(model).create_from_arg_obj(dict(arguments), {"batch_size": rows})

    loading, _ = _seconds(load)
    read, generated, longest, answers = _asked(loaded, prompts, rows, min(limit, TOKENS))
    return Rates(
        device=_device(loaded),
        machine=platform.node(),
        rows=rows,
        read=read,
        generated=generated,
        longest=longest if prompts else None,
        judged={judge: _labelled(judge, answers) for judge in judges},
        light=light,
        imports=imports,
        loading=loading,
    )


def _device(lm: Any) -> str:
    """What the model ran on."""
    import torch

    device = torch.device(getattr(lm, "device", "cuda"))
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _asked(
    lm: Measured, prompts: Sequence[str], rows: int, most: int
) -> tuple[float, float, int | None, list[str]]:
    """Have a model read and answer one batch, with one token each and with `most`.

    Returns:
        prompt tokens a second, generated tokens a second, tokens of the longest answer where all
        had ended, and the answers.
    """
    every = prompts or [NEUTRAL.format(number + 2) for number in range(rows)]
    asked = [every[len(every) * place // rows] for place in range(rows)]
    tokens = sum(len(lm.prompt_ids(lm.prompting.read(prompt))) for prompt in asked)
    _answers(lm, asked, min(most, 2))  # what is set up once says nothing of the speed
    reading, texts = _repeated(lambda: _answers(lm, asked, 1))
    if most == 1:
        return tokens / reading, rows / reading, 1, texts
    both, texts = _repeated(lambda: _answers(lm, asked, most))
    lengths = [len(lm.prompting.ids(text)) for text in texts]
    # The token that ends an answer is no part of its text.
    steps = min(most, max(lengths) + 1)
    generated = rows * max(1, steps - 1) / max(both - reading, 1e-6)
    return tokens / reading, generated, steps if steps < most else None, texts


def _labelled(judge: str, answers: list[str]) -> float:
    """Answers a second that a judge labels."""

    def label(some: list[str]) -> None:
        label_responses(some, ["en"] * len(some), [""] * len(some), judge=judge)

    label(answers[:1])  # its rules are read once
    seconds, _ = _seconds(lambda: label(answers))
    return len(answers) / max(seconds, 1e-6)


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    made = work()
    return time.perf_counter() - begun, made


def _repeated(work: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds, of as many rounds as fit into `MOMENT`."""
    rounds: list[float] = []
    made = None
    while sum(rounds) < MOMENT:
        seconds, made = _seconds(work)
        rounds.append(seconds)
    return statistics.median(rounds), made


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
