"""Generate answers by transformers' continuous batching.

When an answer ends, the next prompt takes its place. The input is token ids and settings, and the
output is the token ids of each answer as soon as it ends. The model, its attention implementation
and torch's random state are left as they were. The code that relies on internals of transformers
(5.16 to 5.24) is at the end of this module.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import huggingface_hub
import torch
from transformers import (
    ContinuousBatchingConfig,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.generation.continuous_batching.cb_logits_processors import (
    ContinuousBatchingLogitsProcessor,
    ContinuousBatchingLogitsProcessorList,
)
from transformers.utils import (
    is_flash_attn_2_available,
    is_flash_attn_3_available,
    is_kernels_available,
)

from polyrefuse_models import cudnn_attention
from polyrefuse_models.anatomy import input_device
from polyrefuse_models.wrappers import torch_flash
from polyrefuse_shared.errors import UserError, first_line

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

BLOCK = 256
"""The number of tokens in a block of the paged cache, as in transformers."""

ANSWERS = 1024
"""The largest number of answers that are generated at a time, as in transformers."""

ROWS = 128
"""The largest number of answers at a time if attention has a mask or answers are sampled.

With a mask, every token is compared with the tokens of all answers, so the work grows with the
square of the number of answers. For sampled answers, the noise takes some bytes for each answer and
each token of the vocabulary.
"""

PASS = 2048
"""The largest number of tokens in a forward pass with a mask, whose memory grows with it."""

PROBE = 8
"""The number of tokens of an answer that are generated in both ways before continuous batching is
trusted."""

ROUNDING = 1e-3
"""How far rounding may move logits, as a share of their standard deviation."""

ROUNDING_OF_HALF = 0.25
"""The same for a model in 16 bits: in bfloat16, logits from 16 on are 1/8 apart."""


HALF = (torch.float16, torch.bfloat16)
"""The types in which flash kernels compute."""


class CannotPage(UserError):
    """Continuous batching cannot be used with the model; the message is the reason."""


class Failed(UserError):
    """Continuous batching ended before all answers were there; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = first_line(RuntimeError(reason)).rstrip(".")
        super().__init__(
            f"transformers' continuous batching failed: {self.reason}; give batching=static."
        )


