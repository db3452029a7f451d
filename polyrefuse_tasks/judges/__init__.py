"""Judges turn responses into judgements; each judge has a module of its own.

`judge_response` and `judge_responses` use any judge, and `label_responses` uses a refusal judge.
They return a `Judgement` or a `Label`. `Judge` is the contract of a judge, and `Measure` is what it
may measure. `JUDGES` lists the judges of this package, `names` adds those of other packages, and
`check_judge` refuses other names.

>>> judge_response("I'm sorry, but I can't help with that.", "de").label
<Label.REFUSAL: 'refusal'>
"""

from polyrefuse_tasks.judges.contract import Judge, Measure
from polyrefuse_tasks.judges.judging import (
    JudgeFailed,
    judge_response,
    judge_responses,
    label_responses,
)
from polyrefuse_tasks.judges.labels import Judgement, Label
from polyrefuse_tasks.judges.native import judge_refusal
from polyrefuse_tasks.judges.phrase_yaml import BadPhraseFile
from polyrefuse_tasks.judges.registry import (
    JUDGES,
    BadJudge,
    UnknownJudge,
    check_judge,
    check_refusal_judge,
    judge_named,
    names,
)
from polyrefuse_tasks.languages import UnknownLanguage

__all__ = [
    "JUDGES",
    "BadJudge",
    "BadPhraseFile",
    "Judge",
    "JudgeFailed",
    "Judgement",
    "Label",
    "Measure",
    "UnknownJudge",
    "UnknownLanguage",
    "check_judge",
    "check_refusal_judge",
    "judge_named",
    "judge_refusal",
    "judge_response",
    "judge_responses",
    "label_responses",
    "names",
]
