"""Recognise leftovers of templates and decoders: special tokens, unfilled slots, empty values."""

import re

SPECIAL_TOKEN = re.compile(
    # This look-ahead comes first, because hardly any character is one of these.
    r"(?=[<\[])(?:"
    r"</?(?:s|pad|unk|eos|bos|sos|sep|cls|mask|blank|eod|eot|eom|endoftext|eop|bop|cut_off)>"
    r"|<[|｜][^<>\n]{1,60}[|｜]>|<(?:start|end|begin)[_▁]of[_▁][a-z_▁]+>|<extra_id_\d+>"
    r"|<unused\d+>|<reserved_\d+>|<0x[0-9A-Fa-f]{2}>|<</?SYS>>|\[/?(?:INST|SYS|SYSTEM_PROMPT)\]"
    r"|\[(?:PAD|UNK|CLS|SEP|MASK|BOS|EOS|EOT|gMASK|sMASK)\])",
    re.IGNORECASE,
)
"""A special token of a tokenizer or chat template, which is never text."""

# Slots that a prompt, program or redactor leaves for others to fill.
_SLOT = (
    r"\{\{[^{}\n]{0,80}\}\}|\{%[^%\n]{0,80}%\}|\$\{[^{}\n]{0,60}\}|\{[a-z_]{2,30}\}|%\([a-z_]+\)s"
    r"|\[[A-Z][A-Z0-9_ /-]{2,40}\]|<[A-Z][A-Z0-9_]{2,40}>|\[object Object\]"
    r"|\[(?i:redacted|insert|your|user|assistant|response|answer|blank|empty|text)\b[^\[\]\n]{0,40}\]"
)
_NOTHING = (
    r"null|NULL|None|nil|nan|NaN|undefined|N/A|n/a|NA|void|<?(?:assistant|user|system|model)>?[:：]?"
    r"|(?:Human|AI|Bot|System|Instruction|Input|Response|Output|Question|Answer)[:：]"
    # "%system" is a mark and a role.
    r"|%d|%s(?!ystem)|Assistant|User|ASSISTANT|USER|\[\]|\{\}|\(null\)|#REF!|#N/A"
)
_LEFTOVER = rf"(?:(?i:{SPECIAL_TOKEN.pattern})|{_SLOT})"
_MARKS = "<[{$%"
# This look-ahead comes first, because hardly any character is one of these.
_ANY = re.compile(rf"(?=[{re.escape(_MARKS)}]){_LEFTOVER}")
_NOTHINGS = re.compile(rf"(?:(?=((?:{_NOTHING})|\W))\1)+")
"""A text of empty values and of characters outside words. A mark such as "[]" is both, so the
pattern commits itself to each match (by the group) and does not try all combinations of a hundred
marks."""
_A_NOTHING = re.compile(_NOTHING)

_TAG = re.compile(r"<[^<>]{1,80}>")
_LETTER = re.compile(r"[^\W_]")

SHARE = 0.5
"""A text is a leftover if at least this share of its characters are leftovers."""


def is_leftover(text: str) -> bool:
    """Return whether a text, stripped of white space, consists wholly or mostly of leftovers."""
    if len(text) <= 200 and _NOTHINGS.fullmatch(text) and _A_NOTHING.search(text):
        return True
    # Five searches for single characters take a tenth of the time of a pattern.
    if not any(map(text.__contains__, _MARKS)):
        return False
    if not _LETTER.search(_TAG.sub("", text)):
        return True
    left = sum(map(len, _ANY.findall(text)))
    own = len(text) - left - text.count(" ")
    return left > 0 and left >= SHARE * (left + own)
