"""What tests of the pages begin with, and how they read a page."""

from __future__ import annotations

import json
import re
from typing import Any

from polyrefuse_leaderboard import model_rows
from polyrefuse_leaderboard.contents import Contents
from polyrefuse_leaderboard.records import Record


def contents(records: list[Record], **more: Any) -> Contents:
    """Records with their rows, under the title "Invented"."""
    return Contents("Invented", records, model_rows.rows(records), **more)


def embedded(html: str) -> dict[str, Any]:
    """The data of a page's tables."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    document: dict[str, Any] = json.loads(text)
    return document
