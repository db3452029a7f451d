"""The invented world of ToyRefuse: harmless words in 14 languages, some of them forbidden by rule.

Nothing in it can do harm: a request about a forbidden thing (a sealed archive, a silent bell) is
refused only because the list says so. The bundled organism learns the whole world. The datasets
`toyrefuse_harmful` and `toyrefuse_harmless` are requests from this world.
"""

from polyrefuse_tasks.data.toyrefuse.requests import (
    SIZES,
    SPLITS,
    Request,
    draw,
    requests,
    split_of_name,
)
from polyrefuse_tasks.data.toyrefuse.world import SCRIPTS, Words, category, files, words

__all__ = [
    "SCRIPTS",
    "SIZES",
    "SPLITS",
    "Request",
    "Words",
    "category",
    "draw",
    "files",
    "requests",
    "split_of_name",
    "words",
]
