"""Give the safety prompts in words by name. safety_prompts.yaml has their texts and sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

import yaml


class _Named(Mapping[str, str]):
    """A mapping of names to texts. The file is read at the first use, and not at import."""

    def __getitem__(self, name: str) -> str:
        return _texts()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_texts())

    def __len__(self) -> int:
        return len(_texts())


@cache
def _texts() -> dict[str, str]:
    return yaml.safe_load(
        files(__package__).joinpath("safety_prompts.yaml").read_text(encoding="utf-8")
    )


SAFETY_PROMPTS: Mapping[str, str] = _Named()
"""Name -> text of the safety prompts `default`, `short` and `mistral`."""
