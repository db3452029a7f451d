"""Translation models: sequence-to-sequence models of the Hugging Face hub, or of a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polyrefuse_shared.errors import first_line
from polyrefuse_tasks.data import cache
from polyrefuse_tasks.data.errors import TranslationFailed
from polyrefuse_tasks.languages import NAMES

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NEW_TOKENS = 512

FLORES: dict[str, str] = {
    "ar": "arb_Arab",
    "bn": "ben_Beng",
    "cs": "ces_Latn",
    "da": "dan_Latn",
    "de": "deu_Latn",
    "el": "ell_Grek",
    "en": "eng_Latn",
    "es": "spa_Latn",
    "fa": "pes_Arab",
    "fr": "fra_Latn",
    "ga": "gle_Latn",
    "hi": "hin_Deva",
    "hu": "hun_Latn",
    "id": "ind_Latn",
    "it": "ita_Latn",
    "ja": "jpn_Jpan",
    "jv": "jav_Latn",
    "ko": "kor_Hang",
    "ms": "zsm_Latn",
    "nl": "nld_Latn",
    "pl": "pol_Latn",
    "pt": "por_Latn",
    "ro": "ron_Latn",
    "ru": "rus_Cyrl",
    "sv": "swe_Latn",
    "sw": "swh_Latn",
    "th": "tha_Thai",
    "tr": "tur_Latn",
    "uk": "ukr_Cyrl",
    "ur": "urd_Arab",
    "vi": "vie_Latn",
    "yo": "yor_Latn",
    "zh": "zho_Hans",
}
"""NLLB's codes (FLORES-200, arXiv 2207.04672) of the languages in `polyrefuse_tasks.languages`."""


@dataclass(frozen=True)
class Translator:
    """A loaded translation model; `revision` is None for a local folder."""

    name: str
    revision: str | None
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def translate(self, texts: list[str], source: str, target: str) -> list[str]:
        """Translate texts in one batch, with greedy decoding.

        Args:
            texts: at least one text, none of which is longer than the model's positions.
            source: the ISO 639-1 code of the texts' language.
            target: the ISO 639-1 code of the language to translate into.

        Raises:
            TranslationFailed: the model has language codes, but none for one of the two languages.
        """
        import torch

        tokenizer: Any = self.tokenizer
        model: Any = self.model  # torch's type of `generate` covers anything a module may hold
        positions = self.positions
        options: dict[str, Any] = {
            # This leaves room for the start tokens: some models fail past their position table.
            "max_new_tokens": min(MAX_NEW_TOKENS, positions - 2) if positions else MAX_NEW_TOKENS,
            "do_sample": False,
        }
        codes = language_code(tokenizer, source), language_code(tokenizer, target)
        if codes[0] and codes[1]:
            tokenizer.src_lang = codes[0][0]
            options["forced_bos_token_id"] = codes[1][1]
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs.to(model.device), **options)
        return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    @property
    def positions(self) -> int | None:
        """The largest number of tokens that the model reads; None if it has no such limit."""
        positions: int | None = getattr(self.model.config, "max_position_embeddings", None)
        return positions


def load(name: str) -> Translator:
    """Load a translation model.

    Raises:
        TranslationFailed: the model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    # Without trust_remote_code=False, transformers would ask whether a repository's code may run.
    settings = {"local_files_only": cache.offline() is not None, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **settings)
        model = AutoModelForSeq2SeqLM.from_pretrained(name, **settings)
    except Exception as error:
        # torch, transformers and safetensors each raise errors of their own.
        reason = first_line(error).rstrip(".: ")
        raise TranslationFailed(
            f"{name} cannot be loaded as a translation model ({reason}): name a "
            "sequence-to-sequence model on the Hugging Face hub, or a folder with one."
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    revision = getattr(model.config, "_commit_hash", None)
    return Translator(name, revision, model.to(device).eval(), tokenizer)


def language_code(tokenizer: PreTrainedTokenizerBase, language: str) -> tuple[str, int] | None:
    """Return a tokenizer's code for a language, and the token that starts a translation into it.

    Returns:
        (value of `src_lang`, token id), or None for a model without language codes, which
        translates between the two languages it was made for (Marian, T5).

    Raises:
        TranslationFailed: the model has language codes, but none for this one.
    """
    if hasattr(tokenizer, "get_lang_id"):  # M2M100
        codes = {code: tokenizer.get_lang_id(code) for code in tokenizer.lang_code_to_token}
        spelled = re.compile(re.escape(language))
    else:
        tokens = tokenizer.get_added_vocab()
        codes = {token: id_ for token, id_ in tokens.items() if _CODE.fullmatch(token)}
        # NLLB (deu_Latn) or mBART-50 (de_DE)
        spelled = re.compile(rf"{FLORES[language]}|{language}_[A-Z]{{2}}")
    if not codes:
        return None
    for code, id_ in codes.items():
        if spelled.fullmatch(code):
            return code, id_
    raise TranslationFailed(
        f"{tokenizer.name_or_path} has no code for {NAMES[language]} ({language!r}): "
        "choose a model that knows this language."
    )


_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}|[a-z]{2}_[A-Z]{2}")
