"""Translate saved answers into English, for judges that read only English.

Answers are translated line by line, and long lines sentence by sentence, because translation models
are trained on sentences. The user's cache keeps each translation by text and model, so neither
another judge nor another run translates a text twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyrefuse_shared.drafts import make_folder
from polyrefuse_shared.reading import folder_sha256, regular_file
from polyrefuse_shared.writing import cannot_write
from polyrefuse_tasks.data import cache

if TYPE_CHECKING:
    from polyrefuse_tasks.data.translation_models import Translator

FOLDER = "answers_in_english"

AT_MOST = 2**33
"""The largest size of a file of translations, in bytes."""

MOST_CHARACTERS = 400
"""The longest text, in characters, that is translated as a whole, because the models were trained
on a sentence or two."""

_SENTENCE = re.compile(r"[^.!?。！？।۔]+[.!?。！？।۔]*\s*|[.!?。！？।۔]+\s*")


class EnglishAnswers:
    """Translates texts into English, each of them once.

    Args:
        model: a sequence-to-sequence model on the hub, or a folder with one.
        batch_size: how many pieces of text are translated at a time.
    """

    def __init__(self, model: str, batch_size: int = 16) -> None:
        self.model = model
        self.batch_size = batch_size

    @cached_property
    def translator(self) -> Translator:
        """The model, which is loaded with the first text.

        Raises:
            TranslationFailed: the model cannot be loaded.
        """
        from polyrefuse_tasks.data.translation_models import load

        return load(self.model)

    @cached_property
    def revision(self) -> str:
        """The name of the model with the hub's commit or a checksum, which identifies it."""
        name, commit = self.translator.name, self.translator.revision
        return f"{name}@{commit or 'sha256:' + folder_sha256(Path(name))}"

    def translate(self, texts: Iterable[str], language: str) -> list[str]:
        """Translate each text into English and keep its lines.

        Args:
            texts: the texts, all in one language.
            language: the ISO 639-1 code of the texts.

        Raises:
            TranslationFailed: the model cannot be loaded, or does not know the language.
            CannotWrite: the cache cannot be written.
        """
        asked = list(texts)
        pieces = {piece.strip() for text in asked for piece in _pieces(text)} - {""}
        waiting = [piece for piece in pieces if self._key(piece, language) not in self._known]
        # Pieces of similar length waste no padding; the order is the same in every run.
        waiting.sort(key=lambda piece: (len(piece), piece))
        for begin in range(0, len(waiting), self.batch_size):
            batch = waiting[begin : begin + self.batch_size]
            english = self.translator.translate(batch, language, "en")
            keys = (self._key(piece, language) for piece in batch)
            self._keep(dict(zip(keys, english, strict=True)))
        return [self._whole(text, language) for text in asked]

    def _whole(self, text: str, language: str) -> str:
        parts = []
        for piece in _pieces(text):
            core = piece.strip()
            english = self._known[self._key(core, language)] if core else ""
            # The white space around the text, such as indentation and line breaks, stays.
            lead, _, tail = piece.partition(core) if core else (piece, "", "")
            parts.append(lead + english + tail)
        return "".join(parts)

    def _key(self, piece: str, language: str) -> str:
        return hashlib.sha256(f"{language}\0{piece}".encode("utf-8", "replace")).hexdigest()

    @cached_property
    def _path(self) -> Path:
        name = hashlib.sha256(self.revision.encode()).hexdigest()[:16]
        return cache.cache() / FOLDER / f"{name}.jsonl"

    @cached_property
    def _known(self) -> dict[str, str]:
        """The sha256 of language and text -> the English text; cut lines are left out."""
        known: dict[str, str] = {}
        try:
            with regular_file(self._path, AT_MOST) as file:
                for line in file:
                    try:
                        row: Any = json.loads(line)
                        known[row["sha256"]] = row["english"]
                    except (ValueError, TypeError, KeyError):
                        continue
        except OSError:
            return known
        return known

    def _keep(self, translated: dict[str, str]) -> None:
        lines = "".join(
            json.dumps({"sha256": key, "english": text}, ensure_ascii=False) + "\n"
            for key, text in translated.items()
        )
        try:
            make_folder(self._path.parent)
            with open(self._path, "ab") as file:
                # The line break comes first, so that it ends the torn line of a killed process.
                file.write(b"\n" + lines.encode("utf-8", "replace"))
        except OSError as error:
            raise cannot_write(self._path, error) from None
        self._known.update(translated)


def _pieces(text: str) -> Iterator[str]:
    """Split a text into lines, and long lines into sentences; joined, they are the text."""
    for line in text.splitlines(keepends=True):
        if len(line) <= MOST_CHARACTERS:
            yield line
            continue
        held = ""
        for sentence in _SENTENCE.findall(line):
            if held and len(held) + len(sentence) > MOST_CHARACTERS:
                yield held
                held = ""
            held += sentence
            while len(held) > MOST_CHARACTERS:
                yield held[:MOST_CHARACTERS]
                held = held[MOST_CHARACTERS:]
        if held:
            yield held
