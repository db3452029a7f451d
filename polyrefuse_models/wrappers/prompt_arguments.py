"""Read the argument `prompt=`, and make the intervention that it asks for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polyrefuse_models import artifact_folder
from polyrefuse_models.anatomy import input_device, width
from polyrefuse_models.interventions import SoftPrompt, SystemText, ablate, ablate_span
from polyrefuse_models.mcd import artifact
from polyrefuse_models.mcd.artifact import BadPrompt, Prompt
from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS
from polyrefuse_models.system import checksum
from polyrefuse_models.wrappers.prompting import refuse_truncation
from polyrefuse_shared.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class AskedPrompt:
    """The safety prompt that `prompt=` names.

    Attributes:
        name: the name as given, or the absolute path of a folder.
        source: "text" for words, "soft" for a soft prompt's artifact, "peft" for a PEFT checkpoint.
        content: the words, or the vectors.
    """

    name: str
    source: Literal["text", "soft", "peft"]
    content: str | Prompt

    def check_beside(self, arguments: Mapping[str, Any]) -> None:
        """Check that the prompt can be combined with a model's other arguments.

        Raises:
            UserError: the prompt cannot be combined with an argument.
        """
        refuse_truncation(arguments, "prompt=")
        if self.source == "text" and arguments.get("system_file"):
            raise UserError(
                f"prompt={self.name} is a system text in words, and so is "
                f"system_file={arguments['system_file']}; give only one of them."
            )

    def check(self, model: PreTrainedModel) -> None:
        """Refuse vectors that do not fit a model, and warn if they were trained for another one.

        Raises:
            BadPrompt: the vectors do not fit.
        """
        if isinstance(self.content, Prompt):
            self.content.check(width(model), f"prompt={self.name}")
            self.content.warn_of_another_model(model.config)

    def fit(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        without: Float[Tensor, "*rank d"] | None = None,
    ) -> SoftPrompt | SystemText:
        """Make the intervention for a model.

        Args:
            model: the model that reads the vectors.
            tokenizer: the model's tokenizer, which gets the soft prompt's tokens.
            without: a direction of any length, or several orthogonal ones, to remove from the
                vectors. Edited weights keep the embedding from writing along it, but they do not
                change the vectors.
        """
        name = f"prompt={self.name}"
        if isinstance(self.content, str):
            return SystemText(name, self.content, self.identity())
        vectors = self.content.vectors
        if without is not None:
            wide = without.cpu().double()
            unit = wide / wide.norm(dim=-1, keepdim=True)
            vectors = (ablate if unit.dim() == 1 else ablate_span)(vectors, unit)
        return SoftPrompt(
            tokenizer,
            vectors.to(input_device(model)),
            name=name,
            foremost=self.source == "peft",
            provenance=self.identity(),
        )

    def identity(self) -> dict[str, Any]:
        """Return what results record about the prompt."""
        if isinstance(self.content, Prompt):
            metadata, sha256 = self.content.metadata, self.content.sha256
        else:
            metadata, sha256 = {}, checksum(self.content)
        return {
            "prompt": self.name,
            "prompt_source": self.source,
            "prompt_sha256": sha256,
            "prompt_dataset": metadata.get("dataset"),
            "prompt_langs": metadata.get("languages"),
            "prompt_settings": metadata.get("settings"),
            "prompt_overlap": metadata.get("anchors", {}).get("overlap"),
        }


def read_prompt(given: str) -> AskedPrompt:
    """Read the name of a safety prompt, or the folder of an artifact or a PEFT checkpoint.

    Raises:
        BadPrompt: the argument is none of these.
    """
    if isinstance(given, str) and given in SAFETY_PROMPTS:
        return AskedPrompt(given, "text", SAFETY_PROMPTS[given])
    folder = Path(str(given))
    if not os.path.isdir(folder):
        raise BadPrompt(
            f"prompt={given} is not a folder; give the folder of a soft prompt or of a PEFT "
            f"prompt-tuning checkpoint, or one of {', '.join(SAFETY_PROMPTS)}."
        )
    name = str(folder.resolve())
    if os.path.isfile(folder / "adapter_config.json"):
        return AskedPrompt(name, "peft", _read_checkpoint(folder))
    return AskedPrompt(name, "soft", artifact.load(folder))


def _read_checkpoint(folder: Path) -> Prompt:
    """Read the vectors of a PEFT prompt-tuning checkpoint, and the model that they are for.

    Raises:
        BadPrompt: the checkpoint is another kind of adapter, or cannot be read.
    """
    weights = folder / "adapter_model.safetensors"
    if not os.path.exists(weights):
        raise BadPrompt(
            f"prompt={folder} has no {weights.name}, and other formats are not read, because a "
            "pickle can run code; save the adapter with safetensors."
        )
    with artifact_folder.damage_as(
        BadPrompt, folder, kind="PEFT checkpoint", remedy="save it again"
    ):
        config = artifact_folder.read_document(folder / "adapter_config.json")
        kind = config["peft_type"]
        vectors = artifact_folder.read_tensors(weights).get("prompt_embeddings")
    if kind != "PROMPT_TUNING" or vectors is None:
        raise BadPrompt(
            f"prompt={folder} is a PEFT checkpoint of kind {kind}; give a checkpoint of kind "
            "PROMPT_TUNING, or give this one as peft=."
        )
    metadata = {
        "model": config.get("base_model_name_or_path"),
        "revision": config.get("revision"),
    }
    return Prompt(vectors, {key: value for key, value in metadata.items() if value})
