"""One request in flight: its frames, its deadline, and the watch over its progress.

Runs in one event loop; times are that loop's seconds. Everything that can go wrong between the
edge and the answer ends as a `Failed` frame, so that a reader handles one kind of failure.
"""

import asyncio
from collections import deque
from typing import Any, Protocol

import msgspec

from localforge.bus import roll_call
from localforge.contracts.chat import ApiError
from localforge.contracts.live import (
    Accepted,
    AnyFrame,
    ChatCall,
    Completed,
    Delta,
    Failed,
    Summary,
)
from localforge.edge.admission import Ticket
from localforge.edge.parts import Parts
from localforge.errors import LocalforgeError, RetryableError, api_type
from localforge.telemetry import log, metrics, tracing

_log = log.get("edge")

STATUS = "http.response.status_code"
MAX_REDISPATCHES = 2
UNSERVED_S = 1.8
"""How long a request waits for somebody to serve a hop that nobody serves."""
FIRST_BACKOFF_S = 0.05
LONGEST_BACKOFF_S = 0.5
ALIVE_CHECK_S = 0.6
"""Silence after which the executor is asked after, and again."""
UNCLAIMED_AGAINS = 0.9
"""Age, in `roll_call.AGAIN_S`, of a request that may have been lost with an executor unclaimed.

Whatever is lost with one was sent before the broker first missed it, which is `AGAIN_S` before it
counts as gone; a little less, for the sake of timers. By then one that lives has claimed it.
"""
MAX_BUFFERED_BYTES = 1024 * 1024
"""Of one answer, waiting for a reader that is slower than the model."""
WRITE_GRACE_S = 5.0
"""After the deadline: for a reader that has stopped reading."""
_TIMER_SLACK_S = 0.002
"""uvloop's timers tick in milliseconds and may fire a little early."""


class ClientGone(Exception):  # noqa: N818  # reads as what happened
    """The caller has hung up; there is nobody to answer."""


class Exchanges(Protocol):
    """What an exchange needs of the service that holds it."""

    def send(self, call: ChatCall) -> None:
        """Dispatch a request."""

    def cancel(self, request_id: str, decision_id: str, reason: str) -> None:
        """Call a request off."""

    def retry(self, exchange: "Exchange") -> None:
        """Dispatch an exchange again, a moment later."""

    def look_after(self, holder: Summary | None) -> None:
        """See whether the executor of a silent request is there; None when nobody has said it."""

    def forget(self, request_id: str) -> None:
        """Take no more frames for it."""


