"""Finding a published file: a local mirror, then the user's cache, then a download.

Every file is checked against its sha256 before it is handed out, wherever it was found. A download
goes to a temporary file in the cache, is hashed there, and only then takes its name: an interrupted
or wrong one leaves nothing behind, and two at once do no harm.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from polyrefuse_tasks.data.errors import MissingData, WrongHash
from polyrefuse_tasks.data.registry import File

Download = Callable[[str, str, object], object]
"""pooch's contract for a downloader: called with (url, path of a temporary file, pooch or None)."""

_TRUE = {"1", "ON", "YES", "TRUE"}  # as huggingface_hub reads HF_HUB_OFFLINE


def mirror() -> Path | None:
    """The folder that `POLYREFUSE_DATA_DIR` names, None without one.

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
    """The folder that downloads go to: `POLYREFUSE_CACHE_DIR`, or the user's cache folder."""
    import pooch

    return Path(os.environ.get("POLYREFUSE_CACHE_DIR") or pooch.os_cache("polyrefuse"))


def home() -> Path:
    """The folder that translations of one's own live in: the mirror, or the cache without one."""
    return mirror() or cache()


def offline() -> str | None:
    """The environment variable that forbids the network, None where it is allowed."""
    for variable in ("POLYREFUSE_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").upper() in _TRUE:
            return variable
    return None


def places() -> dict[str, Path]:
    """The folders that are searched, by name, in order."""
    named = mirror()
    return ({"mirror": named} if named else {}) | {"cache": cache()}


def find(file: File) -> tuple[str, Path] | None:
    """The place (`mirror` or `cache`) and the path of a file that is here, unchecked, or None."""
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
            f"{path} cannot be read ({error.strerror}): mend its permissions, or delete it and "
            f"run `{fetch_command(file)}`."
        ) from error
    if digest != file.sha256:
        raise WrongHash(
            f"{path} is not the published {file.path}: its sha256 is {digest} instead of "
            f"{file.sha256}, so delete it and run `{fetch_command(file)}`."
        )


def local(file: File) -> Path:
    """The checked path of a file that is here already.

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
    """The checked path of a file, downloaded into the cache if it has to be.

    Args:
        download: what fetches the bytes; pooch's HTTP downloader where not given.

    Raises:
        MissingData: it is in no place, and the network is forbidden or failed.
        WrongHash: what was found or downloaded is not the published file. A bad download does
            not reach the cache.
    """
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
    """The command that fetches a file."""
    return f"polyrefuse data fetch {file.dataset}"


def _fetch(file: File, download: Download | None) -> Path:
    import pooch
    import requests

    fetch_bytes = download or pooch.HTTPDownloader(timeout=30)

    def checked(url: str, temporary: str, downloader_of: object) -> None:
        fetch_bytes(url, temporary, downloader_of)
        got = pooch.file_hash(temporary, alg="sha256")
        if got != file.sha256:
            raise WrongHash(
                f"What {url} sent is not the published {file.path}: its sha256 is {got} instead "
                f"of {file.sha256}, so it was not kept; run `{fetch_command(file)}` again."
            )

    target = cache() / file.path
    pooch.get_logger().setLevel("WARNING")
    try:
        # pooch makes missing folders too, but not when two processes do it at once.
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            file.url, f"sha256:{file.sha256}", target.name, target.parent, downloader=checked
        )
    except requests.RequestException as error:
        raise MissingData(
            f"{_absence(file)}, and {file.url} could not be downloaded ({_reason(error)}): "
            f"check the network and run `{fetch_command(file)}`."
        ) from error
    except OSError as error:
        raise MissingData(
            f"{target} could not be written ({error.strerror}): free the space or the folder, "
            "or name another one in POLYREFUSE_CACHE_DIR."
        ) from error
    return target


def _absence(file: File) -> str:
    searched = " nor in ".join(f"the {place} {folder}" for place, folder in places().items())
    origin = f"{file.repository.name} at {file.repository.commit[:7]}"
    return f"{file.path} ({origin}) is {'neither ' if ' nor ' in searched else 'not '}in {searched}"


def _reason(error: Exception) -> str:
    """An HTTP status or the kind of error; the libraries' own texts run over several lines."""
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__
