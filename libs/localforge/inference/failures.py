"""What a model server's failure means: try another model, or tell the client.

| the model server | LocalForge |
| --- | --- |
| away, broken off, slow, busy (408, 409, 425, 429), 5xx, no answer | `BackendUnavailable` |
| 401, 402, 403, 404, a redirect: wrongly set up, not the client's fault | `BackendUnavailable` |
| any other 4xx | `BackendRefused` with its status and words |

The words of a refusal are for the client, who knows its own prompt; they are not logged.
A provider may repeat the API key in them: `hide_key` takes it out.
"""

import email.utils
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from localforge.errors import BackendRefused, BackendUnavailable, LocalforgeError
from localforge.inference.http_client import (
    BrokenConnectionError,
    ConnectError,
    ConnectTimeoutError,
)

MAX_RETRY_AFTER_S = 3600.0
MAX_MESSAGE_CHARS = 2000
MAX_PARAM_CHARS = 256
LEAST_KEY_CHARS = 4
"""What is shorter is no secret: some servers want any key, and `x` stands in every message."""
_LEAST_PART_CHARS = 8
_CODE = re.compile(r"[a-z0-9_.-]{1,64}")

_MISCONFIGURED = {
    401: ("backend_auth", "does not accept the configured API key"),
    402: ("backend_quota", "says that the account has no credit left"),
    403: ("backend_auth", "forbids the configured API key this model"),
    404: ("backend_not_found", "does not know the model or the path"),
}
_BUSY = frozenset({408, 409, 425, 429})


class _ErrorDetail(msgspec.Struct):
    message: Any = None
    type: Any = None
    code: Any = None
    param: Any = None


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail | str | None = None
    message: Any = None
    """Where servers put the text that leave out `error`."""
    detail: Any = None


_error_body = msgspec.json.Decoder(_ErrorBody)
_error_detail = msgspec.json.Decoder(_ErrorDetail | str | None)


def from_status(status: int, headers: Mapping[str, str], body: bytes) -> LocalforgeError:
    """Return the error for any response that is not a 200."""
    if status in _MISCONFIGURED:
        code, words = _MISCONFIGURED[status]
        return BackendUnavailable(f"the model server {words} (HTTP {status})", code=code)
    if 300 <= status < 400:
        return BackendUnavailable(
            f"the model server redirects (HTTP {status}); configure the address it names",
            code="backend_redirect",
        )
    if status in _BUSY or status >= 500:
        code = "backend_rate_limited" if status == 429 else f"backend_http_{status}"
        error = BackendUnavailable(
            f"the model server answered HTTP {status}",
            code=code,
            retry_after_s=retry_after(headers),
        )
        if headers.get("retry-after"):
            error.asked_s = error.retry_after_s
        if status == 429:
            # Clients have their own way with this one, so they are told when no model is left.
            error.status = status
        return error
    return _refused(status, body)


def from_transport(exc: Exception) -> BackendUnavailable:
    """Return the error for a connection that could not be made or broke."""
    if isinstance(exc, ssl.SSLError):
        return BackendUnavailable(
            f"TLS with the model server failed: {type(exc).__name__}", code="backend_tls"
        )
    if isinstance(exc, TimeoutError | ConnectTimeoutError):
        return BackendUnavailable(
            "the model server accepts no connection in time", code="backend_connect_timeout"
        )
    if isinstance(exc, ConnectError):
        return BackendUnavailable(
            f"the model server cannot be reached: {exc}", code="backend_unreachable"
        )
    reason = str(exc) if isinstance(exc, BrokenConnectionError) else type(exc).__name__
    return BackendUnavailable(
        f"the connection to the model server broke: {reason}", code="backend_cut"
    )


