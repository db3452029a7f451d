"""The YAML of a study's file: unique keys, and only text, numbers, lists and mappings.

Plain words are read as in YAML 1.2: "no" is Norwegian and not a boolean, a date is text, and `1e-4`
is a number.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

MOST_DEPTH = 50
"""The greatest depth of lists and mappings in a file."""

MOST_VALUES = 100_000
"""The greatest number of values in a file. A value that an alias repeats counts each time."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"

_PLAIN = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
)
"""The core schema of YAML 1.2, and the merge key, which YAML 1.2 dropped and everybody uses."""


class BadYaml(ValueError):
    """Text is not YAML, or contains what a study cannot; the message is part of a sentence."""


def parse(text: str) -> Any:
    """Parse YAML into None, texts, booleans, finite numbers, lists and dictionaries.

    Raises:
        BadYaml: the text is broken, has a key twice, or contains something else.
    """
    try:
        content = yaml.load(text, _Loader)
    except RecursionError:
        raise BadYaml(f"it is nested more than {MOST_DEPTH} levels deep") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = "" if mark is None else f" (line {mark.line + 1})"
        raise BadYaml(f"{error.problem or 'it cannot be read'}{place}") from None
    except yaml.YAMLError as error:
        raise BadYaml(" ".join(str(error).split())) from None
    _require_usable(content)
    return content


class _Loader(yaml.SafeLoader):
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    own: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        value = loader.construct_object(value_node, deep=True)
        if key_node.tag == _MERGE:
            for one in reversed(value if isinstance(value, list) else [value]):
                if not isinstance(one, dict):
                    raise _problem("<< takes only mappings", key_node)
                merged |= one
            continue
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, bool | dict | list) or key is None:
            raise _problem("a key is not text", key_node)
        if str(key) in own:
            raise _problem(f"the key {_cut(str(key))!r} occurs twice", key_node)
        own[str(key)] = value
    return merged | own


def _list(loader: _Loader, node: yaml.SequenceNode) -> list[Any]:
    return [loader.construct_object(one, deep=True) for one in node.value]


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    if not re.fullmatch(_PLAIN[2][1], text) or len(text) > 25:
        raise _problem(f"{_cut(text)!r} is not a usable whole number", node)
    return int(text)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(node.value)
    number = float(text) if re.fullmatch(_PLAIN[3][1], text) else math.inf
    if not math.isfinite(number):
        raise _problem(f"{_cut(text)!r} is not a finite number; put text in quotes", node)
    return number


def _boolean(loader: _Loader, node: yaml.ScalarNode) -> bool:
    if not re.fullmatch(_PLAIN[1][1], str(node.value)):
        raise _problem(f"{_cut(str(node.value))!r} is neither true nor false", node)
    return str(node.value).lower() == "true"


def _other(loader: _Loader, node: yaml.Node) -> Any:
    raise _problem(f"the tag {_cut(str(node.tag).replace(_TAG, '!!'))} has no meaning here", node)


_Loader.yaml_constructors = {
    f"{_TAG}null": yaml.SafeLoader.construct_yaml_null,
    f"{_TAG}bool": _boolean,
    f"{_TAG}int": _whole,
    f"{_TAG}float": _number,
    f"{_TAG}str": yaml.SafeLoader.construct_yaml_str,
    f"{_TAG}seq": _list,
    f"{_TAG}map": _mapping,
    # A merge key where a value belongs is read as text.
    _MERGE: yaml.SafeLoader.construct_yaml_str,
    None: _other,
}
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


def _problem(what: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)


def _require_usable(content: Any) -> None:
    """Check that a document is small enough and that its texts could be file names.

    Raises:
        BadYaml: it is too deep or too large, or contains a text that cannot be a file name.
    """
    # Aliases share objects, so that each object is checked once, however often it is repeated.
    sizes: dict[int, int] = {}

    def size(value: Any, depth: int) -> int:
        if depth > MOST_DEPTH:
            raise BadYaml(f"it is nested more than {MOST_DEPTH} levels deep")
        if isinstance(value, str):
            _require_text(value)
        if not isinstance(value, dict | list):
            return 1
        if id(value) not in sizes:
            inside = [*value, *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(one, depth + 1) for one in inside)
        if sizes[id(value)] > MOST_VALUES:
            raise BadYaml(f"with its aliases it has more than {MOST_VALUES} values")
        return sizes[id(value)]

    size(content, 0)


def _require_text(text: str) -> None:
    if "\0" in text:
        raise BadYaml(f"{_cut(text)!r} holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadYaml(f"{_cut(text)!a} holds half of a surrogate pair") from None


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
