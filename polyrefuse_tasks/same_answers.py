"""Says where a task's answers do not depend on its prompts: most of them are one text."""

from collections import Counter
from collections.abc import Sequence

FEWEST = 8
"""Prompts below which there is no warning: two or three short answers can be equal by chance."""

SHARE = 0.5
"""A warning is given where the commonest answer makes up more than this share.

Of the development rows' answers that are no refusals (14 languages, 5 to 63 answers each) no two
are equal. Refusals repeat, although the prompts were read: in Arabic one sentence is 15% of them.
A template that loses the user's text makes every greedy answer the same.
"""


def warn_of_same_answers(answers: Sequence[str], prompts: int | None = None) -> str | None:
    """A sentence where most answers to different prompts are the same text, None elsewhere.

    Two faults look like this. The prompts may not reach the model, because its chat template, or
    a server's, leaves the user's text out. Or the judge may not know a sentence that the model
    refuses with, and count it as compliance.

    Args:
        answers: to different prompts of one task, as generated, WITHOUT those that a judge labels
            `refusal`: a model that refuses everything with one known sentence is no fault. Blanks
            do not make two answers different. Of sampled answers, all of every prompt.
        prompts: how many prompts they answer; as many as there are answers where not given.

    Returns:
        A whole sentence without the answer's text, which may be harmful; None where fewer than
        `FEWEST` prompts are answered or no answer makes up more than `SHARE` of them.
    """
    if (len(answers) if prompts is None else prompts) < FEWEST:
        return None
    ((commonest, times),) = Counter(" ".join(answer.split()) for answer in answers).most_common(1)
    if times <= SHARE * len(answers):
        return None
    what = "the same text" if commonest else "empty"
    return (
        f"{times} of the {len(answers)} answers that are no refusals are {what}, whatever the "
        "prompt: read one, and check that the chat template passes the prompt on and that the "
        "answer is no refusal that the judge does not know."
    )
