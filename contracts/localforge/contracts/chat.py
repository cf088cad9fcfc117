"""What applications say and get: chat requests, results and feedback on the durable lane."""

import re
from typing import Self

import msgspec

from localforge.contracts.base import PublicContract
from localforge.contracts.problems import ContractViolation, reason_of
from localforge.contracts.repeated import Once
from localforge.contracts.trust import Label

_LABEL_AND_REQUEST = Once("label", "request")
_ESCAPED_LETTER = re.compile(rb"\\u00[67]")
"""In a member's name; nobody writes letters like this in a text."""


def _may_repeat(data: bytes) -> bool:
    """Tell at little cost whether a closer look is worth it, which reads all of the request."""
    return (
        data.count(b'"label"') > 1
        or data.count(b'"request"') > 1
        or _ESCAPED_LETTER.search(data) is not None
    )


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Token counts of one answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Part of `prompt_tokens` that the backend read from its prefix cache."""
    cache_write_tokens: int = 0
    """Part of `prompt_tokens` that the backend wrote to its cache and charges more for."""
    cache_write_1h_tokens: int = 0
    """Part of `cache_write_tokens` that it keeps for an hour."""
    estimated: bool = False
    """True when the backend gave no usage and LocalForge counted."""

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "Usage") -> "Usage":
        """Return the sum; it is an estimate when either is one."""
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            estimated=self.estimated or other.estimated,
        )


class ChatRequested(PublicContract, frozen=True, kw_only=True, tag="chat_requested.v1"):
    """A chat request for the durable lane, published to `lf.request.chat`.

    Publish it with the header `Nats-Msg-Id` equal to `id`: a repeated publish is then dropped.
    """

    id: str
    """Chosen by the application, 1 to 64 of `A-Z a-z 0-9 _ -`. The result: `lf.result.<id>`."""
    request: msgspec.Raw
    """The body of an OpenAI chat completion request, `stream` not set."""
    label: Label | None = None
    """Declared sensitivity; what the profiler detects can only make it stricter."""
    preference: str = ""
    """A name (`cheap`) or numbers (`cost=40,latency=0.01`); empty means the configured default."""
    deadline_s: float = 600
    """Seconds from acceptance in which the answer is wanted."""
    cascade: bool | None = None
    """Whether cheap models may be asked first; None means what is configured."""
    policy: str = ""
    """The decision rule, a name that `router.policy` may have; empty means the configured one."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read one request; one in which the label or the request is repeated is none."""
        found = super().decode(data)
        try:
            again = _LABEL_AND_REQUEST.repeated(data) if _may_repeat(data) else ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise ContractViolation(cls.__name__, reason_of(exc)) from exc
        if again:
            raise ContractViolation(cls.__name__, f"`{again}` is there more than once")
        return found


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """An error in OpenAI's shape."""

    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None


def _null() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class ChatCompleted(PublicContract, frozen=True, kw_only=True, tag="chat_completed.v1"):
    """The one result of a `ChatRequested`, on `lf.result.<id>`: an answer or an error."""

    id: str
    decision_id: str = ""
    status: int = 200
    """The HTTP status the edge would have answered with."""
    response: msgspec.Raw = msgspec.field(default_factory=_null)
    """The body of an OpenAI chat completion; `null` beside an error."""
    error: ApiError | None = None
    model: str = ""
    zone: str = ""
    cost_usd: float = 0.0
    """Of all attempts at all deliveries, failed ones included."""
    usage: Usage = Usage()
    """Tokens of the same attempts; those of the answer alone are in `response`."""
    completed_at: float = 0.0


class FeedbackSubmitted(PublicContract, frozen=True, kw_only=True, tag="feedback_submitted.v1"):
    """A user's verdict on one completion, on its way to the evaluator."""

    id: str
    """Makes the verdict idempotent; a second one with the same id is ignored. Of several on one
    completion the first of each `source` counts."""
    completion_id: str
    score: float
    """0 (useless) to 1 (right)."""
    source: str = "user"
    """`user`, or `test` for a check with a known answer."""
    comment_bytes: int = 0
    """Length of the comment, which itself is not stored."""
    key_id: str = ""
    """API key that it came with: only the key of the completion's request may judge it. Empty where
    none was asked for, which may judge all."""
    submitted_at: float = 0.0
