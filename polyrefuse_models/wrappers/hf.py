"""`baseline-hf`: lm-eval's HFLM for refusal safety, without an intervention.

Every HFLM argument works. What its subclasses share is how a prompt reaches the model and how an
answer leaves it; conditions then differ by the intervention alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from polyrefuse_models import organism
from polyrefuse_models.chat import ChatModel, NoChatTemplate
from polyrefuse_models.versions import versions
from polyrefuse_models.wrappers.answers import AnswersByRequest, claim_cache
from polyrefuse_tasks.errors import UserError
from polyrefuse_tasks.invocation import asked_of_lm_eval, warn_before_publishing

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from transformers import PreTrainedModel

# Below lm-eval's own logger, so that its format and --verbosity hold for ours.
logger = logging.getLogger("lm_eval.polyrefuse")

THINK = "<think>"
"""How reasoning opens in what leaves the wrapper; the judges remove it."""

LEAST_BATCH = 8
"""Rows of a forward pass in extraction, unless `batch_size` is a larger number: with the 1 that is
lm-eval's default, each pass would score a single candidate direction."""


class BaselineHF(HFLM):
    """A chat model without an intervention.

    Args:
        pretrained: as HFLM's, or the name of a bundled organism, the first one's where None.
        chat: "on" applies the tokenizer's chat template to `generate_until` requests where the
            harness was not told to (`--apply_chat_template`); "off" leaves them as they are.
            Log-likelihood requests stay as the harness makes them.
        kwargs: every other argument of HFLM.

    Raises:
        UserError: `chat` is neither, or the harness adds a system instruction without a template.
    """

    condition = "baseline"
    _reasoning_end: str | int | None = None
    _told_of_rendering = False

    def __init__(
        self, pretrained: str | PreTrainedModel | None = None, *, chat: str = "on", **kwargs: Any
    ) -> None:
        if chat not in ("on", "off"):
            raise UserError(f"chat={chat} is not known; use chat=on or chat=off.")
        self.chat = chat == "on"
        self.warnings: list[str] = []
        self._refuse_stray_system_instruction()
        warn_before_publishing()
        if pretrained in (None, organism.NAME):
            pretrained = organism.NAME
            logger.warning(
                "No other pretrained= was given: this measures %s, the small model of an invented "
                "world that comes with the package; its tasks are the group toyrefuse.",
                organism.NAME,
            )
        if isinstance(pretrained, str) and pretrained in organism.SHIPPED:
            pretrained = str(organism.path(pretrained))
        if kwargs.get("device") is None:
            # HFLM's own default is a GPU, there or not.
            kwargs["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(pretrained=pretrained, **kwargs)
        # HFLM cuts reasoning off without a trace where it ended and leaves it where it did not;
        # `tok_decode` marks the second, so that it is not judged as an answer.
        self._reasoning_end, self.think_end_token = self.think_end_token, None

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> BaselineHF:
        """HFLM's; where no model is named, the organism is, in lm-eval's own arguments.

        The results and their folder bear the name found there, a random one where there is none.
        """
        arg_dict.setdefault("pretrained", organism.NAME)
        return super().create_from_arg_obj(arg_dict, additional_config)

    def get_model_info(self) -> dict[str, Any]:
        """HFLM's, what was done to the model, and what a reader of its rates must know."""
        said = {"versions": versions(), "warnings": self.warnings}
        return super().get_model_info() | self.identity() | said

    def warn(self, sentence: str) -> None:
        """Log what a reader of the rates must know, once, and keep it for the results."""
        if sentence not in self.warnings:
            logger.warning(sentence)
            self.warnings.append(sentence)

    def identity(self) -> dict[str, Any]:
        """What an answer depends on beside the request: model, condition, settings."""
        return {
            "condition": self.condition,
            "model_name": self.model_name,
            "revision": self.revision,
            "peft": self.peft,
            "chat": "on" if self.chat else "off",
            "chat_template_args": self.chat_template_args,
            "think_end_token": self._reasoning_end,
        }

    @property
    def own_dataset(self) -> str:
        """Whose prompts are used where nobody says: the organism's own world, or PolyRefuse."""
        return organism.own_dataset(self.pretrained)

    @property
    def model_name(self) -> str:
        """What results call the model."""
        return organism.name_of(self.model.config._name_or_path)

    @property
    def chat_model(self) -> ChatModel:
        """The model as direction extraction sees it, with prompts as `generate_until` has them."""
        return ChatModel(
            model=self.model,
            tokenizer=self.tokenizer,
            render=self.render if self.chat else self.plain,
            encode=self.tok_batch_encode,
            # "auto" leaves the size open.
            batch_size=max(LEAST_BATCH, self.batch_size if type(self.batch_size) is int else 0),
        )

    def render(self, prompt: str) -> str:
        """The chat template around one user turn.

        Raises:
            NoChatTemplate: the tokenizer has none.
        """
        if not self.tokenizer.chat_template:
            raise NoChatTemplate(
                f"The tokenizer of {self.model_name} has no chat template; give "
                "tokenizer=<one that has>, or chat=off to prompt the model with plain text."
            )
        return self.apply_chat_template([{"role": "user", "content": prompt}])

    def plain(self, prompt: str) -> str:
        """What the model reads of a prompt that gets no chat template."""
        return prompt

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """HFLM's, with the chat template applied where nobody has, and no prompt cut short."""
        read: Callable[[str], str] = self.render if self.chat else self.plain
        if asked_of_lm_eval("apply_chat_template"):
            read = str
        elif self.chat:
            self._refuse_stray_system_instruction()
            self._tell_of_rendering()
        original = {}
        rendered = []
        for request in requests:
            context, settings = request.args
            text = read(context)
            original[text] = context
            rendered.append(replace(request, arguments=(text, settings)))
        self._refuse_long_prompts(rendered)
        hook = self.cache_hook
        self.cache_hook = AnswersByRequest(hook, original, self._reopened)
        try:
            answers = super().generate_until(rendered, disable_tqdm=disable_tqdm)
        finally:
            self.cache_hook = hook
        return [
            self._reopened(request.args[0], answer)
            for request, answer in zip(rendered, answers, strict=True)
        ]

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """HFLM's; of an answer with reasoning (`think_end_token`), what follows it.

        Reasoning that never ended is left and marked, so that a judge can tell.
        """
        end = self._reasoning_end
        if end is None or not skip_special_tokens or not isinstance(tokens, list):
            return super().tok_decode(tokens, skip_special_tokens)
        if isinstance(end, int):
            if end not in tokens:
                return THINK + super().tok_decode(tokens).removeprefix(THINK)
            last = len(tokens) - tokens[::-1].index(end)
            return super().tok_decode(tokens[last:]).lstrip()
        text = super().tok_decode(tokens)
        if end not in text:
            return THINK + text.removeprefix(THINK)
        return text.split(end)[-1].lstrip()

    def _reopened(self, context: str, answer: str) -> str:
        """Give an answer whose reasoning the template opened in the prompt its opening tag back."""
        opened = context.rstrip().endswith(THINK) and self._reasoning_end is None
        return THINK + answer if opened else answer

    def set_cache_hook(self, cache_hook: CacheHook) -> None:
        """Take lm-eval's response cache, and refuse one that another condition wrote.

        lm-eval keys an answer by its request alone, so a baseline's answers would be served to the
        ablated model.

        Raises:
            WrongCache: the cache holds answers of another condition, or of nobody knows which.
        """
        if cache_hook.dbdict is not None:
            claim_cache(cache_hook.dbdict, self.identity())
        super().set_cache_hook(cache_hook)

    def _tell_of_rendering(self) -> None:
        if not self._told_of_rendering:
            logger.warning(
                "Applying the chat template to generate_until requests (the harness was not told "
                "--apply_chat_template); chat=off turns this off"
            )
        self._told_of_rendering = True

    def _refuse_stray_system_instruction(self) -> None:
        """Without a template the harness would glue the system text to the user's."""
        if (
            self.chat
            and asked_of_lm_eval("system_instruction")
            and not asked_of_lm_eval("apply_chat_template")
        ):
            raise UserError(
                "--system_instruction needs --apply_chat_template: without it lm-eval puts the "
                "system text into the user's turn; add that flag."
            )

    def _refuse_long_prompts(self, requests: list[Instance]) -> None:
        """HFLM would cut the beginning off, the template's with it, and say nothing."""
        if self.truncation or self.backend != "causal":
            return
        for request in requests:
            text, settings = request.args
            answer = normalize_gen_kwargs(settings, self.max_gen_toks)["max_gen_toks"]
            length = self.tok_batch_encode([text])[0].shape[1]
            if length + answer > self.max_length:
                raise UserError(
                    f"Prompt {request.doc.get('id', request.doc_id)} of {request.task_name} has "
                    f"{length} tokens and its answer may have {answer}, more than the model's "
                    f"window of {self.max_length}; lower the answer's length with "
                    "--gen_kwargs max_gen_toks=N, or cut prompts with truncation=True."
                )