Stop = Callable[[list[int]], bool]
"""A function of an answer's tokens so far that says whether the answer ends with the last one."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: the temperature, above 0.
        top_k: the number of most likely tokens to draw from; 0 means all.
        top_p: the total probability of the most likely tokens to draw from; 1 means all.
    """

    temperature: float
    top_k: int
    top_p: float


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How answers are decoded.

    Attributes:
        max_new_tokens: the largest number of tokens in an answer.
        end: the ids of tokens that end an answer. Such a token stays as the answer's last.
        suppressed: the ids that are never chosen.
        sampling: how tokens are drawn; None for greedy answers.
        make_stop: a function that makes the `Stop` of one answer; None if no text ends an answer.
    """

    max_new_tokens: int
    end: tuple[int, ...] = ()
    suppressed: tuple[int, ...] = ()
    sampling: Sampling | None = None
    make_stop: Callable[[], Stop] | None = None


@dataclasses.dataclass(frozen=True)
class Paged:
    """A model whose answers continuous batching generates.

    Attributes:
        model: a decoder-only model on one device, with its interventions in place.
        attention: transformers' name of the attention implementation that is used for it.
        graphs: whether CUDA graphs are captured.
    """

    model: PreTrainedModel
    attention: str
    graphs: bool = False

    def answers(
        self,
        prompts: Sequence[list[int]],
        decoding: Decoding,
        seeds: Sequence[int] | None = None,
    ) -> Generator[tuple[int, list[int]], None, None]:
        """Generate the answers to all prompts.

        Args:
            prompts: the token ids of each prompt, at least one.
            decoding: how all answers are decoded.
            seeds: a seed for each prompt if tokens are drawn. An answer's draws depend only on its
                own seed, and not on what else is generated at the same time.

        Yields:
            The index of a prompt, and the token ids of its answer, as answers finish.

        Raises:
            Failed: transformers could not continue. Answers that were finished have been yielded.
        """
        try:
            with (
                _kept(self.model),
                _silent(),
                cudnn_attention.without_cudnn_attention(),
                _managed(self, prompts, decoding) as manager,
            ):
                yield from _finished(manager, prompts, decoding, seeds or [0] * len(prompts))
        except RuntimeError as error:  # torch raises one if a device has no memory left.
            raise Failed(first_line(error)) from error

    @property
    def masked(self) -> bool:
        """Whether attention compares the tokens of all answers with each other, under a mask."""
        return "flash" not in self.attention  # Names of kernels from the hub have the word too.


def obstacle(model: Any) -> str | None:
    """Return a reason why a model cannot be paged; None if none shows without running it.

    `find_paged` runs the model and finds the other reasons.
    """
    base = unwrapped(model)
    name = type(base).__name__
    if base is not model and getattr(model.active_peft_config, "is_prompt_learning", False):
        return "its peft adapter is a prompt, which only peft's own generate puts in front of texts"
    if not isinstance(base, PreTrainedModel) or not hasattr(base, "init_continuous_batching"):
        return f"{name} has no continuous batching"
    if base.config.is_encoder_decoder:
        return f"{name} has an encoder"
    if getattr(base, "_is_stateful", False):
        return f"{name} keeps a state that is not a cache of keys and values"
    if not base._can_set_attn_implementation():
        return f"the attention implementation of {name} cannot be replaced"
    devices = {parameter.device.type for parameter in base.parameters()}
    places = {str(place) for place in (getattr(base, "hf_device_map", None) or {}).values()}
    if len({parameter.device for parameter in base.parameters()}) > 1 or len(places) > 1:
        return f"{name} is spread over several devices, and the paged cache is on only one"
    if "meta" in devices:
        return f"the weights of {name} are offloaded"
    if getattr(base, "_device_mesh", None) is not None:
        return f"{name} is split among processes, and only one of them takes requests"
    return None


def unwrapped(model: Any) -> Any:
    """Return the model inside a wrapper of peft. Its layers contain the adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def find_paged(
    model: Any, prompts: Sequence[list[int]], decoding: Decoding, *, flash: bool = True
) -> Paged:
    """Find the fastest way to page a model that does not change its answers.

    A layer that does not know the paged cache may ignore it, and the answers may then be different.
    The first tokens of greedy answers are therefore generated with and without it, and may differ
    only by rounding.

    Args:
        model: a model without an `obstacle`.
        prompts: a few prompts of different lengths.
        decoding: how the answers will be decoded.
        flash: whether a flash kernel may replace the model's own attention.

    Raises:
        CannotPage: no way works; the message has the reason against the last one that was tried.
    """
    greedy = dataclasses.replace(
        decoding, max_new_tokens=min(PROBE, decoding.max_new_tokens), sampling=None, make_stop=None
    )
    tokens, logits = _unpaged(model, prompts, greedy)
    base = unwrapped(model)
    rounding = ROUNDING_OF_HALF if base.dtype in HALF else ROUNDING
    refusal = CannotPage(
        f"{type(base).__name__} caps attention scores, which paged attention does not do"
    )
    for paged in _ways(base, flash):
        try:
            answers = dict(paged.answers(prompts, greedy))
        except Exception as error:  # transformers and the kernels raise many kinds of errors.
            reason = error.reason if isinstance(error, Failed) else first_line(error).rstrip(".")
            refusal = CannotPage(f"transformers cannot page {type(base).__name__}: {reason}")
            continue
        differing = [
            place
            for place, answer in answers.items()
            if _differs(answer, tokens[place], logits[place], rounding)
        ]
        if not differing:
            return paged
        refusal = CannotPage(
            f"{type(base).__name__} answers {len(differing)} of {len(prompts)} prompts "
            f"differently with a paged cache ({paged.attention})"
        )
    raise refusal


