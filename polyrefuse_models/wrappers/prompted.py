"""`mcd-hf`: a model with a safety prompt in front of what it is asked, learned or in words."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import functional

from polyrefuse_models.anatomy import input_device, width
from polyrefuse_models.chat_template import in_front, with_system
from polyrefuse_models.interventions import ablate
from polyrefuse_models.interventions.soft_prompt import SoftPrompt
from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd.artifact import BadPrompt, Prompt
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.wrappers.hf import BaselineHF
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class GivenPrompt:
    """What `prompt=` names.

    Attributes:
        name: as it was given; of a folder its whole path.
        source: where it came from.
        given: a text, or vectors.
    """

    name: str
    source: Literal["text", "soft", "peft"]
    given: str | Prompt

    @property
    def vectors(self) -> Float[Tensor, "n d"] | None:
        """Of a learned prompt."""
        return self.given.vectors if isinstance(self.given, Prompt) else None

    @property
    def condition(self) -> str:
        """What it makes of a model."""
        return "system-prompt" if self.source == "text" else "mcd"

    @property
    def sha256(self) -> str:
        """Checksum of the text, or of the vectors' numbers."""
        if isinstance(self.given, Prompt):
            return self.given.sha256
        return hashlib.sha256(self.given.encode()).hexdigest()

    def identity(self) -> dict[str, Any]:
        """What results say of it."""
        told = self.given.metadata if isinstance(self.given, Prompt) else {}
        return {
            "prompt": self.name,
            "prompt_source": self.source,
            "prompt_sha256": self.sha256,
            "prompt_dataset": told.get("dataset"),
            "prompt_langs": told.get("languages"),
            "prompt_settings": told.get("settings"),
            "prompt_overlap": told.get("anchors", {}).get("overlap"),
        }


class PromptedHF(BaselineHF):
    """A chat model with a safety prompt in front of what it is asked, or without one.

    A prompt stands in the system turn of the chat template, or in the user's where the template has
    no system role, and in front of the context where no template is applied. One that peft trained
    stands where peft trained it: in front of everything, the template too. (peft's own model would
    leave a gap of the padding's length between it and the text, in the positions of a batch.)

    Args:
        pretrained: as BaselineHF's.
        prompt: folder of a soft prompt, of a PEFT prompt-tuning checkpoint, or the name of a safety
            prompt in words; none by default.
        kwargs: as BaselineHF's.

    Raises:
        UserError: no usable prompt, or one that does not go with the other arguments.
    """

    _words: str | None = None
    _foremost: tuple[int, ...] = ()

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        prompt: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.prompt = None if prompt is None else read_prompt(prompt)
        if self.prompt and kwargs.get("truncation"):
            raise UserError(
                "truncation=True cuts off the beginning, where prompt= stands; give one of them."
            )
        if self.prompt:
            if self.prompt.source == "text" and kwargs.get("system_file"):
                raise UserError(
                    f"prompt={prompt} is a system text in words, and so is the system file "
                    f"{kwargs['system_file']}; give one of them."
                )
            self._also(self.prompt.condition)
        super().__init__(pretrained=pretrained, **kwargs)
        if self.prompt and isinstance(self.prompt.given, Prompt):
            self.prompt.given.check(width(self.model), f"prompt={prompt}")
            self.prompt.given.warn_of_another_model(self.model.config)

    def place_prompt(self, without: Float[Tensor, "d"] | None = None) -> None:
        """Put the prompt in place, where there is one: what is extracted is extracted before.

        Args:
            without: direction that its vectors shall have no component along; any scale.

        Raises:
            BadPrompt: it leaves no room in the model's window.
        """
        if self.prompt is None:
            return
        vectors = self.prompt.vectors
        if vectors is None:
            text = str(self.prompt.given)
        else:
            if without is not None:
                wide = without.cpu().double()
                vectors = ablate(vectors, wide / wide.norm())
            vectors = vectors.to(input_device(self.model))
            self.soft_prompt = SoftPrompt(self.model, self.tokenizer, vectors)
            text = self.soft_prompt.text
        ids = self._ids(text)
        if len(ids) >= self.max_length:
            raise BadPrompt(
                f"prompt={self.prompt.name} has {len(ids)} tokens and the model a window of "
                f"{self.max_length}; give a shorter one."
            )
        if self.prompt.source == "peft":
            self._foremost = tuple(ids)
        else:
            self._words = text

    def identity(self) -> dict[str, Any]:
        """BaselineHF's, and which prompt it is."""
        return super().identity() | (self.prompt.identity() if self.prompt else {})

    @property
    def front(self) -> str | None:
        """BaselineHF's, behind the prompt."""
        return in_front(self._words or "", super().front or "") or None

    @property
    def _prompted(self) -> str | None:
        return super()._prompted if self.prompt is None else f"prompt={self.prompt.name}"

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """BaselineHF's, with the prompt in the chat, whether the harness applies it or `render`."""
        if self._words is not None:
            chat_history = with_system(chat_history, self._words)
        return super().apply_chat_template(chat_history, add_generation_prompt)

    def _behind(self, context: list[int]) -> list[int]:
        """BaselineHF's, with what peft trained in front of everything."""
        return [*self._foremost, *super()._behind(context)]

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"]]:
        """HFLM's, with what peft trained in front of each text, behind the padding."""
        ids, mask = super().tok_batch_encode(strings, padding_side, left_truncate_len, truncation)
        if not self._foremost:
            return ids, mask
        front = torch.tensor([self._foremost], dtype=ids.dtype)
        first = mask.argmax(dim=-1, keepdim=True)
        columns = first + torch.arange(front.shape[1])
        ids, mask = (functional.pad(x, (front.shape[1], 0)) for x in (ids, mask))
        ids[:, : front.shape[1]] = self.tokenizer.pad_token_id
        return ids.scatter(1, columns, front.expand_as(columns)), mask.scatter(1, columns, 1)


