"""Read the user's own prompts from a JSONL or CSV file, check them, and add them as a dataset.

No message quotes a prompt, because it may be harmful. Messages name rows by their place.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from polyrefuse_shared.errors import UserError
from polyrefuse_shared.reading import RepeatedKey, parse_json, read_bytes
from polyrefuse_tasks.configs import FAMILIES, files
from polyrefuse_tasks.data import own_datasets, registry
from polyrefuse_tasks.data.own_datasets import KINDS, NAME, SPLITS, OwnRow, OwnSet
from polyrefuse_tasks.data.own_translations import CODE
from polyrefuse_tasks.language_identification import can_identify, response_language
from polyrefuse_tasks.languages import NAMES

AT_MOST = 2**28
"""The largest size of the file, in bytes."""

MOST_CHARACTERS = 32_768
"""The longest prompt, in characters: no published prompt has a tenth of them."""

LONGEST_NAME = 40
"""The longest name of a dataset, in characters."""

LONGEST_FIELD = 200
"""The longest id, category or pair, in characters."""

SHOWN = 5
"""The most places that one message names."""

UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
"""Invisible characters: soft hyphens, joiners, direction marks and byte-order marks."""

COLUMNS = ("prompt", "id", "category", "language", "harmful", "pair", "split")

TRUTH: Mapping[str, bool] = {
    **dict.fromkeys(("true", "1", "yes", "harmful", "unsafe"), True),
    **dict.fromkeys(("false", "0", "no", "harmless", "safe"), False),
}
"""The values of the column `harmful`, in upper or lower case."""

TAKEN = frozenset({"polyrefuse", "toyrefuse", "custom", "mcd", "xstest", "xstest_original"})
"""Names that this package uses for something other than a dataset."""


class BadPrompts(UserError):
    """A file of prompts or a name cannot be used; the message names rows by their place."""


@dataclass(frozen=True)
class Report:
    """The result of checking a file.

    Attributes:
        rows: the rows to add, in the file's order.
        lengths: characters of the shortest, the median and the longest prompt.
        notes: sentences that the user should read.
    """

    rows: tuple[OwnRow, ...]
    lengths: tuple[int, int, int]
    notes: tuple[str, ...]

    @property
    def pairs(self) -> int:
        """The number of pairs of a harmful and a harmless row, over all languages."""
        return sum(row.pair is not None for row in self.rows) // 2


def require_free(name: str) -> None:
    """Refuse a name that a dataset cannot have, or that is already used.

    Raises:
        BadPrompts: the message says why.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise BadPrompts(
            f"{name!a} cannot be a dataset's name: use lowercase letters, digits and single "
            f"underscores, begin with a letter, and use at most {LONGEST_NAME} characters."
        )
    ending = name.rpartition("_")[2]
    if "_" in name and (ending in NAMES or can_identify(ending)):
        raise BadPrompts(
            f"{name} ends in the code of a language ({ending}), so polyrefuse_{name} could be the "
            f"task of {name.removesuffix(f'_{ending}')} in that language: choose another name."
        )
    mine = own_datasets.reserved_names(name)
    built_in = TAKEN | registry.datasets().keys() | {family.name for family in FAMILIES}
    # The names of tasks have an underscore, and those of groups a hyphen.
    built_in |= {re.sub("^polyrefuse[_-]", "", Path(path).stem) for path in files()}
    for one in mine:
        if one in built_in:
            raise BadPrompts(f"The name {one} is built in: choose a name other than {name}.")
    for other in own_datasets.sets():
        if other.name != name and {*mine} & {*own_datasets.reserved_names(other.name)}:
            raise BadPrompts(
                f"The name {name} would be confused with your dataset {other.name}, whose rows "
                f"of one kind are {' or '.join(own_datasets.reserved_names(other.name)[1:])}: "
                "choose another name."
            )


