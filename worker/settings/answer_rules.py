"""What of the section `answer` can't work together: the endpoint, the fields of a request and its prompt."""

import string
from collections.abc import Iterator

from worker.settings.answer import AnswerSettings

EXTRA_BODY_REFUSED = {
    "max_completion_tokens": "set answer.max_tokens, and answer.max_tokens_field",
    "max_tokens": "set answer.max_tokens, and answer.max_tokens_field",
    "messages": "set answer.system_prompt and answer.user_prompt",
    "model": "set answer.model",
    "n": "leave it out: one answer is read",
    "stream": "leave it out: an answer is read whole",
    "stream_options": "leave it out: an answer is read whole",
    "temperature": "set answer.temperature",
}
"""Fields of a request that ``answer.extra_body`` may not carry, and what to do instead."""

_PLACEHOLDERS = ("question", "passages")


def problems(answer: AnswerSettings) -> Iterator[str]:
    """Yield what can't work in a request to the LLM, and what to set instead."""
    if answer.base_url is not None:
        if answer.model is None:
            yield "answer.base_url is set without answer.model: set the model's name as the endpoint knows it"
        if not answer.base_url.startswith(("http://", "https://")):
            yield "answer.base_url must begin with http:// or https://, e.g. https://api.openai.com/v1"
    elif answer.model is not None:
        yield "answer.model is set without answer.base_url: set the endpoint, or leave both out to answer by quotation"
    for name in EXTRA_BODY_REFUSED.keys() & answer.extra_body.keys():
        yield f"answer.extra_body has {name}: {EXTRA_BODY_REFUSED[name]}"
    yield from _prompt(answer.user_prompt)


def _prompt(template: str) -> Iterator[str]:
    advice = "the placeholders are {question} and {passages}, and a brace that is none is written twice: {{ or }}"
    try:
        # A name, how it is formatted and how it is converted, for each; attributes and indices are part of the name.
        used = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        yield f"answer.user_prompt can't be read ({error}): {advice}"
        return
    for name, spec, how in used:
        if name not in _PLACEHOLDERS or spec or how:
            yield f"answer.user_prompt has {{{name}{'!' + how if how else ''}{':' + spec if spec else ''}}}: {advice}"
    for name in _PLACEHOLDERS:
        if name not in {each for each, _, _ in used}:
            yield f"answer.user_prompt has no {{{name}}}: the model would not be shown it"