def error_in_answer(members: Mapping[str, msgspec.Raw]) -> BackendUnavailable | None:
    """Return the error that a 200 carries instead of an answer, or None."""
    raw = members.get("error")
    if raw is None and bytes(members.get("object", b"")) != b'"error"':
        return None
    if raw is not None and bytes(raw) == b"null":
        return None
    try:
        detail = _error_detail.decode(raw) if raw is not None else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        detail = None
    return sent_error(detail.type or detail.code if isinstance(detail, _ErrorDetail) else None)


def sent_error(kind: Any) -> BackendUnavailable:
    """Return the error for an error object where an answer was to be.

    Args:
        kind: What the model server calls it; None where it has no name.
    """
    named = f" ({code_or(BackendRefused.code, kind)})" if kind else ""
    return BackendUnavailable(
        f"the model server sent an error instead of an answer{named}", code="backend_error"
    )


def cannot_say(what: str, param: str) -> BackendUnavailable:
    """Say that a backend's format has no words for a part of a request; another's may have.

    Args:
        what: The part, and why not.
        param: The request's field.
    """
    error = BackendUnavailable(what, code="backend_cannot")
    error.param, error.status = param, 400
    return error


def malformed(what: str) -> BackendUnavailable:
    """Say that a model server sent what is no answer; never quotes it."""
    return BackendUnavailable(f"the model server sent {what}", code="backend_malformed")


def wrong_content_type(content_type: str, expected: str) -> BackendUnavailable:
    """Say that a model server answered with another kind of content."""
    return BackendUnavailable(
        f"the model server answered with {_short(content_type) or 'no content type'}, "
        f"expected {expected}",
        code="backend_content_type",
    )


def hide_key(error: LocalforgeError, api_key: str) -> None:
    """Put `***` in place of a key that a model server repeats in its words, in any case.

    Args:
        error: What the server's words were made into; changed in place.
        api_key: The one it was sent; empty for none.
    """
    error.message = without_key(error.message, api_key)
    error.code = without_key(error.code, api_key)
    error.param = error.param and without_key(error.param, api_key)
    error.args = (error.message,)


def without_key(text: str, api_key: str) -> str:
    """Return `text` with `***` in place of a key; also of its beginning where `text` is cut off."""
    if len(api_key) < LEAST_KEY_CHARS:
        return text
    text = re.sub(re.escape(api_key), "***", text, flags=re.IGNORECASE)
    for length in range(len(api_key) - 1, _LEAST_PART_CHARS - 1, -1):
        if text[-length:].lower() == api_key[:length].lower():
            return f"{text[:-length]}***"
    return text


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that `Retry-After` asks for, 0 to 3600; 1 where it says nothing usable.

    A date is read against the server's own `Date`, so that its clock may be wrong. Header
    names are in lower case.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        until, now = _http_date(value), _http_date(headers.get("date", ""))
        if until is None or now is None:
            return 1.0
        seconds = (until - now).total_seconds()
    if seconds != seconds:  # noqa: PLR0124  # NaN
        return 1.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _http_date(value: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    # One without a zone could not be told from the other's; HTTP's are all GMT.
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _refused(status: int, body: bytes) -> BackendRefused:
    message, code, param = f"the model server answered HTTP {status}", "", None
    try:
        found = _error_body.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = _ErrorBody()
    detail = found.error
    if isinstance(detail, _ErrorDetail):
        message = _short(detail.message) or message
        code = code_or(BackendRefused.code, detail.code)
        param = detail.param[:MAX_PARAM_CHARS] if isinstance(detail.param, str) else None
    else:
        message = _short(detail or found.message or found.detail) or message
    return BackendRefused(message, status=status, code=code, param=param)


def code_or(default: str, value: Any) -> str:
    """Return a code that may be logged and kept, whatever a model server calls one.

    Args:
        default: Takes the place of what is no code: it could be prose.
        value: As the server said it; nothing stays nothing.
    """
    code = _short(value).lower()
    return code if not code or _CODE.fullmatch(code) else default


def _short(value: Any) -> str:
    return "" if value is None else str(value)[:MAX_MESSAGE_CHARS]