def read_prompts(
    path: Path,
    *,
    languages: Sequence[str] = (),
    harmful: bool | None = None,
    trust_languages: bool = False,
) -> Report:
    """Read and check the rows of a file.

    Args:
        path: a .jsonl or .csv file in UTF-8, with the columns `COLUMNS`, of which only `prompt` is
            required.
        languages: the codes that rows may have. Rows without a language get the only one of them,
            or English if none is given.
        harmful: whether rows without a column `harmful` are harmful; None requires the column.
        trust_languages: whether to accept the claimed languages, whatever py3langid identifies.

    Raises:
        BadPrompts: the file or one of its rows cannot be used; the message names the row.
    """
    entries = list(_entries(path))
    if not entries:
        raise BadPrompts(f"{path} holds no rows: give it at least one row with a prompt.")
    for language in languages:
        _require_code(language, "--langs")
    places = [where for where, _ in entries]
    rows = [_row(entry, where, languages, harmful) for where, entry in entries]
    rows = _with_ids(rows, entries)
    _refuse_duplicates(rows, places)
    _require_consistent(rows, places)
    _require_whole_pairs(rows, places)
    notes = [*_ignored(entries), *_identified(rows, places, trust_languages)]
    if not any(row.split == "test" for row in rows):
        notes.append("No row is in the split test, so there is no task to run.")
    lengths = sorted(len(row.prompt) for row in rows)
    return Report(tuple(rows), (lengths[0], int(median(lengths)), lengths[-1]), tuple(notes))


