"""The folder of an artifact: whole or not at all, and one mistake for all that can be wrong."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from polyrefuse_models import artifact_folder
from polyrefuse_models.artifact_folder import whole_folder
from polyrefuse_shared.errors import UserError
from polyrefuse_shared.writing import CannotWrite


class Unusable(UserError):
    """A mistake of these tests' own."""


def reading(folder: Path) -> AbstractContextManager[None]:
    return artifact_folder.damage_as(Unusable, folder, kind="glorbon", remedy="make it anew")


def test_what_is_written_can_be_read_by_others(tmp_path: Path) -> None:
    artifact_folder.write(
        tmp_path / "new",
        tensors={"vectors.safetensors": {"one": torch.arange(3.0), "two": torch.ones(2, 2)}},
        documents={"metadata.json": {"name": "Quend é"}, "scores.json": [float("nan"), None]},
        pictures={"picture.png": b"\x89PNG"},
    )
    tensors = load_file(tmp_path / "new/vectors.safetensors")
    assert torch.equal(tensors["one"], torch.tensor([0.0, 1.0, 2.0]))
    assert torch.equal(tensors["two"], torch.ones(2, 2))
    text = (tmp_path / "new/metadata.json").read_bytes().decode("utf-8")
    content = (tmp_path / "new/vectors.safetensors").read_bytes()
    sums = {"vectors.safetensors": hashlib.sha256(content).hexdigest()}
    assert "Quend é" in text and json.loads(text) == {"name": "Quend é", "files_sha256": sums}
    assert json.loads((tmp_path / "new/scores.json").read_text())[1] is None
    assert (tmp_path / "new/picture.png").read_bytes() == b"\x89PNG"
    assert len(list((tmp_path / "new").iterdir())) == 4


def test_a_report_with_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact_folder.write(
            tmp_path / "new", documents={"report.json": [float("nan")]}, allow_nan=False
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), SafetensorError("No space left on device")]
)
def test_a_disk_that_fails_leaves_nothing(tmp_path: Path, failure: Exception) -> None:
    full = "new cannot be written .No space left on device"
    with pytest.raises(CannotWrite, match=full), whole_folder(tmp_path / "new") as draft:
        (draft / "half").write_text("a half")
        raise failure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is not a glorbon: it has no metadata.json."),
        (b"[]", "is not a glorbon, or is damaged: metadata.json is not an object; make it anew."),
        (b"{", "is not a glorbon, or is damaged: Expecting property name"),
        (b"\xff", "is not a glorbon, or is damaged: 'utf-8' codec"),
        (b"[" * 200_000, "is not a glorbon, or is damaged: it is nested too deeply"),
        (b'{"files_sha256": 1}', "is not a glorbon, or is damaged: metadata.json has no checksum"),
        (b'{"files_sha256": {}}', "is not a glorbon, or is damaged: metadata.json has no checksum"),
    ],
)
def test_bad_metadata_are_one_mistake(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    save_file({"one": torch.ones(1)}, tmp_path / "vectors.safetensors")
    if content is not None:
        (tmp_path / "metadata.json").write_bytes(content)
    with pytest.raises(Unusable) as mistake, reading(tmp_path):
        artifact_folder.read(tmp_path, "vectors.safetensors")
    assert str(mistake.value).startswith(f"{tmp_path} {sentence}")


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    artifact_folder.write(
        folder,
        tensors={"vectors.safetensors": {"one": torch.arange(300.0)}},
        documents={"metadata.json": {}},
    )
    file = folder / "vectors.safetensors"
    whole = file.read_bytes()
    assert artifact_folder.read(folder, file.name)[1] == {}
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        with pytest.raises(Unusable, match="was changed after it was written"), reading(folder):
            artifact_folder.read(folder, file.name)


def test_older_ones_without_a_checksum_are_read(tmp_path: Path) -> None:
    save_file({"one": torch.ones(1)}, tmp_path / "vectors.safetensors")
    (tmp_path / "metadata.json").write_text('{"position": -1}')
    tensors, metadata = artifact_folder.read(tmp_path, "vectors.safetensors")
    assert (tensors["one"].item(), metadata) == (1.0, {"position": -1})


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    missing = "is not a glorbon: it has no vectors.safetensors"
    with pytest.raises(Unusable, match=missing), reading(tmp_path):
        artifact_folder.read_tensors(tmp_path / "vectors.safetensors")