def _ways(model: PreTrainedModel, flash: bool) -> Iterator[Paged]:
    """Yield the ways in which a model may be paged, the fastest first."""
    own, text = model.config._attn_implementation, model.config.get_text_config()
    if flash and model.dtype in HALF and model.device.type == "cuda" and model._supports_flash_attn:
        # If nothing is installed, transformers would download a kernel from the hub.
        for version, installed in ((3, is_flash_attn_3_available), (2, is_flash_attn_2_available)):
            if installed() or is_kernels_available():
                for graphs in (True, False):
                    yield Paged(model, f"flash_attention_{version}", graphs)
        if torch_flash.register():
            for graphs in (True, False):
                yield Paged(model, torch_flash.NAME, graphs)
    if "flash" in own:
        yield Paged(model, own, graphs=True)
        yield Paged(model, own)
    elif own != "eager" or getattr(text, "attn_logit_softcapping", None) is None:
        yield Paged(model, own)  # Paged eager attention does not cap scores.


@torch.no_grad()
def _unpaged(
    model: Any, prompts: Sequence[list[int]], decoding: Decoding
) -> tuple[list[list[int]], Float[Tensor, "prompt token vocabulary"]]:
    """Generate the model's own answers, and the logits of their tokens."""
    longest = max(map(len, prompts))
    rows = [[0] * (longest - len(ids)) + ids for ids in prompts]
    mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
    device = input_device(model)
    output = model.generate(
        input_ids=torch.tensor(rows, device=device),
        attention_mask=torch.tensor(mask, device=device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=list(decoding.end) or None,
            pad_token_id=0,
            suppress_tokens=list(decoding.suppressed) or None,
            output_scores=True,
            return_dict_in_generate=True,
        ),
    )
    answers = []
    for answer in output.sequences[:, longest:].tolist():
        ends = [place for place, token in enumerate(answer) if token in decoding.end]
        answers.append(answer[: ends[0] + 1] if ends else answer)
    return answers, torch.stack(output.scores, dim=1).float()


def _differs(
    answer: list[int],
    expected: list[int],
    logits: Float[Tensor, "token vocabulary"],
    rounding: float,
) -> bool:
    """Whether an answer differs from the expected one by more than rounding explains."""
    for place, (token, right) in enumerate(zip(answer, expected, strict=False)):
        if token != right:
            row = logits[place]
            margin = row[right] - row[token]
            spread = row[row.isfinite()].std()
            return bool(margin > rounding * spread)
    return len(answer) != len(expected)


# --- transformers

_NAME = "ContinuousBatchingLogger"
_SWITCHES = "auto_switch_to_flash" in ContinuousBatchingConfig.__dataclass_fields__


@contextmanager
def _managed(paged: Paged, prompts: Sequence[list[int]], decoding: Decoding) -> Iterator[Any]:
    """Yield transformers' manager of these prompts, before it starts."""
    model: Any = paged.model
    # Up to 5.16, paged attention had names of its own, and others were replaced by flash attention.
    named = paged.attention if _SWITCHES or not paged.masked else f"paged|{paged.attention}"
    # The manager's thread, which is not in inference mode, writes into what is allocated here.
    own = model.config._attn_implementation  # This one is loaded already and needs no download.
    with torch.inference_mode(False), nullcontext() if paged.attention == own else _offline():
        try:
            if paged.attention == torch_flash.NAME:
                # `set_attn_implementation` would look for a package that has the kernel.
                for config in _configs(model):
                    config._attn_implementation = torch_flash.REGISTERED
            else:
                model.set_attn_implementation(named)
            manager = _made(model, paged, prompts, decoding)
        except Exception as error:
            raise Failed(first_line(error)) from error
    try:
        yield manager
    finally:
        manager.stop(hard_stop=True)
        manager.destroy()


