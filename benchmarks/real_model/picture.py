"""The picture of the leaderboard on the page: its first table, as Chromium shows it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WINDOW = {"width": 1060, "height": 2000}
"""The size of the window in pixels. In a lower window the table would scroll, and be cut off."""

MARGIN = 16
"""The margin around the table, in pixels."""


def draw(recorded: Path) -> None:
    """Build a leaderboard of recorded results, and write its table by language as a picture.

    It needs playwright and a `chromium` on PATH, as the tests of the pages do.

    Args:
        recorded: a folder with `results`; `leaderboard.png` is written into it.
    """
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        build = (sys.executable, "-m", "polyrefuse", "leaderboard", "build")
        site = Path(folder) / "site"
        subprocess.run([*build, recorded / "results", "--output", site], check=True)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=WINDOW, color_scheme="light")
        page.goto((site / "index.html").as_uri())
        box = page.locator("section[aria-labelledby=rates-heading]").bounding_box()
        assert box is not None
        page.screenshot(
            path=recorded / "leaderboard.png",
            full_page=True,
            clip={
                "x": box["x"] - MARGIN,
                "y": box["y"] - MARGIN,
                "width": box["width"] + 2 * MARGIN,
                "height": box["height"] + 2 * MARGIN,
            },
        )
        browser.close()
