"""The public contract of rerank-worker: what to put on the query topic and what comes back.

And what to put on the documents topic, which the index follows.
Needs pydantic alone; a producer or consumer in another team imports this and nothing else.
"""

from schemas.contexts import ContextsEvent, ContextsTimings
from schemas.documents import DocumentEvent
from schemas.events import (
    SCHEMA_VERSION,
    Answer,
    AnswerEvent,
    AnswerStatus,
    CandidateInfo,
    ContextInfo,
    DeadLetterInfo,
    Degradation,
    Failure,
    Models,
    QueryEvent,
    Timings,
    Usage,
)
from schemas.replies import ReplyRefusal, ReplyTo, reply_to
from schemas.wire import (
    Headers,
    WireError,
    dead_letter_headers,
    dead_letter_info,
    decode_answer,
    decode_contexts,
    decode_document,
    decode_query,
    encode_answer,
    encode_contexts,
    encode_document,
    encode_query,
    header,
    passthrough_headers,
)

__all__ = [
    "SCHEMA_VERSION",
    "Answer",
    "AnswerEvent",
    "AnswerStatus",
    "CandidateInfo",
    "ContextInfo",
    "ContextsEvent",
    "ContextsTimings",
    "DeadLetterInfo",
    "Degradation",
    "DocumentEvent",
    "Failure",
    "Headers",
    "Models",
    "QueryEvent",
    "ReplyRefusal",
    "ReplyTo",
    "Timings",
    "Usage",
    "WireError",
    "dead_letter_headers",
    "dead_letter_info",
    "decode_answer",
    "decode_contexts",
    "decode_document",
    "decode_query",
    "encode_answer",
    "encode_contexts",
    "encode_document",
    "encode_query",
    "header",
    "passthrough_headers",
    "reply_to",
]