class McdHF(PromptedHF):
    """A chat model with a safety prompt: a soft one (2505.11835), or one in words.

    Args:
        pretrained: as BaselineHF's.
        prompt: as PromptedHF's, and needed.
        kwargs: as BaselineHF's.

    Raises:
        UserError: also where no prompt is given.
    """

    def __init__(
        self,
        pretrained: str | PreTrainedModel | None = None,
        *,
        prompt: str | None = None,
        **kwargs: Any,
    ) -> None:
        if prompt is None:
            raise UserError(
                "mcd-hf needs prompt=: the folder of a soft prompt, or one of "
                f"{', '.join(SAFETY_PROMPTS)}."
            )
        super().__init__(pretrained=pretrained, prompt=prompt, **kwargs)
        self.place_prompt()


def read_prompt(given: str) -> GivenPrompt:
    """A safety prompt's name, an artifact's folder, or a PEFT prompt-tuning checkpoint's.

    Raises:
        BadPrompt: it is none of these.
    """
    if given in SAFETY_PROMPTS:
        return GivenPrompt(given, "text", SAFETY_PROMPTS[given])
    folder = Path(str(given))
    if not folder.is_dir():
        raise BadPrompt(
            f"prompt={given} is no folder; give a soft prompt's, a PEFT prompt-tuning "
            f"checkpoint's, or one of {', '.join(SAFETY_PROMPTS)}."
        )
    name = str(folder.resolve())
    if (folder / "adapter_config.json").is_file():
        return GivenPrompt(name, "peft", _read_checkpoint(folder))
    return GivenPrompt(name, "soft", artifact.load(folder))


def _read_checkpoint(folder: Path) -> Prompt:
    """The vectors of a PEFT prompt-tuning checkpoint, and the model that they were trained for.

    Raises:
        BadPrompt: another kind of adapter, or one that cannot be read.
    """
    from peft.utils import load_peft_weights

    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        kind = config.get("peft_type")
        vectors = load_peft_weights(str(folder), device="cpu").get("prompt_embeddings")
    except Exception as error:
        # peft, safetensors and torch's unpickler each raise their own.
        raise BadPrompt(
            f"prompt={folder} is no PEFT checkpoint that can be read: {error}."
        ) from None
    if kind != "PROMPT_TUNING" or vectors is None:
        raise BadPrompt(
            f"prompt={folder} is a PEFT checkpoint of kind {kind}; give one of PROMPT_TUNING, "
            "or give this one as peft=."
        )
    told = {"model": config.get("base_model_name_or_path"), "revision": config.get("revision")}
    return Prompt(vectors, {key: value for key, value in told.items() if value})
