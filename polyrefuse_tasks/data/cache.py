"""Find a published file: in the mirror, then in the user's cache, then by a download.

Every file is compared with its sha256 before it is used, wherever it was found. A download goes to
a draft in the cache, is hashed there, and only then gets its name. An interrupted or wrong download
leaves no file, the next download removes whatever a killed one left, and two downloads at the same
time do no harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from polyrefuse_shared.writing import CannotWrite, whole_file
from polyrefuse_tasks.data.errors import MissingData, WrongHash
from polyrefuse_tasks.data.registry import File

Download = Callable[[str, str, object], object]
"""A downloader as pooch defines it: called with (url, path of a draft, None)."""

TRUE = frozenset({"1", "ON", "YES", "TRUE"})
"""Values that switch an environment variable on, as huggingface_hub reads HF_HUB_OFFLINE."""


def mirror() -> Path | None:
    """Return the folder that `POLYREFUSE_DATA_DIR` names, or None if it is not set.

    Raises:
        MissingData: it names something that is not a folder.
    """
    named = os.environ.get("POLYREFUSE_DATA_DIR")
    if not named:
        return None
    if not Path(named).is_dir():
        raise MissingData(
            f"POLYREFUSE_DATA_DIR is {named!r}, which is not a folder: "
            "name one that holds the data, or unset it."
        )
    return Path(named)


def cache() -> Path:
    """Return the folder for downloads: `POLYREFUSE_CACHE_DIR`, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("POLYREFUSE_CACHE_DIR") or pooch.os_cache("polyrefuse"))


def home() -> Path:
    """Return the folder of the user's own data: the mirror, or the cache without a mirror."""
    return mirror() or cache()


def offline() -> str | None:
    """Return an environment variable that forbids the network, or None if it is allowed."""
    return next(iter(forbidding()), None)


def forbidding() -> list[str]:
    """List all environment variables that forbid the network."""
    return [
        variable
        for variable in ("POLYREFUSE_OFFLINE", "HF_HUB_OFFLINE")
        if os.environ.get(variable, "").upper() in TRUE
    ]


def places() -> dict[str, Path]:
    """Return the folders that are searched, by name, in their order."""
    named = mirror()
    return ({"mirror": named} if named else {}) | {"cache": cache()}


def find(file: File) -> tuple[str, Path] | None:
    """Return the place (`mirror` or `cache`) and path of a file, unchecked; None if missing."""
    for place, folder in places().items():
        if (folder / file.path).is_file():
            return place, folder / file.path
    return None


def check(file: File, path: Path) -> None:
    """Compare the file at `path` with its published sha256.

    Raises:
        WrongHash: they differ.
        MissingData: the file cannot be read.
    """
    import pooch

    try:
        digest = pooch.file_hash(str(path), alg="sha256")
    except OSError as error:
        raise MissingData(
            f"{path} cannot be read ({error.strerror}): correct its permissions, or delete it and "
            f"run `{fetch_command(file)}`."
        ) from error
    if digest != file.sha256:
        raise WrongHash(
            f"{path} is not the {_kind(file)} {file.path}: its sha256 is {digest} instead of "
            f"{file.sha256}, so delete it and run `{fetch_command(file)}`."
        )


def local(file: File) -> Path:
    """Return the path of a file that is already here, after checking it.

    Raises:
        MissingData: it is neither in the mirror nor in the cache.
        WrongHash: it is not the published file.
    """
    located = find(file)
    if not located:
        raise MissingData(f"{_absence(file)}: run `{fetch_command(file)}`.")
    check(file, located[1])
    return located[1]


def resolve(file: File, download: Download | None = None) -> Path:
    """Return the path of a checked file, which is downloaded into the cache if it is missing.

    Args:
        file: the file.
        download: the function that fetches the bytes; by default pooch's HTTP downloader.

    Raises:
        MissingData: the file is neither in the mirror nor in the cache, and the network is
            forbidden or failed.
        WrongHash: the file that was found or downloaded is not the published one. A wrong download
            does not reach the cache.
    """
    if file.repository is None:
        return local(file)
    located = find(file)
    if located and located[0] == "mirror":
        check(file, located[1])
        return located[1]
    variable = offline()
    if variable and not located:
        raise MissingData(
            f"{_absence(file)}, and {variable} forbids a download: "
            f"unset it and run `{fetch_command(file)}`."
        )
    if variable:
        return local(file)
    return _fetch(file, download)


def fetch_command(file: File) -> str:
    """Return the command that makes a file available."""
    if file.repository is None:
        # The folder has the name of the dataset; its halves have other names.
        return f"polyrefuse data add {file.path.split('/')[1]} FILE --replace"
    return f"polyrefuse data fetch {file.dataset}"


def _fetch(file: File, download: Download | None) -> Path:
    import pooch

    target = cache() / file.path
    if target.is_file():
        with suppress(MissingData, WrongHash):
            check(file, target)
            return target
    try:
        with whole_file(target) as draft:
            _download(file, draft, download or pooch.HTTPDownloader(timeout=30))
    except CannotWrite as error:
        raise MissingData(
            f"{str(error).removesuffix('.')}: set POLYREFUSE_CACHE_DIR to a folder that can be "
            "written."
        ) from error
    return target


def _download(file: File, draft: Path, download: Download) -> None:
    """Download a file and check it.

    Raises:
        MissingData: the network failed.
        WrongHash: the file differs from the published one.
        OSError: the draft cannot be written.
    """
    import pooch
    import requests

    try:
        download(file.url, str(draft), None)
    except requests.RequestException as error:
        raise MissingData(
            f"{_absence(file)}, and {file.url} could not be downloaded ({_reason(error)}): "
            f"check the network and run `{fetch_command(file)}`."
        ) from error
    got = pooch.file_hash(str(draft), alg="sha256")
    if got != file.sha256:
        raise WrongHash(
            f"The file from {file.url} is not the published {file.path}: its sha256 is {got} "
            f"instead of {file.sha256}, so it was not kept; run `{fetch_command(file)}` again."
        )


def _absence(file: File) -> str:
    searched = " nor in ".join(f"the {place} {folder}" for place, folder in places().items())
    origin = "your own"
    if file.repository is not None:
        origin = f"{file.repository.name} at {file.repository.commit[:7]}"
    return f"{file.path} ({origin}) is {'neither ' if ' nor ' in searched else 'not '}in {searched}"


def _kind(file: File) -> str:
    return "added" if file.repository is None else "published"


def _reason(error: Exception) -> str:
    """Return the HTTP status or the class of an error, whose own text may span several lines."""
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__
