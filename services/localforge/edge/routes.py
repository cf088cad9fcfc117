"""The ASGI application: which path goes where, and what every request leaves behind."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import NoReturn

import msgspec

from localforge.contracts.chat import ApiError
from localforge.edge.asgi import (
    CLIENT_GONE,
    OPENAI_ERRORS,
    Disconnected,
    ErrorShape,
    HttpRequest,
    Message,
    Receive,
    Send,
    shutting_down,
    uncancel,
)
from localforge.edge.options import refuse_unknown
from localforge.errors import LocalforgeError, RequestRefused
from localforge.telemetry import log, metrics

_log = log.get("edge")
_log_request = log.recurring("edge", "request")

Handler = Callable[[HttpRequest], Awaitable[None]]
Guard = Callable[[Mapping[bytes, bytes]], None]
"""Raises what a request is refused with."""
REST = "{id}"
"""At the end of a path: everything that follows, slashes included."""
UNMATCHED = "unmatched"


class Route(msgspec.Struct, frozen=True):
    """One operation of the API."""

    method: str
    path: str
    handler: Handler
    is_logged: bool = True
    """False for what monitoring asks every few seconds."""
    errors: ErrorShape = OPENAI_ERRORS
    """How everything at this path and below it says that something went wrong."""


class _Resource:
    """The operations on one path, with their metrics bound once."""

    def __init__(self, path: str, errors: ErrorShape = OPENAI_ERRORS) -> None:
        self.path = path
        self.errors = errors
        self.handlers: dict[str, Handler] = {}
        self.is_logged = True
        self.observe = metrics.EDGE_SECONDS.labels(path).observe
        self._counts: dict[int, Callable[[], None]] = {}

    async def refuse(self, request: HttpRequest) -> None:
        """Answer a method that is not served here, or a path where nothing is."""
        where = f"{request.method} {request.path[:128]}"
        request.facts["error"] = "method_not_allowed" if self.handlers else "unknown_url"
        if not self.handlers:
            error = ApiError(
                message=f"nothing is at {where}; {_hint(request.path)}", code="unknown_url"
            )
            await request.fail(404, error)
            return
        allowed = ", ".join(sorted(self.handlers))
        error = ApiError(
            message=f"{where} is not served; allowed: {allowed}", code="method_not_allowed"
        )
        await request.fail(405, error, [(b"allow", allowed.encode())])

    def count(self, status: int) -> None:
        """Count one answer."""
        increment = self._counts.get(status)
        if increment is None:
            increment = metrics.EDGE_REQUESTS.labels(self.path, str(status)).inc
            self._counts[status] = increment
        increment()


def _hint(path: str) -> str:
    """What to do about the mistakes that are made most."""
    if path.startswith("/v1/v1/"):
        return "the client adds /v1 by itself: leave it out of the base URL"
    if path in ("/chat/completions", "/completions", "/embeddings", "/messages", "/models"):
        return "the base URL ends in /v1"
    if path.startswith("/v1/responses"):
        return "the Responses API is not offered: use /v1/chat/completions"
    return "see /openapi.json"


class EdgeApp:
    """Routes requests and turns whatever goes wrong into the error shape of the API asked for.

    Args:
        routes: Every operation.
        guard: Looks at the headers of every request first.
        new_id: Makes request ids.
    """

    def __init__(self, routes: Sequence[Route], guard: Guard, new_id: Callable[[], str]) -> None:
        self.routes = routes
        self._guard = guard
        self._new_id = new_id
        self._exact: dict[str, _Resource] = {}
        self._prefixes: dict[str, _Resource] = {}
        self._unmatched = _Resource(UNMATCHED)
        self._unmatched_below: dict[str, _Resource] = {}
        for route in routes:
            table = self._prefixes if route.path.endswith(REST) else self._exact
            resource = table.setdefault(
                route.path.removesuffix(REST), _Resource(route.path, route.errors)
            )
            if route.errors is not OPENAI_ERRORS:
                below = _Resource(UNMATCHED, route.errors)
                self._unmatched_below.setdefault(f"{route.path}/", below)
            resource.handlers[route.method] = route.handler
            resource.is_logged = route.is_logged
            if route.method == "GET":
                # The server leaves the body out.
                resource.handlers["HEAD"] = route.handler

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request. ASGI 3."""
        if scope["type"] != "http":
            return
        # The loop's own clock ticks in whole milliseconds.
        started_at = perf_counter()
        request = HttpRequest(scope, receive, send, started_at, self._new_id())
        resource = self._resource(request.path)
        await self._answer(request, resource)
        took = perf_counter() - started_at
        resource.count(request.status)
        resource.observe(took)
        if resource.is_logged:
            _log_request(
                {
                    "method": request.method,
                    "route": resource.path,
                    "status": request.status,
                    "ms": round(took * 1000, 3),
                    "request_id": request.id,
                    **request.facts,
                }
            )

    def _resource(self, path: str) -> _Resource:
        found = self._exact.get(path)
        if found is not None:
            return found
        for prefix, resource in self._prefixes.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return resource
        for prefix, resource in self._unmatched_below.items():
            if path.startswith(prefix):
                return resource
        return self._unmatched

    async def _answer(self, request: HttpRequest, resource: _Resource) -> None:
        request.error_shape = resource.errors
        try:
            if request.repeated:
                _refuse_repeated(request.repeated)
            self._guard(request.headers)
            refuse_unknown(request.headers)
            handler = resource.handlers.get(request.method, resource.refuse)
            await handler(request)
        except LocalforgeError as exc:
            request.facts["error"] = exc.code
            await request.refuse(exc)
        except Disconnected:
            request.status = CLIENT_GONE
        except asyncio.CancelledError:
            # Only the end of the grace time of a shutdown cancels a request.
            uncancel()
            await request.refuse(shutting_down())
        except Exception:  # noqa: BLE001  # the last boundary: a bug still gets its client an answer
            _log.exception("request_failed", request_id=request.id, route=resource.path)
            await request.refuse(LocalforgeError("LocalForge failed on this request; see its log"))


def _refuse_repeated(header: str) -> NoReturn:
    raise RequestRefused(
        f"the header `{header}` is there more than once; send it once",
        code="invalid_value",
        param=header,
    )
