"""`leaderboard/site.py`: what is in the folder, what stays in it, and what a failure leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from polyrefuse_leaderboard import model_rows, site
from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.page import paging
from polyrefuse_leaderboard.site import write_site

from polyrefuse_shared.writing import CannotWrite
from tests.kill_points import kill_points, killed_before, tree
from tests.leaderboard.invented import board, record, with_means
from tests.leaderboard.pages import contents, embedded

FORMATS = ("json", "png", "svg")
"""Endings of the files of a figure."""


class TestFolder:
    def test_files(self, tmp_path: Path) -> None:
        records = board()
        files = write_site(tmp_path / "a/site", contents(records))
        assert files == [
            *(f"figures/{name}-1.{ending}" for name in ("bars", "scatter") for ending in FORMATS),
            "index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md",
            "leaderboard.tex",
        ]  # fmt: skip
        folder = tmp_path / "a/site"
        document = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
        assert document["records"] == [asdict(one) for one in records]
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["site"]

    def test_rebuilt_in_place(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        write_site(folder, contents(board(), samples=SAMPLES))
        assert (folder / "samples.jsonl").exists()
        (folder / "CNAME").write_text("example.org")
        (folder / ".git").mkdir()
        write_site(folder, contents([record("de", 3)]))
        assert sorted(path.name for path in folder.iterdir()) == [
            ".git", "CNAME", "figures", "index.html", "leaderboard.csv", "leaderboard.json",
            "leaderboard.md", "leaderboard.tex",
        ]  # fmt: skip
        assert not list((folder / "figures").iterdir())
        assert [path.name for path in tmp_path.iterdir()] == ["site"]

    def test_others_folders_are_left_alone(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        (folder / "thesis.tex").write_text("mine")
        with pytest.raises(CannotWrite, match="has other files and no leaderboard"):
            write_site(folder, contents(board()))
        assert [path.name for path in folder.iterdir()] == ["thesis.tex"]
        with pytest.raises(CannotWrite, match="is not a folder"):
            write_site(folder / "thesis.tex", contents(board()))

    def test_a_build_that_another_publishes_meanwhile_is_a_leaderboard(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The other's mark moves from its draft to the folder between two looks."""
        write_site(tmp_path / "done", contents(board()))
        folder, look = tmp_path / "site", site.is_ours
        other = folder / ".polyrefuse-1.partial"
        other.mkdir(parents=True)
        shutil.copy(tmp_path / "done/index.html", folder)
        shutil.copy(tmp_path / "done/leaderboard.json", other)

        def then_moved(path: Path) -> bool:
            seen = look(path)
            if (other / "leaderboard.json").exists():
                (other / "leaderboard.json").rename(folder / "leaderboard.json")
            return seen

        monkeypatch.setattr(site, "is_ours", then_moved)
        site.require_writable(folder)
        assert (folder / "leaderboard.json").exists()

    def test_a_build_that_another_begins_to_publish_meanwhile_is_a_leaderboard(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        look = site._is_leaderboard

        def then_published(folder: Path) -> bool:
            seen = look(folder)
            write_site(folder, contents(board()))
            return seen

        monkeypatch.setattr(site, "_is_leaderboard", then_published)
        site.require_writable(folder)

    @pytest.mark.parametrize("name", ["x" * 5000, "d/" * 2500])
    def test_a_name_that_is_too_long(self, tmp_path: Path, name: str) -> None:
        for refuses in (site.require_writable, lambda folder: write_site(folder, contents([]))):
            with pytest.raises(CannotWrite, match="File name too long"):
                refuses(tmp_path / name)

    def test_pictures_of_others_are_kept(self, tmp_path: Path) -> None:
        folder = tmp_path / "site.v1"
        write_site(folder, contents(board()))
        (folder / "figures/logo.png").write_bytes(b"mine")
        for ending in FORMATS:
            ours = (folder / f"figures/bars-1.{ending}").read_bytes()
            (folder / f"figures/bars-9.{ending}").write_bytes(ours)
        (folder / "figures/bars-8.svg").write_text("<svg/>")
        (folder / "figures/bars-8.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (folder / "figures/bars-8.json").write_text('{"figure": "mine"}')
        theirs = {
            "figures/logo.png": b"mine", "figures/bars-8.svg": b"<svg/>",
            "figures/bars-8.png": b"\x89PNG\r\n\x1a\n",
            "figures/bars-8.json": b'{"figure": "mine"}',
        }  # fmt: skip
        for _ in range(2):
            write_site(folder, contents([record("de", 3)]))
            assert {
                name: content for name, content in tree(folder).items() if name.startswith("fig")
            } == {"figures": "folder", **theirs}

    def test_a_leaderboard_of_another_program(self, tmp_path: Path) -> None:
        for text in ('[{"player": 1}]', ""):
            (tmp_path / "leaderboard.json").write_text(text)
            (tmp_path / "index.html").write_text("mine")
            with pytest.raises(CannotWrite, match="has other files"):
                write_site(tmp_path, contents(board()))
            assert (tmp_path / "index.html").read_text() == "mine"

    @pytest.mark.parametrize("build", ["first", "second"])
    def test_a_disk_that_fails_in_between(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str
    ) -> None:
        """A first build takes its files back; a second one leaves old and new ones, all readable,
        and the next writes all of them."""
        folder = tmp_path / "site"
        if build == "second":
            write_site(folder, contents(board()))
            (folder / "CNAME").write_text("example.org")
        rename = os.replace

        def fails(source: Path, target: Path) -> None:
            if str(target).endswith("leaderboard.md"):
                raise OSError(16, "Device or resource busy")
            rename(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", fails)
            with pytest.raises(CannotWrite, match="Device or resource busy"):
                write_site(folder, contents([record("de", 3)]))
        if build == "first":
            assert not folder.exists()
        else:
            assert (folder / "CNAME").read_text() == "example.org"
        write_site(folder, contents([record("de", 3)]))
        assert json.loads((folder / "leaderboard.json").read_text())["records"]
        assert [path.name for path in tmp_path.iterdir()] == ["site"]
        assert not list(folder.glob(".poly*"))

    def test_whole_or_not_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_site(tmp_path / "site", contents(board()))
        before = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.*")}

        def full(*_: Any, **__: Any) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(paging, "render_page", full)
        for name in ("site", "new"):
            with pytest.raises(CannotWrite, match="No space left on device"):
                write_site(tmp_path / name, contents([record("de", 3)]))
        assert [path.name for path in tmp_path.iterdir()] == ["site"]
        assert {path: path.read_bytes() for path in (tmp_path / "site").rglob("*.*")} == before


class TestOthers:
    """What is somebody else's is neither moved nor removed, whatever it is called."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_site(tmp_path / "site", contents([record("de", 3)]))
        assert not (tmp_path / "site/figures").exists()
        return tmp_path / "site"

    def test_samples(self, folder: Path) -> None:
        mine = '{"model": "m", "answer": "mine"}\n'
        (folder / "samples.jsonl").write_text(mine)
        write_site(folder, contents(board()))
        assert (folder / "samples.jsonl").read_text() == mine
        before = tree(folder)
        with pytest.raises(CannotWrite, match=r"samples\.jsonl is in the way and was not written"):
            write_site(folder, contents(board(), samples=SAMPLES))
        assert tree(folder) == before
        (folder / "samples.jsonl").unlink()
        write_site(folder, contents(board(), samples=SAMPLES))
        write_site(folder, contents(board(), samples=SAMPLES))
        assert "invented" in (folder / "samples.jsonl").read_text()
        # Answers do not stay where they were not asked for.
        write_site(folder, contents(board()))
        assert not (folder / "samples.jsonl").exists()

    def test_a_folder_called_figures(self, folder: Path) -> None:
        (folder / "figures").mkdir(mode=0o700)
        write_site(folder, contents([record("de", 3)]))
        (folder / "figures/bars.txt").write_text("mine")
        write_site(folder, contents(board()))
        write_site(folder, contents([record("de", 3)]))
        assert (folder / "figures/bars.txt").read_text() == "mine"
        assert (folder / "figures").stat().st_mode & 0o777 == 0o700

    def test_a_link_called_figures(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures/mine.svg").write_text("<svg/>")
        (folder / "figures").symlink_to("../pictures")
        write_site(folder, contents(board()))
        assert (tmp_path / "pictures/bars-1.svg").exists()
        write_site(folder, contents([record("de", 3)]))
        assert (folder / "figures").is_symlink()
        assert tree(tmp_path / "pictures") == {"mine.svg": b"<svg/>"}

    def test_figures_elsewhere(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On another disk nothing can be renamed into it."""
        rename = os.replace

        def across(source: Path, target: Path) -> None:
            if "figures" in str(target) and Path(source).parent != Path(target).parent:
                raise OSError(18, "Invalid cross-device link")
            rename(source, target)

        monkeypatch.setattr(os, "replace", across)
        for _ in range(2):
            write_site(folder, contents(board()))
        assert "</svg>" in (folder / "figures/bars-1.svg").read_text()
        assert not [path for path in folder.rglob("*") if "partial" in path.name]

    @pytest.mark.parametrize("name", ["figures", "figures/bars-1.svg", "index.html", "page-1.html"])
    @pytest.mark.parametrize("kind", ["file", "link", "dangling"])
    def test_in_the_way(self, folder: Path, name: str, kind: str) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        if kind == "file":
            path.write_text("<p>mine</p>")
        else:
            path.symlink_to("leaderboard.csv" if kind == "link" else "nowhere")
        before = tree(folder)
        if name == "page-1.html":  # Is not needed, and so not in the way.
            write_site(folder, contents(board()))
            assert tree(folder)[name] == before[name]
            return
        with pytest.raises(CannotWrite, match=rf"site/{re.escape(name)}"):
            write_site(folder, contents(board()))
        assert tree(folder) == before

    def test_mode_owner_and_place(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.chmod(0o2750)
        (folder / "index.html").chmod(0o640)
        if os.getuid() == 0:
            os.chown(folder, 1234, 5678)
            os.chown(folder / "index.html", 1234, 5678)
        monkeypatch.chdir(folder)
        about = [path.stat() for path in (folder, folder / "index.html")]
        write_site(Path("."), contents(board()))
        assert Path("index.html").exists()
        for before, path in zip(about, (folder, folder / "index.html"), strict=True):
            after = path.stat()
            assert (after.st_mode, after.st_uid, after.st_gid) == (
                before.st_mode, before.st_uid, before.st_gid,
            )  # fmt: skip
        assert folder.stat().st_ino == about[0].st_ino

    def test_a_link_to_the_folder(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("site")
        write_site(tmp_path / "link", contents(board()))
        assert (tmp_path / "link").is_symlink()
        assert (folder / "figures/bars-1.svg").exists()


SAMPLES = [{"model": 'm "1" ü', "condition": "mcd", "dataset": "d", "response": "invented"}]


@pytest.fixture
def drawn_before(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each leaderboard is drawn once: a kill point needs its files, not the seconds."""
    drawn: dict[str, Path] = {}
    write = site._write

    def copied(new: Path, shown: Contents) -> None:
        key = repr((shown.records, shown.samples))
        if key not in drawn:
            drawn[key] = tmp_path_factory.mktemp("drawn")
            write(drawn[key], shown)
        shutil.copytree(drawn[key], new, dirs_exist_ok=True)

    monkeypatch.setattr(site, "_write", copied)


def test_killed_while_it_draws(tmp_path: Path) -> None:
    """Every third change of a real build; `TestKilled` has all of them, of one drawn before."""
    folder = tmp_path / "site"
    write_site(tmp_path / "wanted", contents(board()))
    for number in range(0, 60, 3):
        if not killed_before(number, lambda: write_site(folder, contents(board()))):
            break
        write_site(folder, contents(board()))
        assert tree(folder) == tree(tmp_path / "wanted")
        shutil.rmtree(folder)
    else:
        pytest.fail("the build never ended")


@pytest.mark.usefixtures("drawn_before")
class TestKilled:
    """Killed before each change of the file system, the next build ends as if it had not been."""

    @pytest.mark.parametrize("before", ["nothing", "an older one"])
    def test_the_next_build_ends_well(self, tmp_path: Path, before: str) -> None:
        folder = tmp_path / "site"
        newest = contents(board(), samples=SAMPLES)
        write_site(tmp_path / "wanted", newest)
        wanted = tree(tmp_path / "wanted")
        theirs = {"CNAME": b"example.org", ".git": "folder", ".git/HEAD": b"ref"}
        older = contents([record("de", 3), record("en", 2)])

        def begin() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            if before == "an older one":
                write_site(folder, older)
                (folder / "CNAME").write_text("example.org")
                (folder / ".git").mkdir()
                (folder / ".git/HEAD").write_text("ref")

        begin()
        points = 0
        for points in kill_points(lambda: write_site(folder, newest)):  # noqa: B007
            if before == "an older one":
                assert theirs.items() <= tree(folder).items()
            write_site(folder, newest)
            assert tree(folder) == wanted | (theirs if before == "an older one" else {})
            assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "wanted"]
            begin()
        assert points > 20

    def test_what_is_read_in_between_is_a_leaderboard(self, tmp_path: Path) -> None:
        """`leaderboard.json` is whole at any moment, the old one or the new."""
        folder = tmp_path / "site"
        write_site(folder, contents([record("de", 3)]))
        old = (folder / "leaderboard.json").read_bytes()
        write_site(tmp_path / "wanted", contents(board()))
        new = (tmp_path / "wanted/leaderboard.json").read_bytes()
        for _ in kill_points(lambda: write_site(folder, contents(board()))):
            there = tree(folder)
            assert there["leaderboard.json"] in (old, new)
            if there["leaderboard.json"] == new:
                assert tree(tmp_path / "wanted").items() <= there.items()
            write_site(folder, contents([record("de", 3)]))

    def test_two_at_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        write_site(folder, contents([record("de", 3)]))
        (folder / "CNAME").write_text("example.org")
        children = []
        for _ in range(4):
            child = os.fork()
            if not child:
                try:
                    for _ in range(3):
                        write_site(folder, contents(board()))
                except BaseException:
                    os._exit(1)
                os._exit(0)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
        write_site(tmp_path / "wanted", contents(board()))
        assert tree(folder) == tree(tmp_path / "wanted") | {"CNAME": b"example.org"}


@pytest.mark.usefixtures("drawn_before")
class TestStranded:
    """What builds of earlier versions left when they were killed comes back."""

    THEIRS: ClassVar[dict[str, bytes]] = {
        ".git/HEAD": b"ref",
        "CNAME": b"example.org",
        "figures/logo.png": b"logo",
        "samples.jsonl": b"mine\n",
    }

    def old(self, folder: Path) -> Path:
        """The folder as it was moved away, with files of the leaderboard and the user's."""
        write_site(folder, contents(board()))
        for name, content in self.THEIRS.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}.old"))

    @pytest.mark.parametrize("killed", ["before the new one came", "after it came"])
    def test_the_user_s_files_come_back(self, tmp_path: Path, killed: str) -> None:
        folder = tmp_path / "site"
        self.old(folder)
        write_site(tmp_path / "new", contents([record("de", 3)]))
        new = ".site.7.new" if killed == "before the new one came" else "site"
        (tmp_path / "new").rename(tmp_path / new)
        write_site(folder, contents([record("en", 5)]))
        write_site(tmp_path / "wanted", contents([record("en", 5)]))
        files = {name: one for name, one in tree(folder).items() if one != "folder"}
        assert files == tree(tmp_path / "wanted") | self.THEIRS
        assert sorted(path.name for path in tmp_path.iterdir()) == ["site", "wanted"]

    def test_a_name_that_does_not_tell_whose_it_is(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The last version of those called it by a number alone."""
        folder, other = tmp_path / "site", tmp_path / "other"
        write_site(other, contents(board()))
        old = self.old(folder).rename(tmp_path / ".polyrefuse-29-140.old")
        (tmp_path / ".polyrefuse-29-140.partial").mkdir()
        write_site(folder, contents([record("de", 3)]))
        assert str(old) in caplog.text
        assert self.THEIRS.items() <= tree(old).items()
        shutil.rmtree(other)
        for _ in range(2):
            write_site(folder, contents([record("de", 3)]))
            assert self.THEIRS.items() <= tree(folder).items()
            assert [path.name for path in tmp_path.iterdir()] == ["site"]

    def test_killed_while_they_come_back(self, tmp_path: Path) -> None:
        folder = tmp_path / "site"
        self.old(folder)
        for _ in kill_points(lambda: write_site(folder, contents([record("de", 3)]))):
            write_site(folder, contents([record("de", 3)]))
            assert self.THEIRS.items() <= tree(folder).items()
            assert [path.name for path in tmp_path.iterdir()] == ["site"]
            shutil.rmtree(folder)
            self.old(folder)

    def test_nothing_is_overwritten_or_lost(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder = tmp_path / "site"
        old = self.old(folder)
        write_site(tmp_path / "other", contents(board()))
        folder.mkdir()
        for name in ("leaderboard.json", "CNAME"):
            (folder / name).write_bytes((tmp_path / "other/leaderboard.json").read_bytes())
        write_site(folder, contents(board()))
        assert (folder / ".git/HEAD").exists()
        assert (folder / "CNAME").read_bytes() != b"example.org"
        assert (old / "CNAME").read_bytes() == b"example.org"
        assert "copy what you need" in caplog.text

    def test_folders_of_others_beside_it(self, tmp_path: Path) -> None:
        for name in (".site.backup.old", ".other.7.old", ".site.7.older", "site.7.old"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "file").write_text("theirs")
        before = tree(tmp_path)
        write_site(tmp_path / "site", contents(board()))
        assert before.items() <= tree(tmp_path).items()


class TestAnchors:
    """Rows of a test set that a safety prompt was trained on are said beside its rates."""

    @pytest.fixture
    def shown(self) -> Contents:
        prompt: dict[str, Any] = {"condition": "mcd", "intervention": "ab" * 8}
        records = with_means(
            record(language, 3, dataset=dataset, **about)
            for dataset in ("harmful", "multijail", "advbench")
            for language in ("de", "en")
            for about in ({}, prompt)
        )
        records += with_means(
            record(language, 2, dataset="harmless", metric="false_refusal_rate", **about)
            for language in ("de", "en")
            for about in ({}, prompt)
        )
        overlap = {"multijail": 2, "advbench": None}
        rows = [
            replace(row, overlap=overlap if row.condition == "mcd" else {})
            for row in model_rows.rows(records)
        ]
        return Contents("Invented", records, rows)

    def test_in_the_tables_of_that_test_set(self, shown: Contents, tmp_path: Path) -> None:
        write_site(tmp_path / "site", shown)
        text = (tmp_path / "site/leaderboard.md").read_text(encoding="utf-8")
        tables = re.split(r"^## ", text, flags=re.MULTILINE)
        for dataset, said in (
            ("multijail", "| mcd (trained on 2 of these prompts) |"),
            ("advbench", "| mcd (perhaps trained on these prompts) |"),
            ("harmful", "| mcd |"),
        ):
            (found,) = [one for one in tables if one.startswith(f"Attack success rate: {dataset},")]
            assert said in found
            assert found.count("trained on") == (dataset != "harmful")
        tex = (tmp_path / "site/leaderboard.tex").read_text(encoding="utf-8")
        assert "& mcd (trained on 2 of these prompts) &" in tex
        assert tex.count("trained on") == 2

    def test_under_the_scatter(self, shown: Contents, tmp_path: Path) -> None:
        files = write_site(tmp_path / "site", shown)
        drawn = [
            (tmp_path / "site" / file).read_text(encoding="utf-8")
            for file in files
            if "scatter" in file and file.endswith(".svg")
        ]
        assert len(drawn) == 3
        assert sum("mcd, trained on 2 of these prompts" in svg for svg in drawn) == 1

    def test_in_the_data(self, shown: Contents, tmp_path: Path) -> None:
        write_site(tmp_path / "site", shown)
        document = embedded((tmp_path / "site/index.html").read_text(encoding="utf-8"))
        anchors = {subject[2]: subject[7] for subject in document["subjects"]}
        assert anchors == {"baseline": [], "mcd": [["multijail", 2], ["advbench", None]]}
