"""Choose between static batches and continuous batching, and answer requests in both ways.

Static batches are lm-eval's own. Continuous batching uses the same functions of lm-eval for a
request and its answer: settings, stop strings, encoding, decoding, cutting, progress and cache.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from tqdm import tqdm

from polyrefuse_models.neutral_generation import settings_of
from polyrefuse_models.wrappers.continuous import (
    CannotPage,
    Decoding,
    Failed,
    Paged,
    Sampling,
    Stop,
    find_paged,
    obstacle,
    unwrapped,
)
from polyrefuse_models.wrappers.generation_settings import requested
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import CacheHook
from polyrefuse_shared.log import warn_once
from polyrefuse_tasks.generation_settings import NEUTRAL, SAMPLING, departures, listed

if TYPE_CHECKING:
    from jaxtyping import Int
    from lm_eval.api.instance import Instance
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polyrefuse_models.wrappers.run_notes import RunNotes

BATCHING = ("auto", "continuous", "static")
"""The values that `batching=` takes."""

FOLLOWED = {"until", "max_gen_toks", "do_sample", *SAMPLING}
"""The settings of a request that continuous batching obeys as `generate` does."""

PROBES = 4
"""The number of requests that are answered in both ways before continuous batching is trusted."""


class Engine(Protocol):
    """lm-eval's HFLM with its model, as far as batching needs it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    truncation: bool
    mixed_precision_dtype: torch.dtype | None
    model_arguments: dict[str, Any]
    notes: RunNotes
    cache_hook: CacheHook
    backend: str

    @property
    def device(self) -> torch.device: ...

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def batch_size(self) -> int | str: ...

    @property
    def max_length(self) -> int: ...

    @property
    def max_gen_toks(self) -> int: ...

    @property
    def eot_token_id(self) -> int: ...

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = ...,
        left_truncate_len: int | None = ...,
        truncation: bool = ...,
    ) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"]]: ...

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = ...) -> str: ...


Static = Callable[..., list[str]]
"""lm-eval's own `generate_until`, which takes requests and `disable_tqdm`, and returns answers."""


def parse_batching(given: str) -> str:
    """Check the value of `batching=`.

    Raises:
        UserError: it is not one of `BATCHING`.
    """
    if given not in BATCHING:
        raise UserError(f"batching={given} is not known; use one of {', '.join(BATCHING)}.")
    return given


def why_static(asked: str, device_type: str, obstacles: Sequence[str]) -> str | None:
    """Return why some requests are answered in static batches; None if they are not.

    Args:
        asked: one of `BATCHING`.
        device_type: the type of the model's device. On a CPU, continuous batching is not faster.
        obstacles: the reasons in the model and in the settings against continuous batching.

    Raises:
        UserError: continuous batching was asked for, and there is a reason against it.
    """
    if asked == "static":
        return "batching=static"
    if asked == "continuous" and obstacles:
        raise UserError(
            f"batching=continuous is not possible: {obstacles[0]}; use batching=static."
        )
    if asked == "auto" and device_type != "cuda":
        return f"the model is on {device_type}"
    return next(iter(obstacles), None)


def not_followed(model: PreTrainedModel, settings: dict[str, Any], window: int) -> list[str]:
    """Find the generation settings that continuous batching would not follow.

    transformers drops some logits processors with a warning. It keeps others that need the whole
    text, but does not give them the text. Only settings that are known to work are therefore
    allowed.

    Args:
        model: the model, whose generation_config supplies what a request does not name.
        settings: a request's settings, as lm-eval's models read them.
        window: the largest number of tokens of a prompt and its answer together.

    Returns:
        Reasons against continuous batching, for `why_static`.
    """
    own = settings_of(model)
    own.pop("suppress_tokens", None)  # The model's are obeyed, but a request's are not.
    unknown = settings.keys() - NEUTRAL.keys() - FOLLOWED
    left_out = {
        name: value for name, value in departures(own | settings).items() if name not in FOLLOWED
    } | {name: settings[name] for name in sorted(unknown)}
    reasons = []
    if left_out:
        reasons.append(f"it does not follow {listed(left_out)}")
    if settings["do_sample"] and not settings.get("temperature"):
        reasons.append("it cannot draw answers at temperature=0.0")
    if settings["max_gen_toks"] >= window:
        reasons.append(
            f"max_gen_toks={settings['max_gen_toks']} leaves no room in the window of {window}"
        )
    return reasons


