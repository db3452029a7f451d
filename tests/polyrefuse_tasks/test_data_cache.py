"""Where files are found, in which order, and what is said when they are not or are wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from polyrefuse_tasks import data
from polyrefuse_tasks.data import cache, registry
from tests.invented_data import Server, World, make_world, serve, sha256
from tests.kill_points import kill_points, tree

OKTEST = "oktest.json"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = make_world(tmp_path)
    made.use(monkeypatch)
    return made


@pytest.fixture
def server(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serve(world) as offered:
        monkeypatch.setattr(registry, "HOST", offered.host)
        yield offered


@pytest.fixture
def file(world: World) -> data.File:
    return data.needed("oktest")[0]


def test_mirror_comes_first(
    world: World, server: Server, file: data.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.resolve(file)
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(world.mirror))
    assert cache.resolve(file) == world.mirror / OKTEST


def test_a_download_is_kept_and_not_repeated(world: World, server: Server, file: data.File) -> None:
    assert cache.resolve(file) == world.cache / OKTEST
    assert cache.resolve(file).read_bytes() == world.files[OKTEST]
    assert server.requested == [OKTEST]


def test_what_the_mirror_lacks_is_downloaded(
    world: World, server: Server, file: data.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(world.mirror))
    (world.mirror / OKTEST).unlink()
    assert cache.resolve(file) == world.cache / OKTEST


def test_a_wrong_download_names_both_sums_and_is_not_kept(
    world: World, server: Server, file: data.File
) -> None:
    server.wrong.add(OKTEST)
    with pytest.raises(data.WrongHash) as caught:
        cache.resolve(file)
    content = world.files[OKTEST]
    assert sha256(content) in str(caught.value)
    assert sha256(content[::-1]) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in world.cache.rglob("*") if path.is_file()]


def test_a_wrong_mirror_file_is_refused(
    world: World, file: data.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", str(world.mirror))
    cut = world.files[OKTEST][:-5]
    (world.mirror / OKTEST).write_bytes(cut)
    with pytest.raises(data.WrongHash) as caught:
        data.load("oktest")
    for named in (str(world.mirror / OKTEST), sha256(cut), file.sha256):
        assert named in str(caught.value)


def test_a_file_gone_bad_in_the_cache_is_fetched_again(
    world: World, server: Server, file: data.File
) -> None:
    cache.resolve(file).write_bytes(b"gone bad")
    assert cache.resolve(file).read_bytes() == world.files[OKTEST]


@pytest.mark.parametrize("variable", ["POLYREFUSE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_reaches_for_nothing(
    server: Server, file: data.File, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(data.MissingData) as caught:
        cache.resolve(file)
    for named in (OKTEST, "nobody/nothing at 0000000", variable, "`polyrefuse data fetch oktest`"):
        assert named in str(caught.value)
    assert server.requested == []


def test_offline_refuses_a_bad_cached_file(
    server: Server, file: data.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.resolve(file).write_bytes(b"gone bad")
    monkeypatch.setenv("POLYREFUSE_OFFLINE", "1")
    with pytest.raises(data.WrongHash):
        cache.resolve(file)


def test_a_server_without_the_file(world: World, server: Server, file: data.File) -> None:
    del world.files[OKTEST]
    with pytest.raises(data.MissingData, match="HTTP 404"):
        cache.resolve(file)


def test_no_server(file: data.File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "HOST", "http://127.0.0.1:9")
    with pytest.raises(data.MissingData, match=r"ConnectionError.*polyrefuse data fetch oktest"):
        cache.resolve(file)


def test_a_cache_that_cannot_be_written(
    world: World, server: Server, file: data.File, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.cache.write_text("a file where the folder should be")
    with pytest.raises(data.MissingData, match="POLYREFUSE_CACHE_DIR"):
        cache.resolve(file)


def test_a_mirror_that_is_no_folder(file: data.File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYREFUSE_DATA_DIR", "/nowhere/at/all")
    with pytest.raises(data.MissingData, match="POLYREFUSE_DATA_DIR is '/nowhere/at/all'"):
        cache.resolve(file)


def test_killed_at_any_moment_the_next_fetch_ends_as_if_it_had_not_been(
    world: World, server: Server, file: data.File
) -> None:
    def fetch() -> None:
        cache.resolve(file)

    wanted = {OKTEST: world.files[OKTEST]}
    for _ in kill_points(fetch):
        there = tree(world.cache) if world.cache.exists() else {}
        assert there.get(OKTEST) in (None, wanted[OKTEST])
        fetch()
        assert {
            name: there for name, there in tree(world.cache).items() if name[0] != "."
        } == wanted
        if OKTEST not in there:  # Otherwise there was nothing to write, and so nothing to tidy.
            assert tree(world.cache) == wanted
        shutil.rmtree(world.cache)
    assert tree(world.cache) == wanted


def test_two_at_once(world: World, server: Server, file: data.File) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: cache.resolve(file), range(8)))) == 1
    assert tree(world.cache) == {OKTEST: world.files[OKTEST]}
