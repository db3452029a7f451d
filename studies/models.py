"""The models of a study: whether each can be loaded, and what tells its weights from others.

Nothing is loaded but configurations and tokenizers, so that a name that is misspelt, a model that
is gated and a file that is missing are told for all models before hours of work on the first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polyrefuse_studies.folder import read
from polyrefuse_studies.schema import Model

from polyrefuse_models import bundled
from polyrefuse_shared.errors import UserError, first_line

WEIGHTS = (".safetensors", ".bin", ".gguf")

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


class CannotLoad(UserError):
    """Models of a study that cannot be loaded."""


def identities(
    models: Mapping[str, Model], beside: Path, known: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """What tells each model's weights from others: the commit of the hub, or a checksum of files.

    Args:
        models: by the study's name.
        beside: where relative paths begin.
        known: checksums of files by what `_stamp` makes of them, to which new ones are added.

    Raises:
        CannotLoad: naming all that cannot be loaded, and why.
    """
    found, wrong = {}, []
    for name, model in models.items():
        try:
            found[name] = {"model": _identity(model, beside, known if known is not None else {})}
        except CannotLoad as error:
            wrong.append(f"{name} ({model.pretrained}): {error}")
    if wrong:
        raise CannotLoad(
            f"{'A model' if len(wrong) == 1 else f'{len(wrong)} models'} of the study cannot be "
            f"loaded, and nothing was run: {'; '.join(wrong)}."
        )
    return found


def _identity(model: Model, beside: Path, known: Any) -> str:
    folder = beside / Path(model.pretrained).expanduser()
    if bundled.is_shipped(model.pretrained):
        folder = bundled.path(bundled.name_of(model.pretrained))
    if folder.is_dir():
        _require_files(folder)
        _require_loadable(str(folder), model)
        return f"contents:{_checksum(folder, known)}"
    config = _require_loadable(model.pretrained, model)
    commit = getattr(config, "_commit_hash", None)
    if not commit:
        raise CannotLoad("there is no such folder, and the hub names no commit of it")
    return f"commit:{commit}"


def _require_loadable(pretrained: str, model: Model) -> Any:
    """The configuration, after the tokenizer was read too.

    Raises:
        CannotLoad: either cannot be.
    """
    from transformers import AutoConfig, AutoTokenizer

    arguments = model.arguments
    how: dict[str, Any] = {"trust_remote_code": bool(arguments.get("trust_remote_code"))}
    if "revision" in arguments:
        how["revision"] = arguments["revision"]
    try:
        config = AutoConfig.from_pretrained(pretrained, **how)
        tokenizer = arguments.get("tokenizer") or pretrained
        AutoTokenizer.from_pretrained(tokenizer, **how)
    except Exception as error:  # transformers and the hub raise many kinds
        raise CannotLoad(first_line(error).rstrip(".")) from None
    return config


def _require_files(folder: Path) -> None:
    """
    Raises:
        CannotLoad: a folder has no weights, or lacks some that its index names.
    """
    for name in INDEXES:
        named = set(read(folder / name).get("weight_map", {}).values())
        missing = sorted(file for file in named if not (folder / file).is_file())
        if missing:
            raise CannotLoad(f"{missing[0]} is missing, which {name} names")
    if not any(path.suffix in WEIGHTS for path in folder.iterdir()):
        raise CannotLoad("the folder has no weights (*.safetensors, *.bin or *.gguf)")


def _checksum(folder: Path, known: Any) -> str:
    """Of the names and contents of a folder's files, each read once as long as it is untouched."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        stamp = _stamp(path)
        if stamp not in known:
            of_file = hashlib.sha256()
            with path.open("rb") as file:
                while part := file.read(2**24):
                    of_file.update(part)
            known[stamp] = of_file.hexdigest()
        digest.update(json.dumps([path.name, known[stamp]]).encode())
    return digest.hexdigest()


def _stamp(path: Path) -> str:
    """A file's place, size and time."""
    state = path.stat()
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
