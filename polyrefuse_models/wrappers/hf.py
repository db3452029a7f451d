"""`baseline-hf`: lm-eval's HFLM for refusal safety, without an intervention.

Every HFLM argument works. What its subclasses share is how a prompt reaches the model and how an
answer leaves it; conditions then differ by the intervention alone.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.model import CacheHook
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from polyrefuse_models import bundled
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.chat_template import (
    USER_PROBE,
    ChatTemplate,
    NoChatTemplate,
    in_front,
    user_turn,
)
from polyrefuse_models.neutral_generation import neutralise
from polyrefuse_models.system import read_system
from polyrefuse_models.wrappers import identity
from polyrefuse_models.wrappers.generation_settings import effective, kept_otherwise
from polyrefuse_models.wrappers.response_cache import AnswersByRequest, claim_cache
from polyrefuse_models.wrappers.same_answers import same_answers
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval, warn_before_publishing
from polyrefuse_shared.versions import versions
from polyrefuse_tasks.generation_settings import listed
from polyrefuse_tasks.judges.reasoning import (
    closing_of,
    marks_in,
    marks_of_vocabulary,
    opened_in,
    without_tokens,
)

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
        system: "template" leaves the system text that the chat template inserts by itself, "none"
            takes it away.
        system_file: a file with the text of the system turn, in place of `system`.
        kwargs: every other argument of HFLM.

    Raises:
        UserError: `chat` or `system` is none of these, the file cannot be used, or the harness adds
            a system instruction without a template or beside the file's text.
    """

    condition = "baseline"
    _template: ChatTemplate | None = None
    _reasoning_end: str | int | None = None
    _run: Any = None
    _standing: tuple[str, ...] = ()
    _told_of_rendering = False
    _told_of_template = False

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        chat: str = "on",
        system: str | None = "template",
        system_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        if chat not in ("on", "off"):
            raise UserError(f"chat={chat} is not known; use chat=on or chat=off.")
        self.chat = chat == "on"
        self.warnings: list[str] = []
        self.system = read_system(system, system_file)
        if self.system.text is not None:
            if kwargs.get("truncation"):
                raise UserError(
                    "truncation=True cuts off the beginning, where the system file's text stands; "
                    "give one of them."
                )
            self._also("system-prompt")
        self._refuse_system_instruction()
        warn_before_publishing()
        if pretrained in (None, bundled.ORGANISM):
            pretrained = bundled.ORGANISM
            logger.warning(
                "No other pretrained= was given: this measures %s, the small model of an invented "
                "world that comes with the package; its tasks are the group toyrefuse.",
                bundled.ORGANISM,
            )
        if isinstance(pretrained, str) and pretrained in bundled.SHIPPED:
            pretrained = str(bundled.path(pretrained))
        if kwargs.get("device") is None:
            # HFLM's own default is a GPU, there or not.
            kwargs["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        self.model_arguments = identity.model_arguments(kwargs)
        super().__init__(pretrained=pretrained, **kwargs)
        # HFLM cuts reasoning off without a trace where it ended and leaves it where it did not;
        # `tok_decode` marks the second, so that it is not judged as an answer.
        self._reasoning_end, self.think_end_token = self.think_end_token, None
        self._warn_of_reasoning()
        self._settings_seen: list[dict[str, Any]] = []
        self.set_aside = neutralise(self.model)
        if self.set_aside:
            logger.warning(
                "The generation_config of %s asks for %s, which the protocol sets aside; name it "
                "in --gen_kwargs to measure the model with it.",
                self.model_name,
                listed(self.set_aside),
            )

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> BaselineHF:
        """HFLM's; where no model is named, the organism is, in lm-eval's own arguments.

        The results and their folder bear the name found there, a random one where there is none.
        """
        arg_dict.setdefault("pretrained", bundled.ORGANISM)
        return super().create_from_arg_obj(arg_dict, additional_config)

    def get_model_info(self) -> dict[str, Any]:
        """HFLM's, what was done to the model, and what a reader of its rates must know."""
        said = {
            "versions": versions(),
            "warnings": list(self.warnings),
            "generation_settings": effective(self.model, self._settings_seen),
            "generation_settings_set_aside": self.set_aside,
        }
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
            "model_arguments": self.model_arguments,
            **identity.loaded(self),
            **self._system_identity(),
        }

    @cached_property
    def weights(self) -> str:
        """Which weights were loaded; what edits them asks for this first."""
        return identity.weights_of(self)

    def _also(self, made: str) -> None:
        """Name one more thing that is done to the model in the condition."""
        alone = self.condition == BaselineHF.condition
        self.condition = made if alone else f"{self.condition}+{made}"

    def _system_identity(self) -> dict[str, Any]:
        """Which system text there is, as it is rendered."""
        if self.system.kind != "template" or not self._applies_template:
            return self.system.identity(None)
        try:
            return self.system.identity(self._inserted())
        except NoChatTemplate:  # Told where it is needed.
            return self.system.identity(None)

    def _inserted(self) -> str | None:
        """What the template adds by itself to what is asked."""
        return self.template.kept if self._gives_system() else self.template.inserted

    def _gives_system(self) -> bool:
        """Whether a system text comes with every prompt."""
        return bool(asked_of_lm_eval("system_instruction")) or self.front is not None

    @property
    def _applies_template(self) -> bool:
        return self.chat or bool(asked_of_lm_eval("apply_chat_template"))

    @property
    def own_dataset(self) -> str:
        """Whose prompts are used where nobody says: the organism's own world, or PolyRefuse."""
        return bundled.own_dataset(self.pretrained)

    @property
    def model_name(self) -> str:
        """What results call the model."""
        return bundled.name_of(self.model.config.name_or_path)

    @property
    def chat_model(self) -> ChatModel:
        """The model as direction extraction sees it, with prompts as `generate_until` has them."""
        return ChatModel(
            model=self.model,
            tokenizer=self.tokenizer,
            render=self.render if self.chat else self.plain,
            encode=self.tok_batch_encode,
            template=self.template if self.chat else None,
            # "auto" leaves the size open.
            batch_size=max(LEAST_BATCH, self.batch_size if type(self.batch_size) is int else 0),
        )

    @property
    def template(self) -> ChatTemplate:
        """The chat template, named or not by `--apply_chat_template`, and its system text."""
        return self._template_named(asked_of_lm_eval("apply_chat_template"))

    def _template_named(self, name: bool | str | None) -> ChatTemplate:
        arguments = dict(self.chat_template_args)
        if isinstance(name, str) and name.lower() != "true":
            arguments["chat_template"] = name
        now = ChatTemplate(self.tokenizer, self.model_name, self.system, arguments)
        if self._template is None or not self._template.same(now):
            self._template = now
        return self._template

    @property
    def tokenizer_name(self) -> str:
        """HFLM's, and what is rendered: lm-eval keeps rendered requests under this name."""
        template = self.template
        written = f"{template.source} {template.arguments} {self.render(USER_PROBE)}"
        checksum = hashlib.sha256(written.encode()).hexdigest()
        return f"{super().tokenizer_name}-{checksum[:16]}"

    @property
    def front(self) -> str | None:
        """The words in front of what is asked, where no template has a turn for them."""
        return self.system.text

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template that the harness applies, for its results.

        Raises:
            NoChatTemplate: there is none, or none of that name.
        """
        if chat_template is False or chat_template is None:
            return super().chat_template(chat_template)
        return self._template_named(chat_template).source

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """HFLM's, with every turn in what the model reads.

        HFLM drops a system turn that the template does not take, and does not ask whether the
        template writes the others.

        Raises:
            UserError: there is no template, or it loses a turn.
        """
        self._begin_run()
        self._refuse_system_instruction()
        self._tell_of_template()
        return self.template.render(chat_history, add_generation_prompt)

    def render(self, prompt: str) -> str:
        """The chat template around one user turn.

        Raises:
            UserError: there is no template, or it loses the prompt.
        """
        return self.apply_chat_template([user_turn(prompt)])

    def plain(self, prompt: str) -> str:
        """What the model reads of a prompt that gets no chat template."""
        return in_front(self.front or "", prompt)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """HFLM's, with the chat template applied where nobody has, and no prompt cut short."""
        self._begin_run()
        self._refuse_system_instruction()
        read: Callable[[str], str] = self.render if self.chat else self.plain
        if asked_of_lm_eval("apply_chat_template"):
            read = str
        elif self.chat:
            self._tell_of_rendering()
        original = {}
        rendered = []
        for request in requests:
            context, settings = request.args
            text = read(context)
            original[text] = context
            rendered.append(replace(request, arguments=(text, settings)))
        self._refuse_long_prompts(rendered)
        self._note_settings(requests)
        hook = self.cache_hook
        self.cache_hook = AnswersByRequest(hook, original, self._reopened)
        try:
            answers = super().generate_until(rendered, disable_tqdm=disable_tqdm)
        finally:
            self.cache_hook = hook
        answers = [
            self._reopened(request.args[0], answer)
            for request, answer in zip(rendered, answers, strict=True)
        ]
        for sentence in same_answers(requests, answers):
            self.warn(sentence)
        return answers

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """HFLM's.

        Raises:
            UserError: words would have to stand in front of a context, and there is none.
        """
        if self._prompted is not None:
            raise UserError(
                f"{self._prompted} has no place in {requests[0].task_name}: its texts are "
                "scored whole (loglikelihood_rolling), with no context that it could stand before."
            )
        return super().loglikelihood_rolling(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self,
        requests: list[tuple[Any, list[int], list[int]]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """HFLM's, with `front` in front of contexts, behind a token that begins a text.

        Raises:
            UserError: a request is longer than the window; HFLM would cut the front off.
        """
        self._begin_run()
        if self._prompted is not None:
            self._refuse_system_instruction()
            requests = [(key, self._behind(context), end) for key, context, end in requests]
            longest = max((len(context) + len(end) - 1 for _, context, end in requests), default=0)
            if longest > self.max_length:
                raise UserError(
                    f"A request has {longest} tokens with {self._prompted} and the model a window "
                    f"of {self.max_length}; lower --num_fewshot or give a shorter prompt."
                )
        return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)

    @property
    def _prompted(self) -> str | None:
        """What was given to stand in front of everything that is asked, as a message names it."""
        return None if self.system.path is None else f"system_file={self.system.path}"

    def _behind(self, context: list[int]) -> list[int]:
        """The tokens of a context with `front` before it; the harness's template has it."""
        if self.front is None or asked_of_lm_eval("apply_chat_template"):
            return context
        begun = context[0] == self.prefix_token_id
        front = self.front if context[begun:] == [] else f"{self.front}\n\n"
        return [*context[:begun], *self._ids(front), *context[begun:]]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def tok_decode(self, tokens: Any, skip_special_tokens: bool = True) -> str:
        """HFLM's; of an answer with reasoning (`think_end_token`), what follows it.

        Reasoning that never ended is left and marked, so that a judge can tell.
        """
        end = self._reasoning_end
        if not skip_special_tokens or not isinstance(tokens, list):
            return super().tok_decode(tokens, skip_special_tokens)
        if end is None:
            return self._with_marks(tokens)
        if isinstance(end, str):
            # Where the mark is a special token, the decoded text has lost it.
            end = self.tokenizer.get_added_vocab().get(end, end)
        if isinstance(end, int):
            if end not in tokens:
                return THINK + super().tok_decode(tokens).removeprefix(THINK)
            last = len(tokens) - tokens[::-1].index(end)
            return super().tok_decode(tokens[last:]).lstrip()
        text = super().tok_decode(tokens)
        if end not in text:
            return THINK + text.removeprefix(THINK)
        return text.split(end)[-1].lstrip()

    def _with_marks(self, tokens: list[int]) -> str:
        """The text of an answer with those special tokens that are marks of reasoning.

        Without them its reasoning could not be told from the answer.
        """
        text = super().tok_decode(tokens)
        whole = super().tok_decode(tokens, skip_special_tokens=False)
        if marks_in(whole) == marks_in(text):
            return text
        special = {token for token in self.tokenizer.all_special_tokens if token}
        added = self.tokenizer.added_tokens_decoder.values()
        special |= {token.content for token in added if token.special}
        return without_tokens(whole, re.compile("|".join(map(re.escape, special))))

    def _reopened(self, context: str, answer: str) -> str:
        """Give an answer whose reasoning the template opened in the prompt its opening mark back.

        With `think_end_token`, `tok_decode` has told where the reasoning ends.
        """
        return answer if self._reasoning_end is not None else opened_in(context) + answer

    def _warn_of_reasoning(self) -> None:
        """Warn of a model that may reason where nobody said how its reasoning ends."""
        if self._reasoning_end is not None:
            return
        named = self.tokenizer.chat_template or ""
        templates = list(named.values()) if isinstance(named, dict) else [named]
        found = {
            "chat template": [mark for template in templates for mark in marks_in(template)],
            "vocabulary": marks_of_vocabulary(
                [*self.tokenizer.all_special_tokens, *sorted(self.tokenizer.get_vocab())]
            ),
        }
        where = " and the ".join(name for name, marks in found.items() if marks)
        if not where:
            return
        marks = [mark for listed_marks in found.values() for mark in listed_marks]
        end = closing_of(marks)
        self.warn(
            f"{self.model_name} may reason before it answers: its {where} has {marks[0]}. Its "
            "reasoning is told from its answer by such marks in what it writes, and an answer "
            "whose reasoning is cut at the token limit is undecided; give "
            f"think_end_token={end or 'the token that ends its reasoning'} to have the reasoning "
            "cut off there."
        )

    def _begin_run(self) -> None:
        """Forget what an earlier evaluation of this object said: each one's results are its own."""
        run = asked_of_lm_eval("eval_tasks")
        if run is None or run is self._run:
            return
        if self._run is None:
            self._standing = tuple(self.warnings)
        else:
            self.warnings[:] = self._standing
            self._settings_seen.clear()
            self._told_of_template = False
        self._run = run

    def _note_settings(self, requests: list[Instance]) -> None:
        """Keep the settings that answers are made with, and warn where the run claims others."""
        for request in requests:
            settings = normalize_gen_kwargs(request.args[1], self.max_gen_toks)
            if settings not in self._settings_seen:
                self._settings_seen.append(dict(settings))
        for sentence in kept_otherwise(requests):
            self.warn(sentence)

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

    def _tell_of_template(self) -> None:
        """Log, once, what the template adds by itself, and what it leaves out."""
        if self._told_of_template:
            return
        self._told_of_template = True
        of = f"The chat template of {self.model_name}"
        inserted = None if self.system.kind == "none" else self._inserted()
        if inserted and self._gives_system():
            logger.warning("%s adds to the given system text one of its own: %r", of, inserted)
        elif inserted:
            logger.warning(
                "%s inserts a system text of its own: %r; system=none leaves it out", of, inserted
            )
        if inserted and self.template.dated:
            self.warn(
                f"{of} inserts today's date, so that another day's answers may differ; give the "
                "date in chat_template_args where the template takes one, or system=none."
            )
        if self.template.unopened:
            self.warn(
                f"{of} does not open an answer: it writes {self.template.unopened!r} before the "
                "answers of a chat and not behind a prompt, so that what the model writes may be "
                "no answer; give tokenizer=<one with another template>."
            )

    def _refuse_system_instruction(self) -> None:
        """Without a template the harness would glue the system text to the user's.

        Raises:
            UserError: so, or there is a system file as well.
        """
        if not asked_of_lm_eval("system_instruction"):
            return
        if self.system.text is not None:
            raise UserError(
                "--system_instruction and a system file are two system texts; give one of them."
            )
        if self.chat and not asked_of_lm_eval("apply_chat_template"):
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
