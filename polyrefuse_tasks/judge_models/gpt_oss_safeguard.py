"""gpt-oss-safeguard (OpenAI): a reasoning model that judges by a policy text, here `rubric.RUBRIC`.

Source of the prompt: README.md of openai/gpt-oss-safeguard on GitHub and the guide in
openai/openai-cookbook. The policy is the system text, and the content to judge is the user's text.
The model answers in the harmony format.
"""

from __future__ import annotations

from polyrefuse_tasks.judge_models import rubric
from polyrefuse_tasks.judge_models.formats import Card, Rendered
from polyrefuse_tasks.judge_models.model_judge import ModelJudge
from polyrefuse_tasks.judges.labels import Judgement

EFFORT = "medium"


class GptOssSafeguard:
    """The format of gpt-oss-safeguard; see `formats.Format`."""

    card = Card(
        name="gpt-oss-safeguard",
        model="openai/gpt-oss-safeguard-20b",
        revision="openai/gpt-oss-safeguard 7ec06bb",
        measures="both",
        languages=(),
        size="21B, 117B",
        licence="Apache-2.0",
        gated=False,
        settings={"rubric": rubric.RUBRIC, "reasoning_effort": EFFORT},
        # Without special tokens, the name of a channel runs into its text.
        special_tokens=True,
    )
    max_new_tokens = 2048

    def prompt(self, prompt: str, response: str) -> Rendered:
        """Return the rubric and the content to judge."""
        return rubric.chat(prompt, response, add_generation_prompt=True, reasoning_effort=EFFORT)

    def parse(self, verdict: str) -> Judgement:
        """Read the JSON object of the final channel; undecided if the reasoning never ended."""
        return rubric.parse(verdict)


JUDGE = ModelJudge(GptOssSafeguard())
