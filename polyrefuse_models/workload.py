"""How much a model is asked: prompts, the tokens it reads of them, and the tokens it may write.

What does the work says how much it is, in a module `workload` beside it (`directions`, `mcd`,
`wrappers`), by the functions and constants that the work itself uses. Padding is left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """One step of the work.

    Attributes:
        what: in words.
        prompts: rows that are read; a prompt that is read under five candidates is five.
        prompt_tokens: that are read of them. What a pass has read before (a cache) counts once.
        answers: that are generated.
        tokens_each: most tokens of an answer.
        certain: whether it is always done. What is not may be left out, or done in part.
        trains: whether a gradient is computed.
    """

    what: str
    prompts: int
    prompt_tokens: int
    answers: int = 0
    tokens_each: int = 0
    certain: bool = True
    trains: bool = False

    def document(self) -> dict[str, Any]:
        """The part as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Workload:
    """All that one process asks a model.

    Attributes:
        prompts: that there are, each once.
        parts: what is done with them.
        judged: answers that a judge labels.
    """

    prompts: int
    parts: tuple[Part, ...] = ()
    judged: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens that are read for certain."""
        return sum(part.prompt_tokens for part in self.parts if part.certain)

    @property
    def prompt_tokens_at_most(self) -> int:
        """Tokens that are read where all that may be done is done."""
        return sum(part.prompt_tokens for part in self.parts)

    @property
    def generated_tokens_at_most(self) -> int:
        """Tokens that are written where every answer is as long as it may be."""
        return sum(part.answers * part.tokens_each for part in self.parts)

    def document(self) -> dict[str, Any]:
        """The workload as JSON has it; `read` makes it again."""
        return {
            "prompts": self.prompts,
            "judged": self.judged,
            "parts": [part.document() for part in self.parts],
        }


def read(document: dict[str, Any]) -> Workload:
    """The workload of a `document`."""
    parts = tuple(Part(**part) for part in document["parts"])
    return Workload(document["prompts"], parts, document["judged"])
