"""Measure how fast a model is on this machine, in a few seconds with a few prompts."""

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
"""The largest number of tokens in an answer that is generated to measure the speed."""

MOMENT = 2.0
"""A measurement is repeated until its rounds have taken this many seconds together."""

NEUTRAL = "Please name {} things that can be found in a garden, and say what each is good for."
"""The prompt that is used if the study's own prompts are not on this machine."""


@dataclass(frozen=True)
class Rates:
    """The measured speeds.

    Attributes:
        device: the device that the model ran on, in words.
        machine: the name of the machine.
        rows: the number of prompts in a batch.
        read: the number of prompt tokens that are read per second.
        generated: the number of token places that are generated per second. Places after the end of
            an answer count, because its batch goes on.
        longest: the number of tokens in the longest answer; None if an answer had not ended at
            `TOKENS`.
        judged: name of a judge -> number of answers that it labels per second.
        light: the time, in seconds, until a process that loads no model is ready to judge.
        imports: the time, in seconds, in which a process that loads a model imports what it needs.
        loading: the time, in seconds, to load the model after that.
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
        """Return the speeds in values that JSON can hold."""
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
    """Load a model as lm_eval does, and measure its speed.

    Args:
        model: the model's name in lm-eval, such as `baseline-hf`.
        arguments: the model's arguments.
        prompts: the study's own prompts to choose from. If there are none, neutral ones are used.
        rows: the number of prompts in a batch.
        limit: the largest number of tokens in an answer of the study.
        judges: the names of judges without a model, whose speed is measured too.
        light: as in `Rates`, measured by the caller.
        imports: as in `Rates`, measured by the caller.

    Raises:
        Exception: whatever the engine raises if it cannot load or run the model.
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
    """Return the device that the model ran on, in words."""
    import torch

    device = torch.device(getattr(lm, "device", "cuda"))
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def _asked(
    lm: Measured, prompts: Sequence[str], rows: int, most: int
) -> tuple[float, float, int | None, list[str]]:
    """Have a model read and answer one batch, with one token in each answer, and with `most`.

    Returns:
        `read`, `generated` and `longest` as in `Rates`, and the answers.
    """
    every = prompts or [NEUTRAL.format(number + 2) for number in range(rows)]
    asked = [every[len(every) * place // rows] for place in range(rows)]
    tokens = sum(len(lm.prompt_ids(lm.prompting.read(prompt))) for prompt in asked)
    _answers(lm, asked, min(most, 2))  # The first call also does what is done only once.
    reading, texts = _repeated(lambda: _answers(lm, asked, 1))
    if most == 1:
        return tokens / reading, rows / reading, 1, texts
    both, texts = _repeated(lambda: _answers(lm, asked, most))
    lengths = [len(lm.prompting.ids(text)) for text in texts]
    # The token that ends an answer is not part of its text.
    steps = min(most, max(lengths) + 1)
    generated = rows * max(1, steps - 1) / max(both - reading, 1e-6)
    return tokens / reading, generated, steps if steps < most else None, texts


def _labelled(judge: str, answers: list[str]) -> float:
    """Measure how many answers a judge labels per second."""

    def label(some: list[str]) -> None:
        label_responses(some, ["en"] * len(some), [""] * len(some), judge=judge)

    label(answers[:1])  # The judge reads its rules only once, so that is not timed.
    seconds, _ = _seconds(lambda: label(answers))
    return len(answers) / max(seconds, 1e-6)


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    made = work()
    return time.perf_counter() - begun, made


def _repeated(work: Callable[[], Any]) -> tuple[float, Any]:
    """Repeat work for `MOMENT`; return the median time of a round in seconds, and a result."""
    rounds: list[float] = []
    made = None
    while sum(rounds) < MOMENT:
        seconds, made = _seconds(work)
        rounds.append(seconds)
    return statistics.median(rounds), made


def _answers(lm: Measured, prompts: Sequence[str], tokens: int) -> list[str]:
    """Generate greedy answers in the way of an evaluation."""
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