def _made(model: Any, paged: Paged, prompts: Sequence[list[int]], decoding: Decoding) -> Any:
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(
            do_sample=False,  # `_Draw` makes the largest score a draw.
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=list(decoding.end) or -1,
            pad_token_id=0,
        ),
        continuous_batching_config=_config(paged, prompts, decoding),
    )
    manager.logit_processor = _processors(decoding)
    if model.device.type == "cuda":
        with torch.cuda.device(model.device):
            manager.warmup()
    return manager


def _config(
    paged: Paged, prompts: Sequence[list[int]], decoding: Decoding
) -> ContinuousBatchingConfig:
    most = ROWS if paged.masked or decoding.sampling is not None else ANSWERS
    # CUDA graphs are captured for 1, 2, 4, ... answers, up to this largest number.
    settings: dict[str, Any] = {"seed": 0, "max_requests_per_batch": min(most, len(prompts))}
    if _SWITCHES:
        settings["auto_switch_to_flash"] = False
    if not paged.graphs:
        settings["use_cuda_graph"] = False
    if decoding.make_stop is not None:
        # An answer is cancelled between two passes, so no pass may be running.
        settings["use_async_batching"] = False
    if decoding.suppressed or decoding.sampling is not None:
        settings["max_memory_percent"] = 0.8  # transformers' own value if logits are processed
    if paged.masked:
        settings["max_batch_tokens"] = max(16, min(PASS, sum(map(len, prompts))))
    if paged.model.device.type != "cuda":
        # transformers would take most of the memory of the machine.
        lengths = sorted((len(ids) + decoding.max_new_tokens for ids in prompts), reverse=True)
        blocks = sum(-(-length // BLOCK) for length in lengths[:ROWS])
        settings["num_blocks"] = 2 * blocks + 2
    return ContinuousBatchingConfig(**settings)


def _finished(
    manager: Any, prompts: Sequence[list[int]], decoding: Decoding, seeds: Sequence[int]
) -> Iterator[tuple[int, list[int]]]:
    """Have all prompts answered, and yield each answer as it ends.

    Raises:
        Failed: a prompt cannot be answered, or the manager's thread ended.
    """
    stops: dict[int, Stop] = {}
    for place, (ids, seed) in enumerate(zip(prompts, seeds, strict=True)):
        if decoding.make_stop is not None:
            stops[place] = decoding.make_stop()
        manager.add_request(
            ids,
            request_id=str(place),
            max_new_tokens=decoding.max_new_tokens,
            eos_token_id=list(decoding.end),
            streaming=decoding.make_stop is not None,
            **({} if decoding.sampling is None else {"seed": seed}),
        )
    manager.start()
    waiting = set(range(len(prompts)))
    while waiting:
        output = manager.get_result(timeout=1)
        if output is None and not manager.is_running():
            output = manager.get_result(timeout=0.1)  # The thread's last result may still wait.
            if output is None:
                ended_by = getattr(manager, "fatal_error", None)  # It exists up to 5.16.
                raise Failed(str(ended_by or "its thread ended before all answers were there"))
        if output is None or int(output.request_id) not in waiting:
            continue  # Results of a cancelled answer may still arrive.
        if output.error is not None:
            raise Failed(output.error)
        place = int(output.request_id)
        tokens = list(output.generated_tokens)
        ended = output.is_finished()
        if not ended and stops[place](tokens):
            manager.cancel_request(output.request_id)
            ended = True
        if ended:
            waiting.remove(place)
            yield place, tokens


def _processors(decoding: Decoding) -> ContinuousBatchingLogitsProcessorList:
    """Make the logits processors, in the order in which `generate` applies them."""
    processors: list[Any] = []
    if decoding.suppressed:
        processors.append(_Suppress(decoding.suppressed))
    if (sampling := decoding.sampling) is not None:
        if sampling.temperature != 1:
            processors.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            processors.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(_Draw())
    listed = ContinuousBatchingLogitsProcessorList(LogitsProcessorList(processors))
    listed.tensors_required = int(sampling is not None)  # transformers does not count `_Draw`.
    return listed


class _Suppress:
    """A processor that suppresses tokens, like transformers' own, but works in a CUDA graph."""

    supports_continuous_batching = True

    def __init__(self, ids: Sequence[int]) -> None:
        self._ids = ids
        self._rows: Int[Tensor, "n"] | None = None

    def __call__(
        self, _input_ids: Tensor, scores: Float[Tensor, "row vocabulary"]
    ) -> Float[Tensor, "row vocabulary"]:
        # The first call is before a graph is captured. Not every id has a row.
        if self._rows is None:
            rows = [index for index in self._ids if index < scores.shape[-1]]
            self._rows = torch.tensor(rows, dtype=torch.int64, device=scores.device)
        return scores.index_fill(-1, self._rows, -torch.inf)


class _Draw(ContinuousBatchingLogitsProcessor):
    """A processor that adds Gumbel noise, so that the largest score is a draw from the softmax.

    The noise is a function of the answer's seed, the position of the next token and each token's
    id. A draw therefore does not depend on which other answers are generated in the same pass, as
    it would with a single stream of random numbers for all answers.
    """

    supported_kwargs = {"seed": int}
    ignored_kwargs = ()

    def fill_defaults(self, int32_tensor: Tensor) -> None:
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Int[Tensor, "row"]:
        states = [request.state for request in requests_with_new_token]
        # `position_offset` counts the tokens up to the one that is drawn next.
        keys = [
            (state.logit_processor_kwargs.get("seed", 0), state.position_offset) for state in states
        ]
        seeds, places = torch.tensor(keys, dtype=torch.int64).reshape(-1, 2).unbind(dim=1)
        return (scrambled(scrambled(seeds) ^ places) - 2**31).to(torch.int32)

    def __call__(
        self, scores: Float[Tensor, "row vocabulary"], tensor_arg: Int[Tensor, "storage"]
    ) -> Float[Tensor, "row vocabulary"]:
        keys = tensor_arg[: scores.shape[0], None].to(torch.int64) + 2**31
        tokens = torch.arange(scores.shape[-1], device=scores.device)
        return scores + gumbel(scrambled(scrambled(tokens) ^ keys))


def scrambled(x: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Mix the bits of numbers from 0 to 2^32 - 1. Different numbers stay different.

    The bijection consists of shifts and products with odd numbers ("lowbias32" of Wellons, 2018).
    """
    low = 2**32 - 1
    x = (x ^ (x >> 16)) * 0x7FEB352D & low
    x = (x ^ (x >> 15)) * 0x846CA68B & low
    return x ^ (x >> 16)


def gumbel(bits: Int[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Turn random numbers from 0 to 2^32 - 1 into draws from Gumbel's distribution, in float32.

    Only 23 of the 32 bits are used, so that the arguments of the logarithms are exact and never 0
    or 1.
    """
    uniform = ((bits >> 9).to(torch.float32) + 0.5) * 2.0**-23
    return -(-uniform.log()).log()


@contextmanager
def _kept(model: PreTrainedModel) -> Iterator[None]:
    """Restore a model's attention implementation and torch's random state after a `with` block."""
    before = [(config, config._attn_implementation) for config in _configs(model)]
    devices = [model.device.index or 0] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):  # The manager seeds torch.
            yield
    finally:
        for config, attention in before:
            config._attn_implementation = attention


def _configs(model: PreTrainedModel) -> list[Any]:
    """Return the configurations of a model and its parts, each before those inside it."""
    found: dict[int, Any] = {}

    def visit(config: Any) -> None:
        found.setdefault(id(config), config)
        for name in config.sub_configs:
            if (part := getattr(config, name, None)) is not None:
                visit(part)

    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            visit(module.config)
    return list(found.values())


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the `kernels` package from downloading code: it then looks only into its cache."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


@contextmanager
def _silent() -> Iterator[None]:
    """Keep transformers from logging tracebacks of errors that are handled here."""
    theirs = logging.getLogger(_NAME)
    level = theirs.level
    theirs.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        theirs.setLevel(level)
