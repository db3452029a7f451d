"""Turn a prompt into what a model reads: chat template, system text, and safety prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from polyrefuse_models.chat_model import ChatModel, Encode
from polyrefuse_models.chat_template import (
    USER_PROBE,
    ChatTemplate,
    Messages,
    NoChatTemplate,
    in_front,
    user_turn,
    with_system,
)
from polyrefuse_models.interventions import Intervention, Preamble, SystemText
from polyrefuse_models.mcd.artifact import BadPrompt
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.lm_eval_internals import asked_of_lm_eval
from polyrefuse_shared.log import logger

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polyrefuse_models.system import System
    from polyrefuse_models.wrappers.run_notes import RunNotes


class Prompting:
    """Turns prompts into what the model reads.

    A safety prompt or a system text (a `Preamble`) stands in the system turn of the chat template,
    in the user's turn if the template has no system role, and in front of the context if no
    template is applied. A prompt that peft trained stands where peft trained it: in front of
    everything, including the template. (In a batch, peft's own model would leave a gap as long as
    the padding between the positions of the prompt and of the text.)

    Args:
        tokenizer: the model's tokenizer.
        model_name: the model's name in messages.
        chat: whether to apply the chat template to `generate_until` requests if lm-eval does not.
        system: the system text that was asked for.
        template_arguments: the arguments of the chat template.
        notes: an object that collects what the results have to say.

    Attributes:
        foremost: the ids of the tokens in front of everything.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model_name: str,
        *,
        chat: bool,
        system: System,
        template_arguments: Mapping[str, Any],
        notes: RunNotes,
    ) -> None:
        self.tokenizer = tokenizer
        self.model_name = model_name
        self.chat = chat
        self.system = system
        self.foremost: tuple[int, ...] = ()
        self._template_arguments = template_arguments
        self._notes = notes
        self._preambles: list[Preamble] = []
        self._template: ChatTemplate | None = None
        self._rendered: set[int] = set()
        self._logged_rendering = False
        self._logged_template = False

    # --- what stands in front

    def put_in_front(self, interventions: Iterable[Intervention], window: int) -> None:
        """Put those interventions that are texts in front of every prompt.

        Args:
            interventions: all interventions on the model, installed.
            window: the largest number of tokens that the model takes.

        Raises:
            BadPrompt: a text leaves no room in the window.
        """
        for preamble in interventions:
            if not isinstance(preamble, Preamble):
                continue
            ids = self.ids(preamble.text)
            if len(ids) >= window:
                raise BadPrompt(
                    f"{preamble.name} has {len(ids)} tokens, and the model has a window of "
                    f"{window}; give a shorter text."
                )
            self._preambles.append(preamble)
            if preamble.foremost:
                self.foremost += tuple(ids)

    @property
    def front(self) -> str | None:
        """The words in front of a prompt to which no chat template is applied; None if none."""
        return in_front(self._lead, self.system.text or "") or None

    @property
    def names(self) -> str | None:
        """The argument that asked for the text in front, for messages; None if there is none."""
        return next((preamble.name for preamble in self._preambles), None)

    @property
    def _lead(self) -> str:
        """The words in front, except those of a system file, which `ChatTemplate` adds itself."""
        words = ""
        for preamble in self._preambles:
            if not preamble.foremost and preamble.text != self.system.text:
                words = in_front(words, preamble.text)
        return words

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens around it."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    # --- the template

    @property
    def applies_template(self) -> bool:
        """Whether the chat template is applied to requests for an answer, by us or by lm-eval."""
        return self.chat or bool(asked_of_lm_eval("apply_chat_template"))

    @property
    def template(self) -> ChatTemplate:
        """The chat template that `--apply_chat_template` names, or the only one."""
        return self.template_named(asked_of_lm_eval("apply_chat_template"))

    def template_named(self, name: bool | str | None) -> ChatTemplate:
        """Return the chat template of that name, or the only one."""
        arguments = dict(self._template_arguments)
        if isinstance(name, str) and name.lower() != "true":
            arguments["chat_template"] = name
        now = ChatTemplate(self.tokenizer, self.model_name, self.system, arguments)
        if self._template is None or not self._template.same(now):
            self._template = now
        return self._template

    def checksum(self) -> str:
        """Return a checksum of what is rendered, for lm-eval's name of cached requests."""
        template = self.template
        written = f"{template.source} {template.arguments} {self.render(USER_PROBE)}"
        return hashlib.sha256(written.encode()).hexdigest()[:16]

    def apply(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """Render a chat with all of its turns and the text in front.

        Raises:
            UserError: there is no template, or it loses a turn.
        """
        self.begin()
        self._log_template()
        text = self._rendering(messages, add_generation_prompt)
        self._rendered.add(hash(text))
        return text

    def probe(self, prompt: str) -> str:
        """Render a prompt that is only a probe, and log nothing.

        Raises:
            UserError: as in `apply`.
        """
        return self._rendering([user_turn(prompt)], True) if self.chat else self.plain(prompt)

    def _rendering(self, messages: Messages, add_generation_prompt: bool) -> str:
        if lead := self._lead:
            messages = with_system(messages, lead)
        return self.template.render(messages, add_generation_prompt)

    def render(self, prompt: str) -> str:
        """Put the chat template around one user turn.

        Raises:
            UserError: there is no template, or it loses the prompt.
        """
        return self.apply([user_turn(prompt)])

    def plain(self, prompt: str) -> str:
        """Return the text that the model reads for a prompt if no chat template is applied."""
        return in_front(self.front or "", prompt)

    def chat_model(self, model: PreTrainedModel, encode: Encode, batch_size: int) -> ChatModel:
        """Make the model that directions are extracted from, with prompts as in `generate_until`.

        Args:
            model: the model, with or without its own weights.
            encode: turns rendered texts into token ids and an attention mask, padded on the left.
            batch_size: the number of rows of a forward pass.
        """
        return ChatModel(
            model=model,
            tokenizer=self.tokenizer,
            render=self.render if self.chat else self.plain,
            encode=encode,
            template=self.template if self.chat else None,
            batch_size=batch_size,
        )

    # --- requests

    def begin(self) -> None:
        """Start an evaluation, and refuse one that does not fit this model's settings.

        Raises:
            UserError: as in `refuse_system_instruction`.
        """
        if self._notes.begin():
            self._logged_template = False
        refuse_system_instruction(self.chat, self.system)

    def read(self, context: str) -> str:
        """Return the text that the model reads for the context of a `generate_until` request.

        Raises:
            UserError: the context was rendered without the safety prompt, there is no template, or
                the template loses the prompt.
        """
        if asked_of_lm_eval("apply_chat_template") or hash(context) in self._rendered:
            return context
        if not self.chat:
            return self.plain(context)
        # lm-eval may have rendered it out of our sight, or it may come from a cache of requests.
        if self.template.is_rendered(context):
            if self.front is not None and self.front not in context:
                raise UserError(
                    f"A prompt has the chat template already, but without {self.names}; give the "
                    "prompt without the template."
                )
            return context
        self._log_rendering()
        return self.render(context)

    def behind(self, context: list[int], prefix: int | None) -> list[int]:
        """Return the token ids of a log-likelihood request's context, with the text in front.

        Args:
            context: the ids of the context, at least one. If lm-eval applies the template, they
                include the words in front already.
            prefix: the token that begins a text. The words in front follow it.
        """
        if self.front is None or asked_of_lm_eval("apply_chat_template"):
            return [*self.foremost, *context]
        begun = context[0] == prefix
        front = self.front if context[begun:] == [] else f"{self.front}\n\n"
        return [*self.foremost, *context[:begun], *self.ids(front), *context[begun:]]

    # --- the system text

    def system_identity(self) -> dict[str, Any]:
        """Return what results record about the system text, as it is rendered."""
        if self.system.kind != "template" or not self.applies_template:
            return self.system.identity(None)
        try:
            return self.system.identity(self._inserted())
        except NoChatTemplate:  # The first request will report it.
            return self.system.identity(None)

    def _inserted(self) -> str | None:
        """Return the text that the template adds by itself to a prompt."""
        return self.template.kept if self._gives_system() else self.template.inserted

    def _gives_system(self) -> bool:
        """Whether every prompt has a system text that is not the template's own."""
        return bool(asked_of_lm_eval("system_instruction")) or self.front is not None

    def _log_rendering(self) -> None:
        if not self._logged_rendering:
            logger.warning(
                "The chat template is applied to generate_until requests, although "
                "--apply_chat_template was not given; chat=off turns this off."
            )
        self._logged_rendering = True

    def _log_template(self) -> None:
        """Log, once per run, what the template adds by itself, and what it leaves out."""
        if self._logged_template:
            return
        self._logged_template = True
        template = f"The chat template of {self.model_name}"
        inserted = None if self.system.kind == "none" else self._inserted()
        if inserted and self._gives_system():
            logger.warning("%s adds its own text to the given system text: %r.", template, inserted)
        elif inserted:
            logger.warning(
                "%s inserts its own system text: %r; system=none leaves it out.",
                template,
                inserted,
            )
        if inserted and self.template.dated:
            self._notes.warn(
                f"{template} inserts today's date, so answers may differ on another day; give the "
                "date in chat_template_args if the template takes one, or system=none."
            )
        if self.template.unopened:
            self._notes.warn(
                f"{template} does not open an answer: it writes {self.template.unopened!r} before "
                "the answers in a chat, but not after a prompt, so what the model writes may not "
                "be an answer; give tokenizer=<one with another template>."
            )


def parse_chat(given: str) -> bool:
    """Read the argument `chat=`, and return whether it asks for the chat template.

    Raises:
        UserError: the value is neither "on" nor "off".
    """
    if given not in ("on", "off"):
        raise UserError(f"chat={given} is not known; use chat=on or chat=off.")
    return given == "on"


def refuse_truncation(arguments: Mapping[str, Any], front: str) -> None:
    """Refuse to truncate prompts that have a text in front, because that would be cut off first.

    Args:
        arguments: the arguments of the model.
        front: the name of the text in front, for messages.

    Raises:
        UserError: the arguments ask for truncation.
    """
    if arguments.get("truncation"):
        raise UserError(
            f"truncation=True cuts off the beginning, where {front} stands; give only one of them."
        )


def refuse_system_instruction(chat: bool, system: System) -> None:
    """Refuse a system instruction that lm-eval would put into the user's turn.

    Raises:
        UserError: no template is applied, so lm-eval would do that; or there is a system file too.
    """
    if not asked_of_lm_eval("system_instruction"):
        return
    if system.text is not None:
        raise UserError(
            "--system_instruction and a system file are two system texts; give only one of them."
        )
    if chat and not asked_of_lm_eval("apply_chat_template"):
        raise UserError(
            "--system_instruction needs --apply_chat_template, because without it lm-eval puts the "
            "system text into the user's turn; add that flag."
        )


def system_file(system: System) -> SystemText | None:
    """Make the intervention of a system file; None if there is no file."""
    if system.text is None:
        return None
    return SystemText(f"system_file={system.path}", system.text, system.identity(None))
