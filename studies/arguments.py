"""The arguments of lm-eval's models: the files that they name, and their text for `lm_eval`."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

from polyrefuse_studies.files import Files
from polyrefuse_studies.jobs import FOLDER
from polyrefuse_studies.schema import Condition, Model

ADAPTERS = {"peft": "adapter_config.json", "lora_local_path": "adapter_config.json"}
"""Argument that names an adapter -> the file that every such folder or repository has."""

BESIDE = ADAPTERS | {"delta": "config.json"}
"""Argument that names further weights -> the file that every such folder or repository has."""

NAMES = ("pretrained", "tokenizer", *BESIDE)
"""Arguments that name a folder or a repository of the hub."""

ARTIFACTS = {"direction": "file or folder", "prompt": "folder", "system_file": "file"}
"""Argument whose value may be the path of a file or a folder -> which of the two."""

WORDS = (("direction", "source"), ("direction", "auto"), ("prompt", "trained"))
"""Argument and reserved word, which stands for what a job makes or for the model's own choice."""


def arguments_of(model: Model, condition: Condition | None = None) -> dict[str, Any]:
    """Return the arguments of lm-eval's model as the file has them, the condition's last."""
    of_condition = {} if condition is None else condition.settings
    return {"pretrained": model.pretrained} | model.arguments | of_condition


def resolve(
    arguments: Mapping[str, Any], files: Files, where: str, words: Mapping[tuple[str, str], str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return arguments with absolute paths.

    Args:
        arguments: the arguments as the file has them.
        files: the files that the study names.
        where: the key in the file, for messages.
        words: replacements of values that are not paths, by argument and value.

    Returns:
        The arguments, and checksums of the files and folders that they name, except for `NAMES`.

    Raises:
        MissingFile: a file or folder does not exist.
    """
    from polyrefuse_models.mcd.safety_prompts import SAFETY_PROMPTS

    resolved, sums = dict(arguments), {}
    for name, value in arguments.items():
        if not isinstance(value, str):
            continue
        path = None
        if (name, value) in words:
            resolved[name] = words[name, value]
        elif name in NAMES:
            resolved[name] = str(files.find(value) or value)
        elif name in ARTIFACTS and not (name == "prompt" and value in SAFETY_PROMPTS):
            others = [word for argument, word in WORDS if argument == name]
            others += SAFETY_PROMPTS if name == "prompt" else []
            also = f", and it is none of {', '.join(others)}" if others else ""
            path = files.require(value, f"{where}.{name}", ARTIFACTS[name], also)
        elif name != "gguf_file" and "/" in value:
            path = files.find(value)
        if path is not None:
            resolved[name], sums[name] = str(path), files.contents(path)
    return resolved, sums


def as_arguments(arguments: Mapping[str, Any]) -> str:
    """Return arguments in the form that lm_eval's --model_args and --gen_kwargs take.

    The form is `name=value` with commas between, if lm_eval reads each value back unchanged, and
    JSON otherwise. `pretrained` comes first and the others follow by name, whatever the order in
    the file.
    """
    order = sorted(arguments, key=lambda name: (name != "pretrained", name))
    arguments = {name: arguments[name] for name in order}
    if all(_reads_as_itself(value) for value in arguments.values()):
        return ",".join(f"{name}={value}" for name, value in arguments.items())
    return json.dumps(arguments, ensure_ascii=False)


def _reads_as_itself(value: Any) -> bool:
    """Return whether lm_eval reads a value back unchanged from its text."""
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
