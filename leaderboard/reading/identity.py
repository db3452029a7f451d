"""Identify the model of a results file, its condition, and how its answers were generated."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Mapping
from sys import intern
from typing import Any

from polyrefuse_tasks.saved_results.documents import (
    AGAIN,
    BadResults,
    part,
    printable,
    sentences,
    text,
)

INTERVENTION = (
    "direction_sha256",
    "control",
    "control_seed",
    "source_lang",
    "position",
    "layer",
    "layers",
    "coefficient",
    "method",
    "rank",
    "subspace_of",
    "subspace_langs",
    "subspace_sha256",
    "prompt_source",
    "prompt_sha256",
    "system_sha256",
)
"""The entries in the config of our models that identify an intervention. The paths of its files,
and how they were made, do not identify it."""

WEIGHTS = (
    "peft",
    "delta",
    "lora_local_path",
    "steer_path",
    "subfolder",
    "gguf_file",
    "dtype",
    "quantization",
    "quantization_config",
    "load_in_8bit",
    "load_in_4bit",
    "autogptq",
    "gptqmodel",
)
"""The arguments of models that change the weights of a revision."""

NOISE = ("model_args", "batch_size", "batch_sizes", "device", "use_cache", "bootstrap_iters")
"""The entries of a results file's config that no answer depends on, and `model_args`, which may
hold keys."""

_SECRET = re.compile(r"(?i)auth|secret|password|header|key|url|(^|_)token$")


def arguments_of(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the value of --model_args.

    It is an object in the file, or a text if an older version or a call from Python wrote it.

    Raises:
        BadResults: it is neither.
    """
    given = config.get("model_args") or {}
    if isinstance(given, str):
        pairs = (pair.partition("=") for pair in given.split(","))
        return {name.strip(): value for name, _, value in pairs}
    if not isinstance(given, dict):
        raise BadResults(f"{where}: model_args is {reprlib.repr(given)}, not an object; {AGAIN}")
    return given


def model(document: Mapping[str, Any], arguments: Mapping[str, Any], where: str) -> str:
    """Return the model's name on the hub, the path of its folder, or the name that an API gives it.

    Args:
        document: the contents of the results file.
        arguments: its `arguments_of`.
        where: the name of the file in messages.

    Raises:
        BadResults: the file has no name of the model.
    """
    config = document["config"]
    if "condition" in config:
        return text(config.get("model_name"), "model_name", where)
    # lm-eval names the folder by the same rule, except for adapters, which belong to the revision
    # here.
    for name in ("pretrained", "model", "path", "engine"):
        if name in arguments:
            return text(arguments[name], f"{name} in model_args", where)
    # lm-eval gives the results of a model object from Python a random name.
    made_up = document.get("model_source") in (None, "CUSTOM")
    named = config.get("model") if made_up else document.get("model_name")
    return text(named, "the model's name", where)


def revision(document: Mapping[str, Any], arguments: Mapping[str, Any], where: str) -> str:
    """Return the revision of the weights with the arguments that change them; "" for none.

    Raises:
        BadResults: the revision is not a printable name.
    """
    config = document["config"]
    named = config.get("revision") or config.get("model_revision") or arguments.get("revision")
    # A model object from Python has no arguments, and the config of our models names the adapter.
    given = {"peft": config.get("peft")} | dict(arguments)
    changes = (
        f"{name}={given[name]}"
        for name in WEIGHTS
        if given.get(name) not in (None, False, "", "auto", "False", "false")
    )
    whole = " ".join((str(named or ""), *changes)).strip()
    return text(whole, "the model's revision", where) if whole else ""


def intervention(document: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return the condition and the checksum of the intervention; "" if there is none.

    A system instruction of lm-eval is a condition too, whatever the model.

    Raises:
        BadResults: the condition is not a printable name.
    """
    config = document["config"]
    condition = text(config.get("condition", "baseline"), "condition", where)
    parts = {name: config[name] for name in INTERVENTION if config.get(name) is not None}
    if config.get("direction_recipe_sha256") is not None:
        # The direction's own numbers differ in their last digits between batch sizes and devices.
        parts["direction_sha256"] = config["direction_recipe_sha256"]
        parts.pop("subspace_sha256", None)  # its last digits differ too; the recipe identifies it
    system = document.get("system_instruction_sha") or document.get("system_instruction")
    if system:
        parts["system_instruction"] = system
        conditions = [one for one in condition.split("+") if one != "baseline"]
        if "system-prompt" not in conditions:
            conditions.append("system-prompt")
        condition = intern("+".join(conditions))
    return condition, checksum(parts) if parts else ""


def generation(
    document: Mapping[str, Any], task: Mapping[str, Any], arguments: Mapping[str, Any], where: str
) -> str:
    """Return the checksum of the settings that a task's answers were generated with.

    It does not depend on the model, the seed or the text of the chat template.

    Args:
        document: the contents of the results file.
        task: the task's entry in its `configs`, which already contains --gen_kwargs.
        arguments: the file's `arguments_of`.
        where: the names of the file and the task in messages.

    Raises:
        BadResults: the task has no generation settings.
    """
    config = document["config"]
    kwargs = part(task, "generation_kwargs", where)
    template = config.get("chat_template_args") or arguments.get("chat_template_args") or {}
    if isinstance(template, dict) and arguments.get("enable_thinking") is not None:
        template = template | {"enable_thinking": arguments["enable_thinking"]}
    return checksum(
        {
            "generation_kwargs": {name: kwargs[name] for name in kwargs if name != "seed"},
            "repeats": task.get("repeats") or 1,
            "num_fewshot": task.get("num_fewshot") or 0,
            # For an API the template is an empty text here, and null if there is none.
            "chat": config.get("chat") == "on" or document.get("chat_template") is not None,
            "chat_template_args": template,
            "think_end_token": config.get("think_end_token") or arguments.get("think_end_token"),
            # The default is left out, so that older results, which lack it, keep their checksum.
            **({"system": "none"} if config.get("system") == "none" else {}),
        }
    )


def settings(document: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a results file says about its model, versions and seeds.

    Keys and addresses are left out.
    """
    kept = {name: value for name, value in document["config"].items() if name not in NOISE}
    kept["model_args"] = {
        name: value for name, value in arguments.items() if not _SECRET.search(name)
    }
    names = ("lm_eval_version", "transformers_version", "system_instruction")
    return kept | {name: document[name] for name in names if document.get(name) is not None}


def anchors_overlap(config: Mapping[str, Any]) -> dict[str, list[str] | None]:
    """Return test set -> the ids of its rows that the safety prompt was trained on.

    The ids are None if they are not known.
    """
    overlap = config.get("prompt_overlap")
    return {
        printable(name): ids
        for name, ids in (overlap.items() if isinstance(overlap, dict) else ())
        if ids is None or isinstance(ids, list)
    }


def warnings(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the warnings that a model and its direction recorded."""
    return (
        *sentences(config.get("warnings")),
        *sentences(config.get("direction_warnings"), "The direction: "),
    )


def checksum(parts: Any) -> str:
    """Return a short checksum of settings that came from JSON, the same for any order of keys."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    # JSON can hold surrogates and UTF-8 cannot, so their escapes are hashed.
    return intern(hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16])
