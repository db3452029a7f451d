"""Chat templates of many kinds, for the tests' tokenizer."""

from __future__ import annotations

ROLE = "<|{{ message.role }}|>"
TURN = ROLE + "{{ message.content }}<|end|>"
ANSWER = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"


def template(turn: str, head: str = "{{ bos_token }}") -> str:
    """One that writes every message as `turn`, behind `head`."""
    return head + "{% for message in messages %}" + turn + "{% endfor %}" + ANSWER


SYSTEM_ELSE = "{{{{ bos_token }}}}{{% if messages[0].role != 'system' %}}{}{{% endif %}}"

NO_SYSTEM = template(
    "{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + TURN
)
DROPS_SYSTEM = template("{% if message.role != 'system' %}" + TURN + "{% endif %}")
ONLY_ANSWERS = (
    "{% for message in messages if message.role == 'assistant' %}{{ message.content }}{% endfor %}"
)

OWN_TEXT = "You are Glorb, a gardener of Quend."
"""What the templates below insert."""

BY_DEFAULT = template(TURN, SYSTEM_ELSE.format(f"<|system|>{OWN_TEXT}<|end|>"))
BY_DEFAULT_IN_WORDS = template(
    "### {{ message.role | capitalize }}:\n{{ message.content | trim }}\n\n",
    SYSTEM_ELSE.format(f"### System:\n{OWN_TEXT}\n\n"),
)
WHERE_EMPTY = (
    "{% set own = messages[0].role == 'system' and messages[0].content %}"
    "{{ bos_token }}<|system|>{{ messages[0].content if own else '" + OWN_TEXT + "' }}<|end|>"
    "{% for message in messages if message.role != 'system' %}" + TURN + "{% endfor %}" + ANSWER
)
IN_USER_TURN = (
    "{% set told = messages[0].content if messages[0].role == 'system' else '" + OWN_TEXT + "' %}"
    "{% for message in messages if message.role != 'system' %}{% if message.role == 'user' %}"
    "{{ bos_token }}[INST] {% if loop.first %}<<SYS>>\n{{ told }}\n<</SYS>>\n\n{% endif %}"
    "{{ message.content | trim }} [/INST]{% else %} {{ message.content | trim }} </s>{% endif %}"
    "{% endfor %}"
)
IN_LAST_USER_TURN = (
    "{{ bos_token }}{% set given = messages[0].role == 'system' %}"
    "{% set told = messages[0].content if given else '" + OWN_TEXT + "' %}"
    "{% for message in (messages[1:] if given else messages) %}{% if message.role == 'user' %}"
    "[INST]{{ told + '\n\n' if loop.last and told else '' }}{{ message.content }}[/INST]"
    "{% else %}{{ message.content }}</s>{% endif %}{% endfor %}"
)
PREAMBLE = (
    f"{OWN_TEXT} "
    "{% for message in messages if message.role != 'system' %}{{ message.role | upper }}: "
    "{{ message.content }}{{ '</s>' if message.role == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
DATED = (
    "{{ bos_token }}"
    "{% if messages[0].role == 'system' %}{% set told = messages[0].content | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
    "<|system|>\n\nCutting Knowledge Date: March 2031\nToday Date: "
    "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}\n\n"
    "{{ told }}<|end|>{% for message in messages %}" + TURN + "{% endfor %}" + ANSWER
)
ALONE_WITH_SYSTEM = (
    "{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}{{ bos_token }}"
    f"<|system|>{OWN_TEXT}<|end|><|user|>" + "{{ messages[0].content }}<|end|><|assistant|>\n"
)
EMPTIED = (
    "{% set told = messages[0].content if messages[0].role == 'system' else '" + OWN_TEXT + "' %}"
    "{{ bos_token }}<|system|>{{ told }}<|end|><|user|>{{ messages[-1].content }}<|end|>"
    "<|assistant|>\n"
)
IN_EVERY_TURN = template(
    "{{ '<|' + message.role + '|>' }}" + OWN_TEXT + " {{ message.content }}<|end|>"
)
BEHIND_USER = template(
    ROLE
    + "{{ message.content }}{% if message.role == 'user' %} ("
    + OWN_TEXT
    + "){% endif %}<|end|>"
)

INSERTING = {
    "by default": BY_DEFAULT,
    "in words": BY_DEFAULT_IN_WORDS,
    "where empty": WHERE_EMPTY,
    "in the user's turn": IN_USER_TURN,
    "in the last user turn": IN_LAST_USER_TURN,
    "a preamble": PREAMBLE,
}
"""Templates whose own text can be left out."""

LOSING = {
    "another text": "{{ bos_token }}<|user|>Say hi.<|end|>" + ANSWER,
    "parts": template(ROLE + "{% for p in message.content %}{{ p.text }}{% endfor %}<|end|>"),
    "parts by type": template(
        ROLE
        + "{% for p in message.content if p.type == 'text' %}{{ p['text'] }}{% endfor %}<|end|>"
    ),
    "lower case": template(TURN.replace("message.content", "message.content | lower")),
    "cut": template(TURN.replace("message.content", "message.content[:200]")),
    "escaped": template(TURN.replace("message.content", "message.content | e")),
    "as JSON": template(TURN.replace("message.content", "message.content | tojson")),
    "without braces": template(
        TURN.replace("message.content", "message.content | replace('{', '')")
    ),
    "one line": template(TURN.replace("message.content", "message.content.split('\n')[0]")),
    "wrapped": template(TURN.replace("message.content", "message.content | wordwrap(40)")),
    "only answers": ONLY_ANSWERS,
}
"""Templates that do not write what the user says as it is."""
