"""Files that nobody should write among results: each costs a sentence, and nothing hangs."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from polyrefuse_leaderboard.reading.results import NoResults, read
from polyrefuse_leaderboard.transfers import read_transfers

from polyrefuse_tasks.saved_results import samples as saved_samples
from polyrefuse_tasks.saved_results import tasks as saved_tasks
from polyrefuse_tasks.saved_results.folders import walk
from tests.commands import run_in_process
from tests.deep_folders import nest, remove
from tests.leaderboard.result_files import DIRECTION, PROMPT, task, transfer_report, write_run

RESULTS = "results_2026-01-09T00-00-00.000001.json"
SAMPLES = "samples_polyrefuse_harmful_en_2026-01-01T00-00-00.000001.jsonl"


def good(folder: Path) -> Path:
    return write_run(folder, [task("harmful", "en", "rrcc"), task("harmless", "en", "cccr")])


class TestKinds:
    """What has the name of results and is no regular file."""

    @pytest.fixture(params=["pipe", "device", "endless", "socket", "loop", "dangling", "folder"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Path], None]:
        def put(path: Path) -> None:
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if request.param == "pipe":
                os.mkfifo(path)
            elif request.param == "socket":
                here = os.getcwd()
                os.chdir(path.parent)  # A socket's path is short.
                try:
                    with socket.socket(socket.AF_UNIX) as server:
                        server.bind(path.name)
                finally:
                    os.chdir(here)
            elif request.param == "folder":
                path.mkdir()
            else:
                links = {"device": "/dev/null", "endless": "/dev/zero", "loop": path.name}
                path.symlink_to(links.get(request.param, "nowhere"))

        return put

    def test_among_results(self, tmp_path: Path, place: Callable[[Path], None]) -> None:
        good(tmp_path / "good")
        place(tmp_path / "bad" / RESULTS)
        place(tmp_path / "bad/transfer.json")
        reading = read([tmp_path])
        assert len(reading.runs) == 1
        said = [*reading.problems, *read_transfers([tmp_path])[1]]
        assert all(sentence.count("\n") == 0 for sentence in said)
        assert len(said) == 2
        assert [RESULTS in said[0], "transfer.json" in said[1]] == [True, True]

    def test_in_place_of_samples(self, tmp_path: Path, place: Callable[[Path], None]) -> None:
        file = good(tmp_path)
        place(file.parent / SAMPLES)
        reading = read([tmp_path])
        assert [cell.dataset for cell in reading.runs[0].cells if cell.responses is None] in (
            [], ["harmful"],
        )  # fmt: skip
        (problem,) = reading.problems
        assert SAMPLES in problem

    def test_named_by_itself(self, tmp_path: Path, place: Callable[[Path], None]) -> None:
        place(tmp_path / "it")
        for arguments in (
            ("build", tmp_path / "it", "--output", tmp_path / "site"),
            ("check", tmp_path / "it", "--baseline", tmp_path / "it"),
            ("published", tmp_path / "it", "--output", tmp_path / "site"),
        ):
            code, _, err = run_in_process("leaderboard", *arguments)
            assert (code, err.count("\n")) == (2, 1)


@pytest.mark.parametrize("option", ["--junit", "--github-summary", "--update"])
@pytest.mark.parametrize("place", ["pipe", "folder", "x" * 5000, "null", "file/below"])
def test_where_the_gate_cannot_write(tmp_path: Path, option: str, place: str) -> None:
    good(tmp_path / "results")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "null").symlink_to("/dev/null")
    check = ("leaderboard", "check", tmp_path / "results", "--baseline")
    baseline = tmp_path / "baseline.json"
    assert run_in_process(*check, baseline, "--update")[0] == 0
    if option == "--update":
        arguments: tuple[object, ...] = (*check, tmp_path / place, "--update")
    else:
        arguments = (*check, baseline, option, tmp_path / place)
    code, _, err = run_in_process(*arguments)
    if (option, place) == ("--github-summary", "null"):
        assert code == 0
    else:
        assert (code, err.count("\n")) == (2, 1)
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "pipe").is_fifo()


def test_files_of_more_than_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = good(tmp_path)
    monkeypatch.setattr(saved_tasks, "AT_MOST", file.stat().st_size - 1)
    code, _, err = run_in_process("leaderboard", "build", tmp_path, "--output", tmp_path / "site")
    assert code == 2
    assert "it is larger than" in err


def test_a_line_of_more_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = samples_of(good(tmp_path), "polyrefuse_harmful_en")
    lines = samples.read_bytes().splitlines(keepends=True)
    monkeypatch.setattr(saved_samples, "LONGEST_LINE", 4000)
    samples.write_bytes(b"".join([*lines[:2], lines[2].rstrip().ljust(3999) + b"\n", *lines[3:]]))
    assert not read([tmp_path]).problems
    samples.write_bytes(b"".join([*lines[:2], lines[2].rstrip().ljust(4000) + b"\n", *lines[3:]]))
    (problem,) = read([tmp_path]).problems
    assert f"{SAMPLES}, line 3 has more than" in problem


def test_levels_that_python_just_parses(tmp_path: Path) -> None:
    """What goes through a document afterwards has fewer levels left than the parser had."""
    file = good(tmp_path)
    text = file.read_text()
    for depth in range(930, 990):
        nest = "[" * depth + "]" * depth
        file.write_text(text.replace('"chat_template_args": {}', f'"chat_template_args": {nest}'))
        with pytest.raises(NoResults, match="is not JSON"):
            read([tmp_path])


def test_a_line_without_an_end(tmp_path: Path) -> None:
    samples = samples_of(good(tmp_path), "polyrefuse_harmful_en")
    os.truncate(samples, 2**33)  # No block of it is on the disk.
    (problem,) = read([tmp_path]).problems
    assert "line 5 has more than 64 MiB" in problem


def test_folders_in_folders(tmp_path: Path) -> None:
    good(tmp_path / "good")
    deep = tmp_path / "deep"
    deep.mkdir()
    nest(deep, 2500)
    try:
        errors: list[OSError] = []
        # Until a path is longer than the system takes.
        assert 1500 < sum(1 for _ in walk(deep, errors)) < 2500
        assert [error.strerror for error in errors] == ["File name too long"]
        code, _, err = run_in_process(
            "leaderboard", "build", tmp_path, "--output", tmp_path / "site"
        )
        assert code == 0
        assert "File name too long" in err
    finally:
        remove(deep)


@pytest.mark.parametrize("n", [65, 400])
def test_a_matrix_that_is_too_large(tmp_path: Path, n: int) -> None:
    codes = [f"x{number}" for number in range(n)]
    report = transfer_report() | {"sources": codes, "targets": codes}
    cell = report["cells"][0]
    report["cells"] = [cell | {"source": s, "target": t} for s in codes for t in codes]
    (tmp_path / "transfer.json").write_text(json.dumps(report))
    found, (problem,) = read_transfers([tmp_path])
    assert not found
    assert f"{n} sources, and a picture shows at most 64" in problem


# --- every node of every document, exchanged


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


DEEPER = "<as deep as Python just parses>"
"""Stands for it until the document is text."""

BAD: dict[str, Any] = {
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    "huge": 10**400,
    "beyond 64 bits": 2**70,
    "negative": -1,
    "zero": 0,
    "fraction": 0.5,
    "true": True,
    "null": None,
    "list": [],
    "object": {},
    "text": "x",
    "empty": "",
    "half a letter": "\ud800",
    "control": "a\x00\x1b[31m\r\n\u2028\x85\x9b2Jb",
    "long": "ab" * 5000,
    "command": "::error::x",
    "older command": "##[error]x",
    "markup": "<script>alert(1)</script>]]>&",
    "deep": nested(50),
    "deeper than is read": DEEPER,
    "Azure's command": "##vso[task.setvariable variable=x]y",
    "one colon more": ":::error::x",
    "a list of odd things": [None, {}, "x", 1e308],
}


class Key(str):
    """The last step to a node that is an object's key, and not what it holds."""


def nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value of a document, and to each key."""
    yield path
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, below in list(items)[:40]:
        yield from nodes(below, (*path, key))
        if isinstance(key, str):
            yield (*path, Key(key))


def exchanged(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    if isinstance(path[-1], Key):
        place[value if isinstance(value, str) else json.dumps(value)] = place.pop(str(path[-1]))
    else:
        place[path[-1]] = value
    return document


def valid(folder: Path) -> Path:
    """Results with all that there may be: a direction, a prompt, a limit, several answers."""
    return write_run(
        folder,
        [task("harmful", "en", "rrcc"), task("mcd_harmful", "en", ["rrc", "rcc"], sampled=True)],
        condition="ablation+mcd",
        info=DIRECTION | PROMPT,
        model="m/m",
        limit=4.0,
    )


def samples_of(results: Path, task: str) -> Path:
    (file,) = results.parent.glob(f"samples_{task}_2026*")
    return file


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A valid document of each kind that the leaderboard reads."""
    folder = tmp_path_factory.mktemp("valid")
    file = valid(folder)
    baseline = folder / "baseline.json"
    assert run_in_process(
        "leaderboard", "check", folder, "--baseline", baseline, "--update"
    )[0] == 0  # fmt: skip
    return {
        "results": json.loads(file.read_text()),
        "samples": json.loads(
            samples_of(file, "polyrefuse_harmful_en").read_text().splitlines()[0]
        ),
        "sampled": json.loads(samples_of(file, "mcd_harmful_en").read_text().splitlines()[0]),
        "transfer": transfer_report(),
        "baseline": json.loads(baseline.read_text()),
        "names": {"m/m": "m"},
    }


