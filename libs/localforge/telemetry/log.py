"""Structured logs: JSON lines on standard error, or a console rendering on a terminal."""

import asyncio
import atexit
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog

from localforge.config import TelemetryConfig

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_NAME_CHARS = 128
"""Of a name that a client chose."""
GATHER_S = 0.05
"""Lines of `recurring` events are written together: a system call for each would cost more than
making it."""
_write_line: Callable[[dict[str, Any]], None] | None = None
"""Set where lines of level `info` are written as JSON."""


def configure(config: TelemetryConfig, service: str) -> None:
    """Set up logging for this process; called once, by the process edge."""
    global _write_line  # noqa: PLW0603  # one log per process
    console = config.log_format == "console" or (
        config.log_format == "auto" and sys.stderr.isatty()
    )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    factory: Any
    if console:
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
        factory = structlog.PrintLoggerFactory(file=sys.stderr)
    else:
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
        factory = structlog.BytesLoggerFactory(file=sys.stderr.buffer)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.log_level]),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    is_direct = not console and _LEVELS[config.log_level] <= _LEVELS["info"]
    _write_line = _line_writer(factory(), service) if is_direct else None
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, force=True)


def get(name: str) -> Any:
    """Return a logger that names its module."""
    return structlog.get_logger(module=name)


def clipped(name: str) -> str:
    """Return at most 128 characters of what a client chose: no line is as long as a body."""
    return name[:MAX_NAME_CHARS]


def recurring(name: str, event: str) -> Callable[[dict[str, Any]], None]:
    """Return what logs one event at level `info`, as `get(name).info(event, **fields)` does.

    For what is logged with every request: JSON lines skip the chain of processors, which takes
    twice the time of the rest, and inside an event loop they are written up to 50 ms later, when
    several may go at once.
    """
    logger = get(name)

    def record(fields: dict[str, Any]) -> None:
        if _write_line is None:
            logger.info(event, **fields)
        else:
            _write_line({**fields, "module": name, "event": event})

    return record


def _line_writer(logger: Any, service: str) -> Callable[[dict[str, Any]], None]:
    lines: list[bytes] = []

    def flush() -> None:
        if lines:
            logger.info(b"\n".join(lines))
            lines.clear()

    def write(line: dict[str, Any]) -> None:
        line["service"] = service
        line["level"] = "info"
        line["timestamp"] = datetime.now(UTC)
        lines.append(_encode(line))
        if len(lines) > 1:
            return
        try:
            asyncio.get_running_loop().call_later(GATHER_S, flush)
        except RuntimeError:
            flush()  # no loop to come back to

    atexit.register(flush)
    return write


def _to_json(event: Any, **_: Any) -> bytes:
    return _encode(event)


_encode = msgspec.json.Encoder(enc_hook=repr).encode
