"""What setup.cfg says of the versions that were tried, held to what CI installs and it allows."""

from __future__ import annotations

import re
from configparser import ConfigParser

from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT

SETUP = (ROOT / "setup.cfg").read_text(encoding="utf-8")


def tried(where: str) -> list[str]:
    """The versions on the line about `where`, in the order in which they stand there."""
    (line,) = re.findall(rf"# Tried {where}: (.+)", SETUP)
    return re.findall(r"\d+(?:\.\d+)+", line)


def allowed() -> dict[str, Requirement]:
    config = ConfigParser()
    config.read_string(SETUP)
    lines = config["options"]["install_requires"].split("\n")
    return {one.name: one for one in map(Requirement, filter(None, lines))}


def test_ci_installs_what_setup_cfg_says() -> None:
    pinned = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text()))
    assert tried("in CI") == [pinned[name] for name in ("torch", "transformers", "lm_eval")]


def test_what_is_allowed_begins_with_what_was_tried() -> None:
    by_hand = tried("by hand")
    lowest = {}
    for name in "torch", "transformers":
        (bound,) = allowed()[name].specifier
        assert bound.operator == ">="
        lowest[name] = Version(bound.version).release[:2]
    oldest = [Version(one).release[:2] for one in by_hand[-2:]]
    assert oldest == [lowest["torch"], lowest["transformers"]]
