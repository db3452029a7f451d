"""The models of a study: whether each can be loaded, and what identifies its weights.

Only configurations and tokenizers are loaded. A misspelt name, a gated model and a missing file are
therefore reported for all models before hours of work on the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from polyrefuse_studies.arguments import BESIDE
from polyrefuse_studies.files import Files, looks_like_a_path
from polyrefuse_studies.folder import read

from polyrefuse_models import bundled
from polyrefuse_models.gguf_checkpoint import check_gguf
from polyrefuse_shared.errors import UserError, first_line

WEIGHTS = (".safetensors", ".bin", ".gguf")

SINGLE = "model.safetensors"
"""The weight file of a model without an index."""

INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")

LOADED = (
    *("pretrained", "revision", "subfolder", "gguf_file", "trust_remote_code"),
    *("tokenizer", "tokenizer_revision", *BESIDE),
)
"""The arguments of a model that choose its weights and its tokenizer."""


class CannotLoad(UserError):
    """One or more models of a study cannot be loaded."""


class Identities:
    """Identities of weights: the commit on the hub, or a checksum of files.

    Args:
        files: the files that the study names.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._found: dict[str, dict[str, str]] = {}

    def require(self, models: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Check that all models of a study can be loaded.

        Args:
            models: for each, a name for messages, and the arguments of lm-eval's model as the file
                has them.

        Raises:
            CannotLoad: some cannot be loaded; the message names all of them, with the reasons.
        """
        wrong: dict[str, str] = {}
        for name, arguments in models:
            try:
                self.of_model(arguments)
            except UserError as error:
                wrong.setdefault(str(error), f"{name} ({_cut(str(arguments['pretrained']))})")
        if wrong:
            reasons = "; ".join(f"{name}: {said.rstrip('.')}" for said, name in wrong.items())
            raise CannotLoad(
                f"{'A model' if len(wrong) == 1 else f'{len(wrong)} models'} of the study cannot "
                f"be loaded, and nothing was run: {reasons}."
            )

    def of_model(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """Return the identities of the weights, tokenizer and adapter that arguments name.

        Raises:
            UserError: one of them does not exist, or cannot be read.
        """
        loaded = {name: arguments[name] for name in LOADED if arguments.get(name) is not None}
        key = json.dumps(loaded, sort_keys=True)
        if key not in self._found:
            self._found[key] = self._look(loaded)
        return self._found[key]

    def of_judge(self, named: str, revision: str | None) -> dict[str, str]:
        """Return the identity of a judge's weights; empty if the hub names no commit now.

        Raises:
            CannotLoad: the name is the path of a folder that does not exist.
        """
        folder = self._folder(named)
        if folder is not None:
            return {"judge": f"contents:{self._files.contents(folder)}"}
        try:
            return {"judge": _commit(named, "config.json", revision)}
        except CannotLoad:
            return {}

    def _look(self, loaded: dict[str, Any]) -> dict[str, str]:
        folder = self._folder(loaded["pretrained"])
        pretrained = loaded["pretrained"] if folder is None else str(folder)
        check_gguf(pretrained, loaded.get("gguf_file"))
        inside = None if folder is None else folder / str(loaded.get("subfolder", ""))
        if inside is not None:
            _require_files(inside)
        config = self._require_loadable(pretrained, loaded)
        found = {}
        if folder is None or inside is None:
            commit = getattr(config, "_commit_hash", None)
            if not commit:
                raise CannotLoad("there is no such folder, and the hub names no commit of it")
            found["model"] = f"commit:{commit}"
        else:
            sums = {self._files.contents(one, below=False): None for one in (folder, inside)}
            if "/" in str(loaded.get("gguf_file", "")):
                sums[self._files.contents(folder / loaded["gguf_file"])] = None
            found["model"] = f"contents:{'+'.join(sums)}"
        if "tokenizer" in loaded:
            revision = loaded.get("tokenizer_revision") or loaded.get("revision")
            found["tokenizer"] = self._beside(
                loaded["tokenizer"], "tokenizer_config.json", revision
            )
        for name, file in BESIDE.items():
            if name in loaded:
                found[name] = self._beside(loaded[name], file, loaded.get("revision"))
        return found

    def _beside(self, named: str, file: str, revision: str | None) -> str:
        folder = self._folder(named)
        if folder is None:
            return _commit(named, file, revision)
        if not (folder / file).is_file():
            raise CannotLoad(f"{folder} has no {file}")
        return f"contents:{self._files.contents(folder)}"

    def _folder(self, named: Any) -> Path | None:
        """Return the folder that a name means, or None for a name on the hub.

        Raises:
            CannotLoad: it is neither.
        """
        if bundled.is_shipped(named):
            return bundled.path(bundled.name_of(named))
        if not isinstance(named, str):
            raise CannotLoad(f"{named!r} is not a name; put it in quotes")
        found = self._files.find(named)
        if found is not None and not found.is_dir():
            raise CannotLoad(f"{found} is not a folder")
        if found is None and looks_like_a_path(named):
            raise CannotLoad(f"there is no folder {_cut(named)}")
        return found

    def _require_loadable(self, pretrained: str, loaded: Mapping[str, Any]) -> Any:
        """Load the configuration and the tokenizer, and return the configuration.

        Raises:
            CannotLoad: one of them cannot be loaded.
        """
        from transformers import AutoConfig, AutoTokenizer

        trusted = {"trust_remote_code": bool(loaded.get("trust_remote_code"))}
        how = trusted | {
            name: loaded[name] for name in ("revision", "subfolder", "gguf_file") if name in loaded
        }
        if "revision" in how:
            how["revision"] = str(how["revision"])
        tokenizer = loaded.get("tokenizer")
        folder = None if tokenizer is None else self._folder(tokenizer)
        try:
            config = AutoConfig.from_pretrained(pretrained, **how)
            if tokenizer is None:
                AutoTokenizer.from_pretrained(pretrained, **how)
            else:
                revision = loaded.get("tokenizer_revision") or loaded.get("revision")
                named = {} if revision is None else {"revision": str(revision)}
                AutoTokenizer.from_pretrained(str(folder or tokenizer), **trusted, **named)
        except Exception as error:  # transformers and the hub raise many kinds
            raise CannotLoad(_cut(first_line(error))) from None
        return config


def _commit(named: str, file: str, revision: str | None) -> str:
    """Return the commit of a repository of the hub, found by one of its files.

    Raises:
        CannotLoad: the hub does not give the file.
    """
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        path = cached_file(named, file, revision=None if revision is None else str(revision))
        commit = extract_commit_hash(path, None)
    except Exception as error:
        raise CannotLoad(f"{_cut(named)}: {_cut(first_line(error))}") from None
    if not commit:
        raise CannotLoad(f"the hub names no commit of {named}")
    return f"commit:{commit}"


def _cut(said: str) -> str:
    return said.rstrip(".") if len(said) <= 300 else f"{said[:300]}..."


def _require_files(folder: Path) -> None:
    """Check that a folder has all of its weight files.

    Raises:
        CannotLoad: the folder has no weights, lacks files that its index names, or has a weight
            file that is truncated or is something else.
    """
    whole = {SINGLE}
    for name in INDEXES:
        named = _files_of(folder / name)
        missing = sorted(file for file in named if not (folder / file).is_file())
        if missing:
            raise CannotLoad(f"{missing[0]}, which {name} names, is missing")
        whole |= named
    files = folder.iterdir() if folder.is_dir() else ()
    if not any(path.suffix in WEIGHTS and path.is_file() for path in files):
        raise CannotLoad("the folder has no weights (*.safetensors, *.bin or *.gguf)")
    for file in sorted(whole):
        if file.endswith(".safetensors") and (folder / file).is_file():
            _require_whole(folder / file)


def _files_of(index: Path) -> set[str]:
    """Return the names of the files in an index of weights, or none without an index.

    Raises:
        CannotLoad: the index names no files.
    """
    if not index.exists():
        return set()
    named = read(index).get("weight_map")
    files = set(map(str, named.values())) if isinstance(named, dict) else set()
    if not files:
        raise CannotLoad(f"{index.name} names no weight files")
    return files


def _require_whole(file: Path) -> None:
    """Check the length of a safetensors file against its header.

    Raises:
        CannotLoad: there is no header, or the file is shorter.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise CannotLoad(
            f"{file.name} holds no weights, or not all of them ({_cut(first_line(error))}); "
            "download it again"
        ) from None
