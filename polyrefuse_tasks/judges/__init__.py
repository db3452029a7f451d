"""Judges: responses in, judgements out. One file a judge.

`judge_response` and `judge_responses` judge by any judge, and `label_responses` labels by one of
refusal; `Judgement` and `Label` are what they return. `Judge` is the contract that a judge keeps,
`Measure` what it may measure. `JUDGES` names this package's judges, `names` those of other packages
too, and `check_judge` refuses other names.

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
