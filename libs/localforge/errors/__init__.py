"""Every error LocalForge raises on purpose, by what the catcher does.

    LocalforgeError
    ├── RetryableError      try again later; the bus redelivers, an executor tries the next model
    │   ├── BackendUnavailable    the model server failed before the first token
    │   │   └── StreamBroken      it failed after it; nobody else may go on with the answer
    │   ├── Overloaded            there is no room for it now
    │   └── DependencyUnavailable NATS, Redis or another part of LocalForge is away
    ├── PermanentError      trying again cannot help; dead letter, explicit error to the caller
    │   ├── RequestRefused        the request itself is wrong, or policy forbids it
    │   ├── BackendRefused        the model server says the request is wrong
    │   ├── DeadlineExceeded      the request's time is over
    │   └── StateError            stored state does not fit this program
    ├── ContractError       a message does not fit its contract; dead letter
    └── ConfigError         the configuration is wrong; the program does not start

Each has a stable `code` for metrics and clients, and a message that says what, where, which value
and what to do. Messages never carry prompts, answers or secrets.
"""

from localforge.contracts.chat import ApiError

_API_TYPES = {403: "permission_error", 429: "rate_limit_error", 504: "timeout_error"}


def api_type(status: int) -> str:
    """Return the `type` of an error with an HTTP status, in OpenAI's shape.

    What is not the request's fault is never an `invalid_request_error`: clients take that for one
    that no other try can help.
    """
    other = "api_error" if status >= 500 else "invalid_request_error"
    return _API_TYPES.get(status, other)


class LocalforgeError(Exception):
    """Base of all errors raised on purpose."""

    code = "internal"
    status = 500
    """The HTTP status the edge answers with."""

    def __init__(self, message: str, *, code: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.retry_after_s = 0.0

    @property
    def api_type(self) -> str:
        """OpenAI's error type, which follows from the status."""
        return api_type(self.status)

    def as_api_error(self) -> ApiError:
        """Return the error in OpenAI's shape."""
        return ApiError(message=self.message, type=self.api_type, code=self.code, param=self.param)


class RetryableError(LocalforgeError):
    """Trying again later, or elsewhere, may help."""

    code = "unavailable"
    status = 503

    def __init__(
        self, message: str, *, code: str = "", param: str | None = None, retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.retry_after_s = retry_after_s
        self.asked_s = 0.0
        """The wait that a model server itself asked for; 0 when it asked for none."""


class BackendUnavailable(RetryableError):  # noqa: N818  # reads as what happened
    """A model server failed before its first token."""

    code = "backend_unavailable"
    status = 502


class StreamBroken(BackendUnavailable):
    """A model server failed after content had reached the client: explicit error, no fallback."""

    code = "stream_broken"


class DependencyUnavailable(RetryableError):  # noqa: N818
    """NATS, Redis or another part of LocalForge cannot be reached."""

    code = "dependency_unavailable"


class Overloaded(RetryableError):  # noqa: N818
    """There is no room for the request now: refused before anybody worked on it."""

    code = "overloaded"


class PermanentError(LocalforgeError):
    """Trying again cannot help."""


class RequestRefused(PermanentError):  # noqa: N818
    """The request is wrong or not allowed.

    Args:
        message: What, which value, what to do.
        code: Stable code such as `model_not_found`.
        param: The request field, as OpenAI names it.
        status: HTTP status, 400 unless said otherwise.
    """

    code = "invalid_request"

    def __init__(
        self, message: str, *, code: str = "", param: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.status = status


class BackendRefused(PermanentError):  # noqa: N818
    """A model server said the request is wrong; its status and words are passed on."""

    code = "backend_refused"

    def __init__(
        self, message: str, *, status: int, code: str = "", param: str | None = None
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.status = status


class DeadlineExceeded(PermanentError):  # noqa: N818
    """The request's deadline passed before its answer was complete."""

    code = "deadline_exceeded"
    status = 504


class StateError(PermanentError):
    """Stored state (a checkpoint, a prior) does not fit this program."""

    code = "state_mismatch"


class ContractError(LocalforgeError):
    """A message does not fit its contract."""

    code = "contract"
    status = 400


class ConfigError(LocalforgeError, ValueError):
    """The configuration is wrong; says the key, the value and the source."""

    code = "config"
