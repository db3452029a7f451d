"""How a prompt reaches a model: its chat template, its system text, and what stands in front."""

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
    """What the model reads of what it is asked.

    A prompt that is put in front (a `Preamble`) stands in the system turn of the chat template, or
    in the user's where the template has no system role, and in front of the context where no
    template is applied. One that peft trained stands where peft trained it: in front of everything,
    the template too. (peft's own model would leave a gap of the padding's length between it and the
    text, in the positions of a batch.)

    Args:
        tokenizer: the model's.
        model_name: what messages call the model.
        chat: whether `generate_until` requests get the chat template where the harness does not
            apply it.
        system: which system text was asked for.
        template_arguments: of the chat template.
        notes: takes what the results must say.

    Attributes:
        foremost: ids of the tokens in front of everything.
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
        """Have those interventions that are prompts stand in front of what is asked.

        Args:
            interventions: all that are done to the model, installed.
            window: most tokens that the model takes.

        Raises:
            BadPrompt: one leaves no room in the window.
        """
        for preamble in interventions:
            if not isinstance(preamble, Preamble):
                continue
            ids = self.ids(preamble.text)
            if len(ids) >= window:
                raise BadPrompt(
                    f"{preamble.name} has {len(ids)} tokens and the model a window of {window}; "
                    "give a shorter one."
                )
            self._preambles.append(preamble)
            if preamble.foremost:
                self.foremost += tuple(ids)

    @property
    def front(self) -> str | None:
        """The words in front of what is asked, where no template has a turn for them."""
        return in_front(self._lead, self.system.text or "") or None

    @property
    def names(self) -> str | None:
        """The arguments that asked for what stands in front, as a message names them."""
        return next((preamble.name for preamble in self._preambles), None)

    @property
    def _lead(self) -> str:
        """The words in front that the template does not know of: a system file's it does."""
        words = ""
        for preamble in self._preambles:
            if not preamble.foremost and preamble.text != self.system.text:
                words = in_front(words, preamble.text)
        return words

    def ids(self, text: str) -> list[int]:
        """The tokens of a text alone."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    # --- the template

    @property
    def applies_template(self) -> bool:
        """Whether requests for an answer get the chat template, from us or from the harness."""
        return self.chat or bool(asked_of_lm_eval("apply_chat_template"))

    @property
    def template(self) -> ChatTemplate:
        """The chat template, named or not by `--apply_chat_template`, and its system text."""
        return self.template_named(asked_of_lm_eval("apply_chat_template"))

    def template_named(self, name: bool | str | None) -> ChatTemplate:
        """The chat template of that name, or the only one."""
        arguments = dict(self._template_arguments)
        if isinstance(name, str) and name.lower() != "true":
            arguments["chat_template"] = name
        now = ChatTemplate(self.tokenizer, self.model_name, self.system, arguments)
        if self._template is None or not self._template.same(now):
            self._template = now
        return self._template

    def checksum(self) -> str:
        """Tells apart what is rendered: lm-eval keeps rendered requests under a name with it."""
        template = self.template
        written = f"{template.source} {template.arguments} {self.render(USER_PROBE)}"
        return hashlib.sha256(written.encode()).hexdigest()[:16]

    def apply(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """What the model reads of a chat, with every turn of it and what stands in front.

        Raises:
            UserError: there is no template, or it loses a turn.
        """
        self.begin()
        self._log_template()
        text = self._rendering(messages, add_generation_prompt)
        self._rendered.add(hash(text))
        return text

    def probe(self, prompt: str) -> str:
        """What the model would read of a prompt that nobody asks: nothing is logged of it.

        Raises:
            UserError: as `apply`.
        """
        return self._rendering([user_turn(prompt)], True) if self.chat else self.plain(prompt)

    def _rendering(self, messages: Messages, add_generation_prompt: bool) -> str:
        if lead := self._lead:
            messages = with_system(messages, lead)
        return self.template.render(messages, add_generation_prompt)

    def render(self, prompt: str) -> str:
        """The chat template around one user turn.

        Raises:
            UserError: there is no template, or it loses the prompt.
        """
        return self.apply([user_turn(prompt)])

    def plain(self, prompt: str) -> str:
        """What the model reads of a prompt that gets no chat template."""
        return in_front(self.front or "", prompt)

    def chat_model(self, model: PreTrainedModel, encode: Encode, batch_size: int) -> ChatModel:
        """A model as direction extraction sees it, with prompts as `generate_until` has them.

        Args:
            model: with or without its own weights.
            encode: rendered texts -> token ids and attention mask, padded on the left.
            batch_size: rows of a forward pass.
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
        """Start an evaluation, and refuse one that this model cannot be asked in.

        Raises:
            UserError: see `refuse_system_instruction`.
        """
        if self._notes.begin():
            self._logged_template = False
        refuse_system_instruction(self.chat, self.system)

    def read(self, context: str) -> str:
        """What the model reads of the context of a `generate_until` request.

        Raises:
            UserError: the context was rendered without what must stand in front of it, there is no
                template, or it loses the prompt.
        """
        if asked_of_lm_eval("apply_chat_template") or hash(context) in self._rendered:
            return context
        if not self.chat:
            return self.plain(context)
        # The harness's frames may be out of sight, and a cache of requests may hold its work.
        if self.template.is_rendered(context):
            if self.front is not None and self.front not in context:
                raise UserError(
                    f"A prompt has the chat template already and not {self.names} in it; give the "
                    "prompt without the template."
                )
            return context
        self._log_rendering()
        return self.render(context)

    def behind(self, context: list[int], prefix: int | None) -> list[int]:
        """The tokens of a log-likelihood request's context with what stands in front of it.

        Args:
            context: where the harness applies the template, it holds the words already.
            prefix: the token that begins a text; the words come behind it.
        """
        if self.front is None or asked_of_lm_eval("apply_chat_template"):
            return [*self.foremost, *context]
        begun = context[0] == prefix
        front = self.front if context[begun:] == [] else f"{self.front}\n\n"
        return [*self.foremost, *context[:begun], *self.ids(front), *context[begun:]]

    # --- the system text

    def system_identity(self) -> dict[str, Any]:
        """Which system text there is, as it is rendered."""
        if self.system.kind != "template" or not self.applies_template:
            return self.system.identity(None)
        try:
            return self.system.identity(self._inserted())
        except NoChatTemplate:  # The first request will say so.
            return self.system.identity(None)

    def _inserted(self) -> str | None:
        """What the template adds by itself to what is asked."""
        return self.template.kept if self._gives_system() else self.template.inserted

    def _gives_system(self) -> bool:
        """Whether a system text comes with every prompt."""
        return bool(asked_of_lm_eval("system_instruction")) or self.front is not None

    def _log_rendering(self) -> None:
        if not self._logged_rendering:
            logger.warning(
                "Applying the chat template to generate_until requests (the harness was not told "
                "--apply_chat_template); chat=off turns this off"
            )
        self._logged_rendering = True

    def _log_template(self) -> None:
        """Log, once a run, what the template adds by itself, and what it leaves out."""
        if self._logged_template:
            return
        self._logged_template = True
        template = f"The chat template of {self.model_name}"
        inserted = None if self.system.kind == "none" else self._inserted()
        if inserted and self._gives_system():
            logger.warning(
                "%s adds to the given system text one of its own: %r", template, inserted
            )
        elif inserted:
            logger.warning(
                "%s inserts a system text of its own: %r; system=none leaves it out",
                template,
                inserted,
            )
        if inserted and self.template.dated:
            self._notes.warn(
                f"{template} inserts today's date, so that another day's answers may differ; give "
                "the date in chat_template_args where the template takes one, or system=none."
            )
        if self.template.unopened:
            self._notes.warn(
                f"{template} does not open an answer: it writes {self.template.unopened!r} before "
                "the answers of a chat and not behind a prompt, so that what the model writes may "
                "be no answer; give tokenizer=<one with another template>."
            )