class Exchange:
    """The frames of one request, for one reader.

    Args:
        service: Holds the exchange.
        call: The request as first dispatched.
        time_left_s: Until the deadline.
        progress_s: Silence after which the request is dispatched again.
        ticket: Counts it among the requests under way.
        loop: The running one.
        requested: The model that is asked for, as it may be logged.

    Attributes:
        call: As last dispatched; its `attempt` counts the dispatches.
        aborted: True when the reader was interrupted because it does not read.
    """

    def __init__(
        self,
        service: Exchanges,
        call: ChatCall,
        time_left_s: float,
        progress_s: float,
        ticket: Ticket,
        loop: asyncio.AbstractEventLoop,
        requested: str,
    ) -> None:
        self.call = call
        self.requested = requested
        self.ticket = ticket
        self.aborted = False
        self._service = service
        self._loop = loop
        self._reader = asyncio.current_task(loop)
        self._frames: deque[AnyFrame] = deque()
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._gone = False
        self._ended = False
        self._called_off = False
        self._has_content = False
        self._redispatches = 0
        self._parts = Parts()
        self._last: AnyFrame | None = None
        self._executor: Summary | None = None
        """Names the executor that works on it, once one has said so."""
        self._checked_at = 0.0
        self._progress_s = progress_s
        self._heard_at = self._loop.time()
        self._deadline_at = self._heard_at + time_left_s
        self._unserved_since: float | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._timer = self._loop.call_at(
            min(self._deadline_at, self._heard_at + min(progress_s, ALIVE_CHECK_S)), self._on_timer
        )

    def dispatch(self) -> None:
        """Send the request on, while somebody waits for it; failures come out of `next`."""
        if self._gone or self._ended:
            return
        try:
            self._service.send(self.call)
        except RetryableError as exc:
            self.on_unserved(exc)
        except LocalforgeError as exc:
            self._fail(exc.status, exc.as_api_error())
        except Exception:  # noqa: BLE001  # a service of this process may have handled the call
            _log.exception("dispatch_failed", request_id=self.call.request_id)
            self._fail(500, _error("internal", "the request could not be handed on"))

    async def next(self) -> AnyFrame:
        """Return the next frame that matters to the client; never `Accepted`.

        Deltas that wait together come as one.

        Raises:
            ClientGone: `abandon` was called.
        """
        while not self._frames:
            if self._gone:
                raise ClientGone
            self._waiter = self._loop.create_future()
            await self._waiter
        frame = self._frames.popleft()
        if isinstance(frame, Delta):
            if self._frames and isinstance(self._frames[0], Delta):
                parts = [frame.data]
                while self._frames and isinstance(following := self._frames[0], Delta):
                    parts.append(following.data)
                    self._frames.popleft()
                frame = msgspec.structs.replace(frame, data=b"".join(parts))
            self._buffered -= len(frame.data)
        return frame

    def on_frame(self, frame: AnyFrame) -> None:
        """Take a frame from the inbox; those of an attempt that was given up are ignored."""
        if frame.attempt != self.call.attempt or self._ended:
            metrics.EDGE_FRAMES_IGNORED.inc()
            return
        self._heard_at = self._loop.time()
        if not self.ticket.is_known:
            self.ticket.note(frame, self._heard_at)
        self._unserved_since = None
        if isinstance(frame, Accepted | Delta) and frame.summary is not None:
            self._executor = frame.summary if frame.summary.replica else None
        if self._parts.is_gap_before(frame):
            self._call_off("frames_lost")
            self._fail(502, _error("frames_lost", "a part of the answer was lost on its way"))
            return
        if isinstance(frame, Delta):
            self._has_content = True
            self._buffered += len(frame.data)
            if self._buffered > MAX_BUFFERED_BYTES:
                self._abort("slow_reader")
                return
            self._put(frame)
        elif not isinstance(frame, Accepted):
            self._end(frame)

    def on_unserved(self, reason: RetryableError | None = None, *, backend: str = "") -> None:
        """Note that a hop has nobody to serve it; tried again for `UNSERVED_S`.

        Args:
            reason: Why it could not be handed on.
            backend: Whose executors have all gone: others are asked at once.
        """
        if self._ended or self._has_content or self._retry is not None:
            return
        if backend and backend not in self.call.avoid:
            self._unserved_since = self._unserved_since or self._loop.time()
            self._avoid(backend)
            self._again("unserved")
            return
        now = self._loop.time()
        if self._unserved_since is None:
            self._unserved_since = now
        waited = now - self._unserved_since
        if waited >= UNSERVED_S:
            error = _error(
                reason.code if reason else "unserved",
                reason.message if reason else "a part of LocalForge is not running; see /readyz",
            )
            self._fail(503, error, retry_after_s=reason.retry_after_s if reason else 1)
            return
        # Doubles: the wait is always about as long as all the waits before it.
        delay = min(max(waited, FIRST_BACKOFF_S), LONGEST_BACKOFF_S, UNSERVED_S - waited)
        self._retry = self._loop.call_later(delay, self._again, "unserved")

    def on_lost(self, backend: str, replica: str) -> None:
        """Note that an executor is gone; if it had the request somebody else begins anew.

        Unless content has come, which nobody else can go on with.
        """
        if self._ended or self._gone or not self._may_be_with(replica):
            return
        _log.warning(
            "executor_lost",
            request_id=self.call.request_id,
            decision_id=self._decision_id,
            replica=replica,
        )
        if self._has_content:
            self._call_off("executor_lost")
            error = _error("executor_lost", "the model's executor died in the middle of its answer")
            self._fail(502, error)
        elif self._redispatches < MAX_REDISPATCHES:
            self._redispatches += 1
            # It was there when last asked; nobody may have served it since.
            asked_at = self._loop.time() - roll_call.AGAIN_S - ALIVE_CHECK_S
            self._unserved_since = max(self._heard_at, asked_at)
            self._avoid(backend)
            self._again("lost")
        else:
            self._call_off("executor_lost")
            self._fail(502, _error("executor_lost", "one executor after another died"))

    def abandon(self) -> None:
        """Note that the client has gone; the backend is told at once."""
        if self._gone:
            return
        self._gone = True
        self._wake()
        if not self._ended:
            self._call_off("client_gone")

    def close(self) -> None:
        """Forget the request; one that has not ended is called off."""
        self._timer.cancel()
        if self._retry is not None:
            self._retry.cancel()
        self._service.forget(self.call.request_id)
        if not self._ended:
            self._call_off("abandoned")
        elif self.call.attempt:
            self._call_off("superseded")

    @property
    def outcome(self) -> dict[str, Any]:
        """How it ended, as attributes of the request's span; empty while it has not.

        A client's own mistake is no error of the server (OpenTelemetry's HTTP conventions).
        """
        end = self._last
        if self._gone or end is None:
            return {tracing.ERROR_TYPE: "client_gone" if self._gone else "abandoned"}
        if not isinstance(end, Failed):
            return {STATUS: 200}
        broken = {} if end.status < 500 else {tracing.ERROR_TYPE: end.error.code or "internal"}
        return {STATUS: 200 if self._has_content else end.status, **broken}

    @property
    def cost_usd(self) -> float | None:
        """What all attempts cost, in US dollars; None until it ends, and where nobody says so.

        An end that the edge makes itself, as at the deadline, has no account of what was spent.
        """
        end = self._last
        if not isinstance(end, Completed | Failed) or end.summary is None:
            return None
        return end.summary.cost_usd

    def _put(self, frame: AnyFrame) -> None:
        self._frames.append(frame)
        self._wake()

    def _end(self, frame: AnyFrame) -> None:
        if not self._ended:
            self._ended = True
            self._last = frame
            self._put(frame)

    def _fail(self, status: int, error: ApiError, *, retry_after_s: float = 0) -> None:
        self._end(
            Failed(
                request_id=self.call.request_id,
                attempt=self.call.attempt,
                status=status,
                error=error,
                retry_after_s=retry_after_s,
            )
        )

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _call_off(self, reason: str) -> None:
        if not self._called_off:
            self._called_off = True
            self._service.cancel(self.call.request_id, self._decision_id, reason)

    def _abort(self, reason: str) -> None:
        self._ended = self.aborted = True
        self._frames.clear()
        self._call_off(reason)
        if self._reader is not None:
            self._reader.cancel()

    def _again(self, reason: str) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._ended or self._gone:
            return
        metrics.EDGE_REDISPATCHES.labels(reason).inc()
        self.call = msgspec.structs.replace(self.call, attempt=self.call.attempt + 1)
        self._heard_at = self._loop.time()
        self._executor, self._parts = None, Parts()
        self._service.retry(self)

    def _avoid(self, backend: str) -> None:
        self.call = msgspec.structs.replace(self.call, avoid=(*self.call.avoid, backend))

    def _may_be_with(self, replica: str) -> bool:
        """Whether the request is with an executor, or may have been lost with it unclaimed."""
        if self._executor is not None:
            return self._executor.replica == replica
        unclaimed_s = UNCLAIMED_AGAINS * roll_call.AGAIN_S
        is_under_way = self._retry is None and not self._has_content
        return is_under_way and self._loop.time() - self._heard_at >= unclaimed_s

    def _on_timer(self) -> None:
        now = self._loop.time() + _TIMER_SLACK_S
        if now >= self._deadline_at:
            self._on_deadline(now)
        elif not self._ended and now - self._heard_at >= self._silence_s:
            self._on_silence()
        elif not self._ended and now >= self._check_at:
            self._checked_at = now
            self._service.look_after(self._executor)
        if self.aborted:
            return
        wake_at = self._deadline_at
        if not self._ended:
            wake_at = min(wake_at, self._heard_at + self._silence_s, self._check_at)
        self._timer = self._loop.call_at(wake_at, self._on_timer)

    @property
    def _decision_id(self) -> str:
        return self._executor.decision_id if self._executor else ""

    @property
    def _check_at(self) -> float:
        return max(self._heard_at, self._checked_at) + ALIVE_CHECK_S

    @property
    def _silence_s(self) -> float:
        # An answer that has begun cannot be begun again, so it gets the time of all attempts.
        return self._progress_s * (1 + MAX_REDISPATCHES if self._has_content else 1)

    def _on_deadline(self, now: float) -> None:
        if self._ended:
            # The end is there, but has not been read for as long as the request was allowed.
            self._abort("deadline")
            return
        self._deadline_at = now + WRITE_GRACE_S
        self._call_off("deadline")
        self._fail(504, _error("deadline_exceeded", "no complete answer within the deadline", 504))

    def _on_silence(self) -> None:
        if not self._has_content and self._redispatches < MAX_REDISPATCHES:
            self._redispatches += 1
            self._again("silent")
            return
        self._call_off("no_progress")
        where = "in the middle of its answer" if self._has_content else "before it answered"
        self._fail(504, _error("no_progress", f"the model's side went silent {where}", 504))


def _error(code: str, message: str, status: int = 502) -> ApiError:
    return ApiError(message=message, type=api_type(status), code=code)
