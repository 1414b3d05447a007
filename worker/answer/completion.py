"""What an OpenAI-compatible endpoint answered, read into the little that is needed of it.

Servers differ in every field, and none of them is trusted: whatever a body holds, it ends as a ``Completion``, or as
the error that says what must be done.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worker.domain import Usage
from worker.errors import RefusedError, TransientError
from worker.resilience.endpoint import failure

MAX_QUOTED_CHARS = 200
# No count of tokens has more digits, and Python refuses to read a number of 4,301.
MAX_DIGITS = 18

_CUT = {"length", "max_tokens", "model_length"}
_DECLINED = {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "refusal"}
# Nobody gave the model a tool: what it wants of one is no answer.
_CALLS = {"tool_calls", "tool_use", "function_call"}
_BROKEN = {"error", "abort", "network_error"}

_NAMES = "think|thinking|thought|reasoning"
_THINKING = re.compile(
    rf"(?P<open><(?:{_NAMES})>|◁think▷|\[THINK\]|<\|START_THINKING\|>)"
    rf"|(?P<close></(?:{_NAMES})>|◁/think▷|\[/THINK\]|<\|END_THINKING\|>)",
    re.IGNORECASE,
)
_TEXT_PARTS = {None, "text", "output_text"}


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer as the LLM wrote it, without its thinking. Never empty."""

    text: str
    cut: bool
    """It ended at its length."""
    usage: Usage | None
    """None unless both counts are counts."""


def read_completion(body: bytes) -> Completion:
    """Read the body of a successful response.

    RefusedError if the model is well and gives no answer: its filter, a refusal, a call of a tool, or no text, which at
    its length means that thinking took it all. TransientError if this is no completion: an error object, or something
    else.
    """
    try:
        answered = json.loads(body, parse_int=_whole_number)
    except (ValueError, RecursionError) as error:
        raise _no_completion(f"no JSON ({error})", body) from error
    choice = next((each for each in _list(_get(answered, "choices")) if isinstance(each, dict)), None)
    wrong = _get(answered, "error") or _get(choice, "error")
    if wrong and not _text(_get(_get(choice, "message"), "content")):
        raise _reported(wrong)
    message = _get(choice, "message")
    if not isinstance(message, dict):
        raise _no_completion("no message", body)
    finish = _get(choice, "finish_reason")
    reason = finish.lower() if isinstance(finish, str) else ""
    text = without_thinking(_text(message.get("content"))).strip()
    _require_answer(message, reason, text)
    return Completion(text, reason in _CUT, _usage(_get(answered, "usage")))


def without_thinking(text: str) -> str:
    """Return what stands outside of ``<think>…</think>`` and its like.

    Some templates write the opening mark into the prompt: what stands before a closing one alone is thinking too. An
    opening mark alone is one where the text begins (its length ended it there), and a word like others elsewhere.
    """
    kept, begun_at, outside = "", None, 0
    for mark in _THINKING.finditer(text):
        if mark["open"] and begun_at is None:
            begun_at = mark.start()
        elif mark["close"]:
            kept = "" if begun_at is None else kept + text[outside:begun_at]
            begun_at, outside = None, mark.end()
    rest = text[outside:]
    if begun_at is not None and not (kept + text[outside:begun_at]).strip():
        rest = ""
    return kept + rest


def well_formed(text: str) -> str:
    """Return the text with halves of surrogate pairs, which no UTF-8 can carry, joined or replaced."""
    return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace")


def quoted(text: str) -> str:
    """Return the beginning of what an endpoint said, in one line, for the log."""
    return " ".join(well_formed(text[: 4 * MAX_QUOTED_CHARS]).split())[:MAX_QUOTED_CHARS]


def _require_answer(message: dict[str, Any], reason: str, text: str) -> None:
    """Raise what it means that a message is no answer."""
    refusal = _text(message.get("refusal")) or "".join(_parts(message.get("content"), {"refusal"}, "refusal"))
    if refusal or reason in _DECLINED:
        why = f"refusal: {quoted(refusal)}" if refusal else f"finish_reason {reason}"
        raise RefusedError(f"the LLM declined to answer ({why})", code="llm_declined")
    if reason in _CALLS or (not text and (message.get("tool_calls") or message.get("function_call"))):
        raise RefusedError("the LLM wants to call a tool (tool_calls) and has none", code="llm_declined")
    if reason in _BROKEN:
        raise TransientError(f"the LLM broke off (finish_reason {reason})", code="llm_unavailable")
    if not text and reason in _CUT:
        raise RefusedError(
            f"the LLM wrote no answer before it reached its length (finish_reason {reason}): set answer.max_tokens "
            "higher, or its thinking off in answer.extra_body",
            code="llm_out_of_tokens",
        )
    if not text:
        raise RefusedError(f"the LLM answered without text (finish_reason {reason or None})", code="llm_no_answer")


def _reported(wrong: object) -> TransientError:
    """Return the error of a success that holds an error object; its code may be an HTTP status."""
    text = f"the LLM endpoint answered an error with status 200: {quoted(_text(_get(wrong, 'message')) or repr(wrong))}"
    status = _get(wrong, "code")
    if isinstance(status, int) and 400 <= status < 600:  # noqa: PLR2004 - HTTP's
        return failure(status, {}, text, service="llm")
    return TransientError(text, code="llm_invalid_response")


def _no_completion(what: str, body: bytes) -> TransientError:
    said = quoted(body[: 4 * MAX_QUOTED_CHARS].decode(errors="replace"))
    return TransientError(f"the LLM endpoint answered no completion but {what}: {said!r}", code="llm_invalid_response")


def _text(content: object) -> str:
    """Return a text, or that of a list of parts, joined; of anything else none."""
    if isinstance(content, str):
        return well_formed(content)
    return well_formed("".join(_parts(content, _TEXT_PARTS, "text")))


def _parts(content: object, kinds: set[str | None], field: str) -> Iterator[str]:
    for part in _list(content):
        text = part if isinstance(part, str) and field == "text" else None
        kind = _get(part, "type")
        if isinstance(part, dict) and (kind is None or isinstance(kind, str)) and kind in kinds:
            text = part.get(field)
        if isinstance(text, str):
            yield text


def _usage(counted: object) -> Usage | None:
    read, written = _get(counted, "prompt_tokens"), _get(counted, "completion_tokens")
    return Usage(read, written) if _is_count(read) and _is_count(written) else None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _whole_number(digits: str) -> int | None:
    return int(digits) if len(digits) <= MAX_DIGITS else None


def _get(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
