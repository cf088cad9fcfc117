"""The NATS door to the live lane: `ChatRequested` on `lf.live.chat`, `ChatCompleted` as the reply.

For applications that already speak NATS and wait for the answer; whole answers only.
"""

import asyncio
from collections.abc import Callable

import msgspec

from localforge.contracts.chat import ApiError, ChatCompleted, ChatRequested
from localforge.contracts.live import AnyFrame, Completed, Failed
from localforge.contracts.problems import ContractViolation
from localforge.edge.asgi import shutting_down
from localforge.edge.options import (
    CASCADE_HEADER,
    DEADLINE_HEADER,
    LABEL_HEADER,
    POLICY_HEADER,
    PREFERENCE_HEADER,
)
from localforge.edge.service import EdgeService
from localforge.errors import ContractError, LocalforgeError
from localforge.telemetry import log

_log = log.get("edge")

_INBOXES = ("_INBOX.", "_INBOX_", "_R_.")
"""How a subject begins on which a client waits: its inbox, or NATS's own for a reply that crosses
accounts. Any other is one of LocalForge's own or somebody's stream: an answer that is published
there is read by whoever may subscribe, a remote executor among them."""

Answer = Callable[[str, ChatCompleted], None]
"""Publishes a result to a reply subject."""


class LiveDoor:
    """Serves requests one task each, so that a slow model holds up nobody else.

    Args:
        service: The logic.
        answer: Publishes a result to a reply subject.
        longest_s: Deadline of a request that asks for none or for a longer one.
    """

    def __init__(self, service: EdgeService, answer: Answer, longest_s: float) -> None:
        self._service = service
        self._answer = answer
        self._longest_s = longest_s
        self._tasks: set[asyncio.Task[None]] = set()

    def on_request(self, request: ChatRequested, reply: str) -> None:
        """Begin to answer one request; without an inbox to reply to nobody waits: it is dropped."""
        if not _is_inbox(reply):
            _log.warning("live_request_without_inbox", id=request.id)
            return
        task = asyncio.create_task(self._serve(request, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def refuse(self, problem: ContractViolation, reply: str) -> None:
        """Answer a message that is no request; the result has no id, since none can be read.

        Without an inbox to reply to it is dropped.
        """
        if not _is_inbox(reply):
            _log.warning("live_request_without_inbox", id="")
            return
        error = ContractError(str(problem))
        self._send(reply, self._refusal("", error.status, error.as_api_error()))

    async def close(self, grace_s: float) -> None:
        """Finish what is in flight, for at most `grace_s` seconds; tell the others to ask again."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _serve(self, request: ChatRequested, reply: str) -> None:
        try:
            result = await self._result(request)
        except LocalforgeError as exc:
            result = self._refusal(request.id, exc.status, exc.as_api_error())
        except asyncio.CancelledError:
            # The end of the grace time of a shutdown.
            late = shutting_down()
            result = self._refusal(request.id, late.status, late.as_api_error())
        except Exception:  # noqa: BLE001  # nobody awaits this task, and the caller needs an answer
            _log.exception("live_request_failed", id=log.clipped(request.id))
            error = LocalforgeError("the request could not be answered; retry")
            result = self._refusal(request.id, error.status, error.as_api_error())
        self._send(reply, result)

    def _send(self, reply: str, result: ChatCompleted) -> None:
        try:
            self._answer(reply, result)
        except LocalforgeError as exc:
            _log.warning("live_answer_lost", id=result.id, reason=exc.message)
            return
        _log.info(
            "live_request",
            id=result.id,
            status=result.status,
            decision_id=result.decision_id,
            model=result.model,
            zone=result.zone,
        )

    async def _result(self, request: ChatRequested) -> ChatCompleted:
        cascade = {None: b"", True: b"yes", False: b"no"}[request.cascade]
        options = {
            CASCADE_HEADER: cascade,
            DEADLINE_HEADER: b"%r" % min(request.deadline_s, self._longest_s),
            LABEL_HEADER: (request.label or "").encode(),
            PREFERENCE_HEADER: request.preference.encode(),
            POLICY_HEADER: request.policy.encode(),
        }
        exchange = self._service.accept(
            bytes(request.request),
            {name: value for name, value in options.items() if value},
            may_stream=False,
        )
        try:
            exchange.dispatch()
            return self._completed(request, await exchange.next())
        finally:
            exchange.close()

    def _completed(self, request: ChatRequested, frame: AnyFrame) -> ChatCompleted:
        if isinstance(frame, Completed):
            return ChatCompleted(
                id=request.id,
                decision_id=frame.summary.decision_id,
                response=msgspec.Raw(frame.body),
                model=frame.summary.model,
                zone=frame.summary.zone,
                cost_usd=frame.summary.cost_usd,
                usage=frame.summary.used or frame.usage,
                completed_at=self._service.clock(),
            )
        if isinstance(frame, Failed):
            return self._refusal(request.id, frame.status, frame.error)
        unexpected = ApiError(
            message="a part of an answer came where a whole one was asked",
            type="api_error",
            code="backend_unavailable",
        )
        return self._refusal(request.id, 502, unexpected)

    def _refusal(self, request_id: str, status: int, error: ApiError) -> ChatCompleted:
        return ChatCompleted(
            id=request_id, status=status, error=error, completed_at=self._service.clock()
        )


def _is_inbox(reply: str) -> bool:
    return reply.startswith(_INBOXES)
