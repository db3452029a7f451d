"""A model that an engine other than transformers runs, as far as it is known without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from polyrefuse_models import bundled
from polyrefuse_models.chat_model import ChatModel
from polyrefuse_models.stand_in import stand_in
from polyrefuse_models.weights import contents_identity
from polyrefuse_models.wrappers import identity
from polyrefuse_models.wrappers.ranks import ALONE
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from polyrefuse_models.interventions import Intervention
    from polyrefuse_models.wrappers.prompting import Prompting


class KnownModel:
    """A model that an engine other than transformers runs.

    Interventions are fitted to it (as to an `asked.Engine`), and results identify the model by it
    (as an `identity.Loaded`).

    Args:
        pretrained: the model's name on the hub, or a folder.
        arguments: the arguments of lm-eval's VLLM.
        warn: a function that records a warning in the results.
        whole_model: a context manager for which transformers loads the model, for extraction.

    Attributes:
        model: a stand-in (`stand_in.stand_in`).
        tokenizer: the model's tokenizer.
        prompting: how prompts reach the model. The engine sets it.
        max_length: the largest number of tokens of a prompt and its answer together. The engine
            sets it once it has started.
        prompt_ids: the engine's `measured.Measured.prompt_ids`, set at the same time.
    """

    own_model = True
    ranks = ALONE  # The engine's own processes share one wrapper.
    delta: str | None = None
    truncation = False
    prompting: Prompting
    max_length: int
    prompt_ids: Callable[[str], list[int]]

    def __init__(
        self,
        pretrained: str,
        arguments: Mapping[str, Any],
        *,
        warn: Callable[[str], None],
        whole_model: Callable[[], AbstractContextManager[ChatModel]],
    ) -> None:
        self.pretrained = pretrained
        self.warn = warn
        self.whole_model = whole_model
        self.revision = arguments.get("revision") or "main"
        self.peft = arguments.get("lora_local_path")
        if self.peft and not Path(self.peft).is_dir():
            raise UserError(
                f"lora_local_path={self.peft} is not a folder; give the folder of a PEFT adapter."
            )
        self.model_arguments = identity.model_arguments(arguments)
        self.chat_template_args = dict(arguments.get("chat_template_args") or {})
        if (thinks := arguments.get("enable_thinking")) is not None:
            self.chat_template_args["enable_thinking"] = thinks
        self._trusted = bool(arguments.get("trust_remote_code"))
        self.tokenizer = self._load_tokenizer(arguments)
        self.model = self._load_model(arguments.get("quantization"))

    def _load_tokenizer(self, arguments: Mapping[str, Any]) -> PreTrainedTokenizerBase:
        from lm_eval.models.utils import configure_pad_token

        bos = arguments.get("add_bos_token")
        # vLLM's tokenizers cache the vocabulary, and would miss the tokens that a soft prompt adds.
        tokenizer = AutoTokenizer.from_pretrained(
            arguments.get("tokenizer") or self.pretrained,
            revision=arguments.get("tokenizer_revision") or self.revision,
            trust_remote_code=self._trusted,
            **({} if bos is None else {"add_bos_token": bos}),
        )
        return configure_pad_token(tokenizer, model_config=self._config)

    @cached_property
    def _config(self) -> Any:
        return AutoConfig.from_pretrained(
            self.pretrained, revision=self.revision, trust_remote_code=self._trusted
        )

    def _load_model(self, quantization: str | None) -> PreTrainedModel:
        """Make the stand-in, with the attributes that tell `obstacle` not to edit weights."""
        model: Any = stand_in(self._config, trust_remote_code=self._trusted)
        if quantization or getattr(self._config, "quantization_config", None):
            model.quantization_method = quantization or "of the checkpoint"
        if self.peft:
            model.peft_config = {"vLLM": self.peft}
        with suppress(OSError):  # If there is no such file, the configuration has special tokens.
            model.generation_config = GenerationConfig.from_pretrained(
                self.pretrained, revision=self.revision
            )
        return model

    @property
    def model_name(self) -> str:
        """The model's name in results."""
        return bundled.name_of(self.pretrained)

    @property
    def chat_model(self) -> ChatModel:
        """The stand-in, and how prompts reach the model."""
        return self.prompting.chat_model(self.model, self._encode, batch_size=1)

    def _encode(
        self, texts: list[str]
    ) -> tuple[Int[Tensor, "batch token"], Int[Tensor, "batch token"]]:
        raise NotImplementedError("a stand-in cannot read prompts")

    @cached_property
    def weights(self) -> str:
        """The identity of the weights that the engine loads."""
        commit = getattr(self._config, "_commit_hash", None)
        loaded = f"commit:{commit}" if commit else contents_identity(Path(self.pretrained))
        return f"{loaded}+{contents_identity(Path(self.peft))}" if self.peft else loaded

    def identity(
        self,
        interventions: Sequence[Intervention],
        reasoning_end: str | int | None,
        dtype: torch.dtype,
    ) -> dict[str, Any]:
        """Return `identity.identity` of the engine's model.

        Args:
            interventions: all interventions on the model.
            reasoning_end: the token that ends reasoning; None if there is none.
            dtype: the number type in which the engine computes. The stand-in has another.
        """
        return identity.identity(self, self.prompting, interventions, reasoning_end) | {
            "engine": "vllm",
            "dtype": str(dtype).removeprefix("torch."),
            "attn_implementation": None,
        }