def attack(kind: str, text: str, folder: Path) -> None:
    """Run the commands that read such a document; each ends well, or with sentences."""
    results = folder / "results"
    file = valid(results)
    places = {
        "results": file,
        "samples": samples_of(file, "polyrefuse_harmful_en"),
        "sampled": samples_of(file, "mcd_harmful_en"),
        "transfer": results / "transfer.json",
        "baseline": folder / "baseline.json",
        "names": folder / "names.json",
    }
    run_in_process("leaderboard", "check", results, "--baseline", places["baseline"], "--update")
    if kind in ("samples", "sampled"):
        rest = places[kind].read_text().splitlines()[1:]
        text = "\n".join([text, *rest])
    places[kind].write_bytes(text.encode("utf-8", "surrogatepass"))
    named = ("--model-names", places["names"]) if kind == "names" else ()
    site = folder / "site"
    build = ("build", results, "--output", site, "--include-samples", *named)
    check = (
        "check", results, "--baseline", places["baseline"], "--junit", folder / "junit.xml",
        "--github-summary", folder / "summary.md", *named,
    )  # fmt: skip
    read_by = {"transfer": (build,), "baseline": (check,)}
    for command in read_by.get(kind, (build, check)):
        code, out, err = run_in_process("leaderboard", *command)
        assert code in (0, 1, 2), err[-2000:]
        assert "Traceback" not in out + err
        for line in (out + err).splitlines():
            assert not line.lstrip().startswith("::")
            assert not re.search(r"##\w*\[", line)
        assert not set("\x00\x1b\r\x85\x9b\u2028") & set(out + err)
    for written in [*site.rglob("*.svg"), folder / "junit.xml"]:
        if written.exists():
            ElementTree.parse(written)


def cases() -> list[tuple[str, int, str]]:
    """Kind of document, number of its node, and what takes its place."""
    places = [(kind, number) for kind, count in COUNTS.items() for number in range(count)]
    every = [(kind, number, bad) for kind, number in places for bad in BAD]
    random.Random(14).shuffle(every)
    return every


COUNTS = {
    "results": 313,
    "samples": 77,
    "sampled": 108,
    "transfer": 101,
    "baseline": 90,
    "names": 3,
}
"""Nodes of each kind of document, which pytest has to know before one is written."""

SAMPLE = 150


@pytest.mark.parametrize("part", range(2))
def test_a_sample_of_exchanged_nodes(part: int, documents: dict[str, Any], tmp_path: Path) -> None:
    for place, case in enumerate(cases()[part:SAMPLE:2]):
        try_one(case, documents, tmp_path / str(place))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_every_exchanged_node(part: int, documents: dict[str, Any], tmp_path: Path) -> None:
    for place, case in enumerate(cases()[SAMPLE + part :: 20]):
        try_one(case, documents, tmp_path / str(place))


def try_one(case: tuple[str, int, str], documents: dict[str, Any], folder: Path) -> None:
    kind, number, bad = case
    path = list(nodes(documents[kind]))[number]
    if any(isinstance(step, Key) for step in path) and not isinstance(BAD[bad], str):
        return
    text = json.dumps(exchanged(documents[kind], path, BAD[bad]))
    # json.dumps would refuse it as well.
    text = text.replace(json.dumps(DEEPER), "[" * 972 + "]" * 972)
    try:
        attack(kind, text, folder)
    except BaseException as error:
        error.add_note(f"{kind}: {path} is {bad}")
        raise


def test_every_node_is_counted(documents: dict[str, Any]) -> None:
    assert {kind: len(list(nodes(document))) for kind, document in documents.items()} == COUNTS
