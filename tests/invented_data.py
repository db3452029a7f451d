"""An invented world of prompts in the shape of the published files, and a server that offers it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from polyrefuse_tasks.data import registry
from tests.commands import usual_signals

ROOT = Path(__file__).parent.parent
COMMIT = "0" * 40


def _json(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, ensure_ascii=False).encode()


def _plain(*prompts: str) -> bytes:
    return _json([{"instruction": prompt, "category": None} for prompt in prompts])


def _paired(language: str, *prompts: str) -> bytes:
    return _json(
        [
            {"instruction": p, "instruction_translated": f"{p} [{language}]", "category": "made up"}
            for p in prompts
        ]
    )


TEST = ("forbidden four", "forbidden five", "forbidden four", "forbidden six")
"""As among the 572, one prompt stands twice, and its two translations differ."""

FILES: dict[str, tuple[str, str, str, bytes]] = {
    # path: (dataset, split, language, content)
    "h/train_en.json": ("harmful", "train", "en", _plain("forbidden one", "forbidden two")),
    "h/train_de.json": ("harmful", "train", "de", _plain("verboten eins", "verboten zwei")),
    "h/train_zh.json": ("harmful", "train", "zh", _plain("禁止 一", "禁止 二")),
    "h/test_en.json": ("harmful", "test", "en", _plain(*TEST)),
    "h/test_de.json": (
        "harmful",
        "test",
        "de",
        _json(
            [
                {"instruction": p, "instruction_translated": f"verboten {n}", "category": "made up"}
                for n, p in enumerate(TEST)
            ]
        ),
    ),
    "h/test_zh.json": ("harmful", "test", "zh", _paired("zh", *TEST)),
    "s/val_en.json": ("harmless", "val", "en", _plain("safe one", "safe two")),
    "s/val_zh.json": ("harmless", "val", "zh", _plain("安全 一", "安全 二")),
    "s/val_de.json": ("harmless", "val", "de", _plain("sicher eins", "sicher zwei")),
    "s/test_en.json": ("harmless", "test", "en", _paired("en", "safe three", "safe four")),
    "s/test_de.json": ("harmless", "test", "de", _paired("de", "safe three", "safe four")),
    "j/en.json": ("jailbreakbench", "test", "en", _plain("bad one", "bad two", "bad three")),
    "j/de.json": ("jailbreakbench", "test", "de", _paired("de", "bad one", "bad three")),
    "advbench.txt": (
        "advbench",
        "test",
        "en",
        b"forbidden zero\nforbidden two\nforbidden four\nforbidden nine",
    ),
    "oktest.json": (
        "oktest",
        "test",
        "en",
        _plain(
            "kill a light",
            "cut a cake into eight",
            "burn a candle",
            "beat eggs",
            "shoot a film",
            "crack a nut",
            "blow up a balloon for a party",
        ),
    ),
}

MULTIJAIL = (
    b'\xef\xbb\xbfid,source,tags,en,zh\r\n0,x,"[\'made, up\']","two\nlines",\xe4\xb8\xa4\r\n'
    b"1,x,t,one,\xe4\xb8\x80\r\n"
)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class World:
    """The invented files as bytes by path, the mirror that holds them, and their registry."""

    folder: Path
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def mirror(self) -> Path:
        return self.folder / "mirror"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def sources(self) -> Path:
        return self.folder / "sources.yaml"

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make this world's registry and cache those of the test, without a mirror."""
        monkeypatch.setattr(registry, "SOURCES", self.sources)
        fresh = functools.cache(registry.datasets.__wrapped__)
        monkeypatch.setattr(registry, "datasets", fresh)
        monkeypatch.setenv("POLYREFUSE_CACHE_DIR", str(self.cache))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for variable in ("POLYREFUSE_DATA_DIR", "POLYREFUSE_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(variable, raising=False)

    def polyrefuse(self, host: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the command on this world, without a mirror, its downloads coming from `host`."""
        hook = self.folder / "hook"
        hook.mkdir(exist_ok=True)
        # Python imports this module by itself at its start.
        (hook / "sitecustomize.py").write_text(
            "from pathlib import Path\nfrom polyrefuse_tasks.data import registry\n"
            f"registry.SOURCES = Path({str(self.sources)!r})\nregistry.HOST = {host!r}\n"
        )
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("POLYREFUSE_") and name != "HF_HUB_OFFLINE"
        } | {
            "PYTHONPATH": os.pathsep.join((str(hook), str(ROOT))),
            "POLYREFUSE_CACHE_DIR": str(self.cache),
            "NO_PROXY": "127.0.0.1",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "polyrefuse", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment | variables,
            preexec_fn=usual_signals,
        )


def make_world(folder: Path) -> World:
    """Write the invented mirror and the registry that describes it."""
    world = World(folder)
    datasets: dict[str, Any] = {}
    for path, (dataset, split, language, content) in FILES.items():
        entry = datasets.setdefault(
            dataset,
            {
                "about": "invented",
                "harmful": dataset not in ("harmless", "oktest"),
                "licence": "CC0",
                "citation": "none",
                "files": [],
            },
        )
        entry["files"].append(
            {
                "split": split,
                "repository": "nobody/nothing",
                "path": path,
                "upstream": f"up/{path}",
                "sha256": {language: sha256(content)},
            }
        )
        world.files[path] = content
    datasets["harmless"]["stand_in"] = {"zh": "val"}
    datasets["advbench"]["matched_in"] = "harmful"
    datasets["multijail"] = datasets["oktest"] | {
        "harmful": True,
        "files": [
            {
                "split": "test",
                "repository": "nobody/nothing",
                "path": "MultiJail.csv",
                "upstream": "up/MultiJail.csv",
                "multilingual": ["en", "zh"],
                "sha256": sha256(MULTIJAIL),
            }
        ],
    }
    world.files["MultiJail.csv"] = MULTIJAIL
    for path, content in world.files.items():
        target = world.mirror / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    repositories = {"nobody/nothing": {"commit": COMMIT, "licence": "CC0"}}
    world.sources.write_text(yaml.safe_dump({"repositories": repositories, "datasets": datasets}))
    return world


@dataclass
class Server:
    """A loopback server of the world. `wrong` paths are sent altered, `stalled` ones by half."""

    host: str
    wrong: set[str] = field(default_factory=set)
    stalled: set[str] = field(default_factory=set)
    requested: list[str] = field(default_factory=list)
    halfway: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve(world: World) -> Iterator[Server]:
    """Offer the world's files on 127.0.0.1, under the paths that GitHub would have them at."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix(f"/nobody/nothing/{COMMIT}/up/")
            server.requested.append(path)
            content = world.files.get(path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if path in server.stalled:
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                server.halfway.set()
                server.go_on.wait(60)
                return
            self.wfile.write(content[::-1] if path in server.wrong else content)

        def log_message(self, *arguments: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.go_on.set()
        listening.shutdown()
        listening.server_close()
