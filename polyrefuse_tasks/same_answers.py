"""A warning for tasks whose answers do not depend on the prompts: most of them are one text."""

from collections import Counter
from collections.abc import Sequence

FEWEST = 8
"""The fewest prompts for a warning, because two or three short answers can be equal by chance."""

SHARE = 0.5
"""A warning is given if the most common answer makes up more than this share.

Among the answers of the development rows that are not refusals (14 languages, 5 to 63 of each),
no two are equal. Refusals do repeat although the prompts were read: in Arabic one sentence makes up
15% of them. A template that loses the user's text makes every greedy answer the same.
"""


def warn_of_same_answers(answers: Sequence[str], prompts: int | None = None) -> str | None:
    """Return a warning if most answers to different prompts are the same text.

    Two faults look like this. The prompts may not reach the model, because its chat template, or
    the template of a server, leaves out the user's text. Or the judge may not know the sentence
    with which the model refuses, and count it as compliance.

    Args:
        answers: the answers to different prompts of one task, as generated, WITHOUT those that a
            judge labels `refusal`: a model that refuses everything with one known sentence has no
            fault. White space does not make two answers different. Sampled answers are all given.
        prompts: the number of prompts that they answer; by default the number of answers.

    Returns:
        A whole sentence without the text of the answer, which may be harmful; None if fewer than
        `FEWEST` prompts are answered or no answer makes up more than `SHARE` of the answers.
    """
    if (len(answers) if prompts is None else prompts) < FEWEST:
        return None
    ((commonest, times),) = Counter(" ".join(answer.split()) for answer in answers).most_common(1)
    if times <= SHARE * len(answers):
        return None
    what = "the same text" if commonest else "empty"
    return (
        f"{times} of the {len(answers)} answers that are not refusals are {what}, whatever the "
        "prompt: read one, and check that the chat template passes the prompt on and that the "
        "answer is not a refusal that the judge does not know."
    )