def parse_chat(given: str) -> bool:
    """Whether `chat=` asks for the chat template.

    Raises:
        UserError: it is neither "on" nor "off".
    """
    if given not in ("on", "off"):
        raise UserError(f"chat={given} is not known; use chat=on or chat=off.")
    return given == "on"


def refuse_truncation(arguments: Mapping[str, Any], front: str) -> None:
    """Args:
        arguments: of the model.
        front: what stands in front of everything that is asked.

    Raises:
        UserError: the arguments ask for a truncation, which would cut that off.
    """
    if arguments.get("truncation"):
        raise UserError(
            f"truncation=True cuts off the beginning, where {front} stands; give one of them."
        )


def refuse_system_instruction(chat: bool, system: System) -> None:
    """Without a template the harness would glue a system instruction to the user's words.

    Raises:
        UserError: it would, or there is a system file as well.
    """
    if not asked_of_lm_eval("system_instruction"):
        return
    if system.text is not None:
        raise UserError(
            "--system_instruction and a system file are two system texts; give one of them."
        )
    if chat and not asked_of_lm_eval("apply_chat_template"):
        raise UserError(
            "--system_instruction needs --apply_chat_template: without it lm-eval puts the "
            "system text into the user's turn; add that flag."
        )


def system_file(system: System) -> SystemText | None:
    """The intervention that a system file is; None where there is no file."""
    if system.text is None:
        return None
    return SystemText(f"system_file={system.path}", system.text, system.identity(None))
