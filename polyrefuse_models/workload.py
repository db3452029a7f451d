"""Count a model's work: prompts, the tokens that it reads, and the tokens that it may generate.

Each package that does work (`directions`, `mcd`, `wrappers`) counts it in its own module
`workload`, with the functions and constants that the work itself uses. Padding is not counted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Part:
    """One step of the work.

    Attributes:
        what: a description in words.
        prompts: the number of rows that are read. A prompt that is read under five candidates
            counts as five.
        prompt_tokens: the number of tokens that are read in these rows. Tokens in a cache count
            once.
        answers: the number of answers that are generated.
        tokens_each: the largest number of tokens in an answer.
        certain: whether the step is always done. Otherwise it may be left out or done in part.
        trains: whether gradients are computed.
    """

    what: str
    prompts: int
    prompt_tokens: int
    answers: int = 0
    tokens_each: int = 0
    certain: bool = True
    trains: bool = False

    def document(self) -> dict[str, Any]:
        """Return the part in values that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class Workload:
    """All work of a model in one process.

    Attributes:
        prompts: the number of different prompts.
        parts: the steps of the work.
        judged: the number of answers that a judge labels.
    """

    prompts: int
    parts: tuple[Part, ...] = ()
    judged: int = 0

    @property
    def prompt_tokens(self) -> int:
        """The number of tokens that are certainly read."""
        return sum(part.prompt_tokens for part in self.parts if part.certain)

    @property
    def prompt_tokens_at_most(self) -> int:
        """The number of tokens that are read if every step is done."""
        return sum(part.prompt_tokens for part in self.parts)

    @property
    def generated_tokens_at_most(self) -> int:
        """The number of tokens that are generated if every answer is as long as it may be."""
        return sum(part.answers * part.tokens_each for part in self.parts)

    def document(self) -> dict[str, Any]:
        """Return the workload in values that JSON can hold. `read` does the reverse."""
        return {
            "prompts": self.prompts,
            "judged": self.judged,
            "parts": [part.document() for part in self.parts],
        }


def read(document: dict[str, Any]) -> Workload:
    """Make the workload that `Workload.document` described."""
    parts = tuple(Part(**part) for part in document["parts"])
    return Workload(document["prompts"], parts, document["judged"])