class Batching:
    """How an engine's answers are batched.

    Args:
        engine: an engine whose model has its interventions in place.
        asked: one of `BATCHING`.
    """

    def __init__(self, engine: Engine, asked: str) -> None:
        self._engine = engine
        self._asked = asked
        self._paged: Paged | CannotPage | None = None

    def answer(
        self, requests: list[Instance], static: Static, *, disable_tqdm: bool = False
    ) -> list[str]:
        """Answer requests, in their order.

        Args:
            requests: requests with the text that the model reads.
            static: a function that answers the requests for which continuous batching is not used.
            disable_tqdm: whether to hide the progress bar.

        Raises:
            UserError: `batching=continuous` is not possible, or failed.
        """
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            key = json.dumps(request.args[1], sort_keys=True, default=str)
            groups.setdefault(key, []).append(place)
        chosen = {
            key: self._choose([requests[place] for place in places])
            for key, places in groups.items()
        }
        paged = {key: found for key, found in chosen.items() if isinstance(found, Paged)}
        answers: dict[int, str] = {}
        with tqdm(
            total=sum(len(groups[key]) for key in paged),
            disable=disable_tqdm or self._engine.rank != 0 or not paged or None,
            desc="Running generate_until requests",
        ) as bar:
            for key, found in paged.items():
                try:
                    self._answer(requests, groups[key], found, answers, bar)
                except Failed as failure:
                    if self._asked == "continuous" or self._agrees_on_batches:
                        raise
                    self._paged = CannotPage(f"continuous batching failed: {failure.reason}")
                    break
        for key, places in groups.items():
            self._note(chosen[key], sum(place in answers for place in places), len(places))
        others = [place for place in range(len(requests)) if place not in answers]
        if others:
            if isinstance(self._paged, CannotPage):
                gc.collect()  # The paged cache of a manager that failed still fills the device.
            given = static([requests[place] for place in others], disable_tqdm=disable_tqdm)
            answers.update(zip(others, given, strict=True))
        return [answers[place] for place in range(len(requests))]

    @property
    def _agrees_on_batches(self) -> bool:
        """Whether static batches wait for other processes.

        These may be using continuous batching, and would never answer.
        """
        return self._engine.world_size > 1 and self._engine.batch_size == "auto"

    def _note(self, chosen: Paged | str, answered: int, count: int) -> None:
        """Record how requests with the same settings are answered, and warn if it takes longer."""
        notes = self._engine.notes
        if isinstance(chosen, Paged):
            if answered:
                notes.note_batching(
                    {
                        "taken": "continuous",
                        "attention": chosen.attention,
                        "graphs": chosen.graphs,
                    }
                )
            if answered == count:
                return
            chosen = str(self._paged)  # Continuous batching failed: this is the reason.
        if self._asked == "auto" and self._engine.device.type == "cuda":
            warn_once(f"Answers are generated in static batches, which take longer: {chosen}.")
        notes.note_batching({"taken": "static", "because": chosen})

    def _choose(self, requests: Sequence[Instance]) -> Paged | str:
        """Choose how requests with the same settings are paged, or say why they are not."""
        engine = self._engine
        device = engine.device.type
        settings = requested(requests[0].args[1], engine.max_gen_toks)
        obstacles: list[str] = []
        if self._asked != "static":
            obstacles = [
                *self._obstacles(),
                *not_followed(engine.model, settings, engine.max_length),
            ]
        because = why_static(self._asked, device, obstacles)
        if because is None:
            found = self._find(requests)
            if isinstance(found, Paged):
                return found
            because = why_static(self._asked, device, [str(found)]) or str(found)
        return because

    def _obstacles(self) -> list[str]:
        """Return the reasons against continuous batching that do not depend on settings."""
        engine = self._engine
        if engine.backend != "causal":
            return ["the model has an encoder"]
        if engine.mixed_precision_dtype is not None:
            return [
                "mixed_precision_dtype works only in the main thread, and continuous batching "
                "runs in another"
            ]
        found = obstacle(engine.model)
        return [] if found is None else [found]

    def _find(self, requests: Sequence[Instance]) -> Paged | CannotPage:
        """Try to page the model on a few prompts. Later calls return the first result."""
        if self._paged is None:
            some = [
                requests[len(requests) * i // PROBES] for i in range(min(PROBES, len(requests)))
            ]
            settings = requested(some[0].args[1], self._engine.max_gen_toks)
            decoding, _ = self._decoding(settings)
            prompts = [self._encode(request, settings["max_gen_toks"]) for request in some]
            try:
                self._paged = find_paged(
                    self._engine.model,
                    prompts,
                    decoding,
                    flash="attn_implementation" not in self._engine.model_arguments,
                )
            except CannotPage as refusal:
                self._paged = refusal
        return self._paged

    def _answer(
        self,
        requests: Sequence[Instance],
        places: Sequence[int],
        paged: Paged,
        answers: dict[int, str],
        bar: Any,
    ) -> None:
        """Answer requests with the same settings, and store each answer at its request's index."""
        from lm_eval.models.utils import postprocess_generated_text

        engine = self._engine
        settings = requested(requests[places[0]].args[1], engine.max_gen_toks)
        decoding, until = self._decoding(settings)
        prompts = {
            place: self._encode(requests[place], decoding.max_new_tokens) for place in places
        }
        # As in lm-eval, the prompts that take most memory come first.
        order = sorted(places, key=lambda place: (-len(prompts[place]), place))
        seeds = None
        if decoding.sampling is not None:
            # The seeds come from the generator that lm-eval seeds, in the order of requests.
            drawn = torch.randint(2**31, (len(places),)).tolist()
            seed_of = dict(zip(places, drawn, strict=True))
            seeds = [seed_of[place] for place in order]
        with closing(paged.answers([prompts[place] for place in order], decoding, seeds)) as stream:
            for at, tokens in stream:
                place = order[at]
                text = postprocess_generated_text(engine.tok_decode(tokens), until, None)
                answers[place] = text
                engine.cache_hook.add_partial("generate_until", requests[place].args, text)
                bar.update(1)

    def _encode(self, request: Instance, max_new_tokens: int) -> list[int]:
        """Encode a request as a static batch of this request alone would."""
        engine = self._engine
        ids, _ = engine.tok_batch_encode(
            [request.args[0]],
            left_truncate_len=engine.max_length - max_new_tokens,
            truncation=engine.truncation,
        )
        prompt: list[int] = ids[0].tolist()
        return prompt

    def _decoding(self, settings: dict[str, Any]) -> tuple[Decoding, list[str]]:
        """Return how to decode requests with these settings, and the texts that cut an answer."""
        from lm_eval.models.utils import handle_stop_sequences

        engine, tokenizer = self._engine, self._engine.tokenizer
        config = unwrapped(engine.model).generation_config
        eos = engine.tok_decode(engine.eot_token_id, skip_special_tokens=False)
        until: list[str] = handle_stop_sequences(list(settings["until"]), eos=eos)
        ends = config.eos_token_id
        ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
        added = tokenizer.get_added_vocab()
        ends += [engine.eot_token_id, *(added[text] for text in until if text in added)]
        texts = [text for text in until if text and text != eos and text not in added]
        own = settings_of(engine.model) | settings
        sampling = None
        if settings["do_sample"]:
            sampling = Sampling(
                float(own["temperature"]), int(own["top_k"] or 0), float(own["top_p"] or 1.0)
            )
        decoding = Decoding(
            max_new_tokens=settings["max_gen_toks"],
            end=tuple(sorted(set(ends))),
            suppressed=tuple(config.suppress_tokens or ()),
            sampling=sampling,
            make_stop=partial(_stop, tokenizer, texts) if texts else None,
        )
        return decoding, until


def _stop(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Stop:
    """Make a `Stop` that ends an answer where a static batch of this answer alone would."""
    from lm_eval.models.utils_hf import stop_sequences_criteria

    criteria = stop_sequences_criteria(tokenizer, texts, 0, 1)

    def stop(tokens: list[int]) -> bool:
        return bool(criteria(torch.tensor([tokens]), None))

    return stop
