"""The arguments of lm-eval's models: which files they name, and how lm_eval is told them."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from polyrefuse_studies.files import Files
from polyrefuse_studies.jobs import FOLDER
from polyrefuse_studies.schema import Condition, Model

ADAPTERS = {"peft": "adapter_config.json", "lora_local_path": "adapter_config.json"}
"""Those that name an adapter, and the file that every such folder or repository has."""

BESIDE = ADAPTERS | {"delta": "config.json"}
"""Those that name weights beside the model's, and likewise."""

NAMES = ("pretrained", "tokenizer", *BESIDE)
"""Those that name a folder, or a repository of the hub."""

ARTIFACTS = {"direction": "file or folder", "prompt": "folder", "system_file": "file"}
"""Those that name a file or a folder, but for the words that they take, and which."""

WORDS = (("direction", "source"), ("direction", "auto"), ("prompt", "trained"))
"""The words that ask for what a job makes, or the model by itself."""


def arguments_of(model: Model, condition: Condition | None = None) -> dict[str, Any]:
    """Arguments of lm-eval's model as the file has them, those of a condition last."""
    of_condition = {} if condition is None else condition.settings
    return {"pretrained": model.pretrained} | model.arguments | of_condition


def resolve(
    arguments: Mapping[str, Any], files: Files, where: str, words: Mapping[tuple[str, str], str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Arguments with whole paths.

    Args:
        arguments: as the file has them.
        files: that the study names.
        where: key in the file, for messages.
        words: what stands in the place of a value that is no path, by argument and value.

    Returns:
        the arguments, and checksums of the files and folders that they name, but for `NAMES`.

    Raises:
        MissingFile: one is not there.
    """
    from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS

    said, sums = dict(arguments), {}
    for name, value in arguments.items():
        if not isinstance(value, str):
            continue
        path = None
        if (name, value) in words:
            said[name] = words[name, value]
        elif name in NAMES:
            said[name] = str(files.find(value) or value)
        elif name in ARTIFACTS and not (name == "prompt" and value in SAFETY_PROMPTS):
            others = [word for argument, word in WORDS if argument == name]
            others += SAFETY_PROMPTS if name == "prompt" else []
            also = f", and it is none of {', '.join(others)}" if others else ""
            path = files.require(value, f"{where}.{name}", ARTIFACTS[name], also)
        elif name != "gguf_file" and "/" in value:
            path = files.find(value)
        if path is not None:
            said[name], sums[name] = str(path), files.contents(path)
    return said, sums


def as_arguments(arguments: Mapping[str, Any]) -> str:
    """Arguments as lm_eval's --model_args and --gen_kwargs take them.

    `name=value` with commas between where lm_eval reads each value from that as it was, else JSON;
    in one order, whatever the file's: `pretrained`, then by name.
    """
    order = sorted(arguments, key=lambda name: (name != "pretrained", name))
    arguments = {name: arguments[name] for name in order}
    if all(_reads_as_itself(value) for value in arguments.values()):
        return ",".join(f"{name}={value}" for name, value in arguments.items())
    return json.dumps(arguments, ensure_ascii=False)


def _reads_as_itself(value: Any) -> bool:
    """Whether lm_eval makes of a value's text the value again."""
    if not isinstance(value, str):
        return isinstance(value, bool | float) or (isinstance(value, int) and value >= 0)
    if FOLDER.match(value):
        return True
    if value != value.strip() or set(value) & set(",=\"'[](){}\\\n") or not value:
        return False
    if value.lower() in ("true", "false") or value.isnumeric():
        return False
    for reads in (float, ast.literal_eval):
        try:
            reads(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        return False
    return True