def add(name: str, report: Report, *, replace: bool = False) -> tuple[OwnSet, bool]:
    """Write checked rows as a dataset; see `own_datasets.write_set`.

    Raises:
        BadPrompts: see `require_free`.
        CannotWrite, BrokenData: see `own_datasets.write_set`.
    """
    require_free(name)
    return own_datasets.write_set(name, report.rows, replace=replace)


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of each row in words, and the columns of the row that are not empty."""
    readers = {".jsonl": _json_lines, ".csv": _table}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadPrompts(f"{path} is neither a .jsonl nor a .csv file: give one of these.")
    try:
        text = read_bytes(path, AT_MOST).decode("utf-8-sig")
    except OSError as error:
        raise BadPrompts(f"{path} cannot be read ({error.strerror}): name another file.") from None
    except UnicodeDecodeError as error:
        raise BadPrompts(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from None
    for where, entry in reader(path, text):
        known = {name: value for name, value in entry.items() if value not in (None, "")}
        yield where, known


def _json_lines(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            entry = parse_json(line, unique=True)
        except RepeatedKey as repeated:
            raise BadPrompts(f"{where} cannot be used ({repeated}): remove one of them.") from None
        except ValueError:
            raise BadPrompts(f"{where} is not JSON: write one object on each line.") from None
        if not isinstance(entry, dict):
            raise BadPrompts(f"{where} is not a JSON object: write one object on each line.")
        yield where, entry


def _table(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0
    try:
        heads = [head.strip() for head in next(table, [])]
        if "prompt" not in heads:
            raise BadPrompts(
                f"{path} has no column named prompt in its first line: rename the column that has "
                "the prompts, and put commas between columns."
            )
        twice = next((head for head, count in Counter(heads).items() if count > 1), None)
        if twice is not None:
            raise BadPrompts(f"{path} has the column {twice!a} twice; remove one.")
        for number, cells in enumerate(table, 1):
            if not any(cell.strip() for cell in cells):
                continue
            where = f"{path}, row {number}"
            if len(cells) != len(heads):
                raise BadPrompts(
                    f"{where} has {len(cells)} columns and the first line {len(heads)}: put a "
                    "prompt with commas into double quotes."
                )
            yield where, dict(zip(heads, cells, strict=True))
    except csv.Error:
        raise BadPrompts(
            f"{path}, row {number + 1} cannot be read as CSV: check its double quotes, write those "
            f"inside a prompt twice, and use at most {csv.field_size_limit():,} characters a field."
        ) from None


def _row(
    entry: Mapping[str, Any], where: str, languages: Sequence[str], harmful: bool | None
) -> OwnRow:
    prompt = entry.get("prompt")
    if not isinstance(prompt, str) or not UNSEEN.sub("", prompt).strip():
        raise BadPrompts(f"{where} has no prompt: fill in the column `prompt`, or remove the row.")
    if len(prompt) > MOST_CHARACTERS:
        raise BadPrompts(
            f"{where} has a prompt of {len(prompt):,} characters, more than {MOST_CHARACTERS:,}: "
            "shorten it, or check where it ends."
        )
    if any(unicodedata.category(mark) in ("Cc", "Cs") and mark not in "\t\r\n" for mark in prompt):
        raise BadPrompts(f"{where} has a control character in its prompt: remove it.")
    split = _field(entry, "split", where) or "test"
    if split not in SPLITS:
        raise BadPrompts(f"{where} has the split {split!a}: choose from {', '.join(SPLITS)}.")
    return OwnRow(
        id=_field(entry, "id", where) or "",
        prompt=prompt,
        language=_language(entry, where, languages),
        harmful=_harmful(entry, where, harmful),
        category=_field(entry, "category", where),
        pair=_field(entry, "pair", where),
        split=split,
    )


def _field(entry: Mapping[str, Any], name: str, where: str) -> str | None:
    value = entry.get(name)
    if value is None:
        return None
    # One form of Unicode makes an id or a pair the same, whatever keyboard it was typed on. Python
    # counts a boolean as an integer, but it is not a name.
    usable = isinstance(value, str | int) and not isinstance(value, bool)
    text = unicodedata.normalize("NFC", str(value)).strip() if usable else ""
    if not text or not text.isprintable() or len(text) > LONGEST_FIELD:
        raise BadPrompts(
            f"{where}: its {name} must be a whole number, or text on one line, of at most "
            f"{LONGEST_FIELD} characters: correct it."
        )
    return text


def _language(entry: Mapping[str, Any], where: str, languages: Sequence[str]) -> str:
    claimed = _field(entry, "language", where)
    if claimed is None:
        if len(languages) > 1:
            raise BadPrompts(
                f"{where} names no language, and --langs has {', '.join(languages)}: fill in the "
                "column `language`."
            )
        return languages[0] if languages else "en"
    _require_code(claimed, where)
    if languages and claimed not in languages:
        raise BadPrompts(
            f"{where} is in {claimed!a}, which --langs {','.join(languages)} does not name: "
            "correct one of the two."
        )
    return claimed


def _require_code(language: str, where: str) -> None:
    if not CODE.fullmatch(language):
        raise BadPrompts(
            f"{where} has the language {language!a}, which is not a code: give one such as de."
        )


def _harmful(entry: Mapping[str, Any], where: str, harmful: bool | None) -> bool:
    given = entry.get("harmful")
    if given is None:
        if harmful is None:
            raise BadPrompts(
                f"{where} does not say whether it is harmful: fill in the column `harmful`, or "
                "give --harmful or --harmless."
            )
        return harmful
    in_row = TRUTH.get(str(given).strip().lower()) if isinstance(given, str | int) else None
    if in_row is None:
        raise BadPrompts(f"{where} has a `harmful` that is neither true nor false: correct it.")
    if harmful not in (None, in_row):
        raise BadPrompts(
            f"{where} is {KINDS[in_row]} by its column, and --{KINDS[not in_row]} says otherwise: "
            "leave out one of the two."
        )
    return in_row


def _with_ids(
    rows: Sequence[OwnRow], entries: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[OwnRow]:
    """Give each row its id from the file, or its place in the file; all or none have their own."""
    missing = [where for row, (where, _) in zip(rows, entries, strict=True) if not row.id]
    if missing and len(missing) < len(rows):
        raise BadPrompts(f"{missing[0]} has no id, but other rows have one: fill in all or none.")
    if not missing:
        return list(rows)
    return [replace(row, id=f"{place:04}") for place, row in enumerate(rows)]


def _refuse_duplicates(rows: Sequence[OwnRow], places: Sequence[str]) -> None:
    ids: dict[tuple[str, str], int] = {}
    prompts: dict[tuple[str, str], int] = {}
    twice: list[str] = []
    for place, row in enumerate(rows):
        same_id = ids.setdefault((row.language, row.id), place)
        if same_id != place:
            raise BadPrompts(
                f"{places[place]} has the id {row.id!a} in {row.language} a second time "
                f"({_short(places[same_id])} has it first): give each prompt an id of its own."
            )
        same = prompts.setdefault((row.language, _normalised(row.prompt)), place)
        if same != place:
            twice.append(f"{_short(places[place])} as {_short(places[same])}")
    if twice:
        file = places[0].rpartition(",")[0]
        raise BadPrompts(
            f"{file} has the same prompt more than once ({_listed(twice)}): remove the duplicates."
        )


def _normalised(prompt: str) -> str:
    seen = UNSEEN.sub("", unicodedata.normalize("NFKC", prompt))
    return re.sub(r"\s+", " ", seen).strip().casefold()


def _require_consistent(rows: Sequence[OwnRow], places: Sequence[str]) -> None:
    """Require that rows with the same id, which are translations, agree in everything else."""
    first: dict[str, int] = {}
    for place, row in enumerate(rows):
        before = rows[first.setdefault(row.id, place)]
        for name in ("harmful", "pair", "split"):
            if getattr(row, name) != getattr(before, name):
                raise BadPrompts(
                    f"{places[place]} has another `{name}` than {_short(places[first[row.id]])}, "
                    f"with which it shares the id {row.id!a}: translations of a prompt must agree."
                )


def _require_whole_pairs(rows: Sequence[OwnRow], places: Sequence[str]) -> None:
    pairs: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row.pair is not None:
            pairs[row.language, row.pair].append(place)
    for (language, pair), members in pairs.items():
        kinds = sorted(rows[place].harmful for place in members)
        if kinds != [False, True]:
            raise BadPrompts(
                f"{places[members[0]]}: the pair {pair!a} in {language} has "
                f"{kinds.count(True)} harmful and {kinds.count(False)} harmless rows, but a pair "
                "needs one of each."
            )
        if len({rows[place].split for place in members}) > 1:
            raise BadPrompts(
                f"{places[members[0]]}: the two rows of the pair {pair!a} are in different splits: "
                "put both into one."
            )


def _ignored(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    others = sorted({name for _, entry in entries for name in entry} - {*COLUMNS})
    if others:
        named = ", ".join(f"{name!a}" for name in others[:SHOWN])
        yield f"Columns that are not read: {named}{' and more' if others[SHOWN:] else ''}."


def _identified(
    rows: Sequence[OwnRow], places: Sequence[str], trust_languages: bool
) -> Iterator[str]:
    """Yield sentences about prompts that seem to be in a language other than the claimed one.

    The language of a few in a hundred short prompts is identified wrongly, so a few mismatches only
    cause a note. If most prompts of a language are in another language, the claim is a mistake.

    Raises:
        BadPrompts: more than half of the prompts of a language are in another language.
    """
    for language in sorted({row.language for row in rows}):
        members = [place for place, row in enumerate(rows) if row.language == language]
        if not can_identify(language):
            yield f"The language {language} cannot be identified, so it was not checked."
            continue
        found = {place: response_language(rows[place].prompt, language) for place in members}
        others = [place for place in members if found[place] != language]
        if not others:
            continue
        named = _listed([f"{_short(places[place])}: {found[place]}" for place in others])
        sentence = (
            f"{len(others)} of {len(members)} prompts claimed to be in {language} are identified "
            f"as another language ({named})"
        )
        if 2 * len(others) > len(members) and not trust_languages:
            raise BadPrompts(
                f"{sentence}: correct the languages (--langs, or the column `language`), or add "
                "--trust-languages if they are right."
            )
        yield f"{sentence}: check them."


def _short(place: str) -> str:
    """Return a place without its file, such as `line 3`."""
    return place.rpartition(", ")[2]


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - SHOWN
    return "; ".join(texts[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
