"""The tutorial's notebook runs from its first cell to its last, and shows what its text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def executed(folder: Path, parameters: str | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The notebook after it ran in a folder, with other parameters where they are given."""
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("IPYTHONDIR", str(folder / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if parameters is not None:
        (cell,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
        cell.source = parameters
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(folder))
    return notebook


def printed(cell: Any) -> str:
    """What a cell printed; rich's tables and sentences are displayed, with a plain text each."""
    outputs = cell.get("outputs", ())
    plain = (out.get("data", {}).get("text/plain", "") for out in outputs)
    return "".join(out.text for out in outputs if out.get("name") == "stdout") + "".join(plain)


def shown(notebook: Any) -> list[str]:
    """The kinds of the pictures, in order."""
    return [
        kind
        for cell in notebook.cells
        for out in cell.get("outputs", ())
        for kind in out.get("data", ())
        if kind.startswith("image/")
    ]


def rates(notebook: Any) -> dict[str, list[tuple[int, int]]]:
    """What `measure` printed: condition -> attack success and false refusal of each language."""
    found = {}
    for cell in notebook.cells:
        said = re.match(r"(\S+) \(\d+ prompts for each rate\)\n", printed(cell))
        if said:
            pairs = re.findall(
                r"attack success rate +(\d+)%, false refusal rate +(\d+)%", printed(cell)
            )
            name = said[1] if said[1] not in found else f"weakened {said[1]}"
            found[name] = [(int(attack), int(refused)) for attack, refused in pairs]
    return found


def test_it_is_committed_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_it_runs_on_a_few_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = 'languages = ["en", "yo"]\nlimit = 4'
    notebook = executed(tmp_path, few, monkeypatch)
    check(notebook, languages=2)


@pytest.mark.slow
def test_it_runs_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = executed(tmp_path, None, monkeypatch)
    check(notebook, languages=4)
    assert "FAILED: 4 of 8 comparisons" in printed(notebook.cells[-2])


def check(notebook: Any, languages: int) -> None:
    measured = rates(notebook)
    assert measured["baseline"] == [(0, 0)] * languages
    assert measured["ablation"] == [(100, 0)] * languages
    assert measured["addition"] == [(0, 100)] * languages
    weak, repaired = measured["weakened baseline"], measured["mcd"]
    assert sum(attack for attack, _ in weak) > sum(attack for attack, _ in repaired)
    assert shown(notebook)[:2] == ["image/png", "image/png"]
    assert shown(notebook)[2:] == ["image/svg+xml"] * (len(shown(notebook)) - 2)
    assert len(shown(notebook)) >= 3
    assert f"{2 * languages} comparisons" in printed(notebook.cells[-2])
