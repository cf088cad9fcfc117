"""Run decided requests at one backend.

No broker here: calls come in as contracts and answers go out through a `Sink`. Nothing is kept of
a request that has ended.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from localforge.config import BackendConfig, PolicyConfig
from localforge.contracts.live import Delta, ExecuteCall, HeldAnswer, Lane, Operation
from localforge.errors import (
    BackendRefused,
    BackendUnavailable,
    DeadlineExceeded,
    LocalforgeError,
    Overloaded,
    PermanentError,
    RetryableError,
)
from localforge.executor.attempt import Attempt
from localforge.executor.cascade import (
    NextStep,
    Step,
    escalated,
    fallback_answer,
    is_held,
    is_second_ask,
    step_after_failure,
    uncompared,
    weigh,
)
from localforge.executor.clearance import Clearance
from localforge.executor.queue_bound import QueueBound
from localforge.executor.resample import may_ask_unchanged
from localforge.executor.retry import RetryPolicy, may_succeed_elsewhere
from localforge.executor.sink import Sink
from localforge.executor.slots import Slots
from localforge.inference import Adapter, Embedder
from localforge.inference.replay_stream import as_events, closing_of
from localforge.telemetry import log, metrics

if TYPE_CHECKING:
    from localforge.trust import SealVerifier

_log = log.get("executor")

_DEFAULT_POLICY = PolicyConfig()
REMEMBER_CANCEL_S = 10.0
"""A cancel may overtake its request by as much."""
MAX_REMEMBERED = 10_000


@runtime_checkable
class HasServers(Protocol):
    """An adapter that spreads its requests over several servers."""

    def has_other(self, tried: frozenset[str]) -> bool:
        """Whether a server that is in use has not been tried."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How busy the executor is, for its heartbeat."""

    in_flight: int
    """Requests that run or wait."""
    waiting: int
    """Those of them that wait."""
    slots: int


class _Run:
    """A request that is here now, in the task of whoever brought it."""

    __slots__ = (
        "_cancels_before",
        "_end",
        "_task",
        "attempt_number",
        "called_off",
        "is_late",
        "settled",
    )

    def __init__(self, task: "asyncio.Task[Any]", attempt_number: int) -> None:
        self._task = task
        self._cancels_before = task.cancelling()
        self._end: asyncio.Future[None] | None = None
        self.attempt_number = attempt_number
        self.called_off = False
        self.is_late = False
        self.settled = False
        """Its end is decided; a cancel comes too late."""

    def stop(self) -> None:
        """Cancel it; only before its end, for its task may go on to other work then."""
        self._task.cancel()

    def call_off(self) -> None:
        """Cancel it for whoever asked, unless its end is decided."""
        if not self.settled and not self.called_off:
            self.called_off = True
            self.stop()

    def time_out(self) -> None:
        """Cancel it at its deadline."""
        self.is_late = True
        self.stop()

    def go_on(self) -> bool:
        """Take back what stopped it; False when somebody else has stopped it too."""
        return self._task.uncancel() <= self._cancels_before

    def end(self, error: BaseException | None = None) -> None:
        """Tell those who wait for it; called once, by its own task."""
        if self._end is None:
            return
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)

    def ended(self) -> "asyncio.Future[None]":
        """Return its end, to be waited for; it raises what the run raises."""
        if self._end is None:
            self._end = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._end)


class ExecutorService:
    """The executor of one backend.

    Args:
        backend: Names the backend and its zone; calls for another are refused.
        adapter: Started; how many requests run at the same time is its `slots`.
        replica: Name of this process.
        verifier: Checks the seal of every call. Without one only the local zone can be served.
        policy: Where labels may go, looked at before every attempt.
        clock: Unix time in seconds.

    Raises:
        ConfigError: A remote zone and no verifier.
    """

    def __init__(
        self,
        backend: BackendConfig,
        adapter: Adapter,
        *,
        replica: str,
        verifier: "SealVerifier | None",
        policy: PolicyConfig = _DEFAULT_POLICY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clearance = Clearance(backend, verifier, policy)
        self._backend = backend
        self._adapter = adapter
        self._replica = replica
        self._clock = clock
        self._retry = RetryPolicy(retries=backend.retries, longest_s=backend.retry_wait_s)
        self._slots = Slots(adapter.slots)
        self._bound = QueueBound(self._slots, backend.max_waiting, backend.name)
        self._runs: dict[str, _Run] = {}
        self._by_request: dict[str, list[_Run]] = {}
        self._cancelled: OrderedDict[str, float] = OrderedDict()

    def resize(self) -> None:
        """Take over how many requests the adapter can run now."""
        self._slots.resize(self._adapter.slots)

    def load(self) -> Load:
        """Return how busy it is."""
        slots = self._slots
        return Load(
            in_flight=slots.running + slots.waiting, waiting=slots.waiting, slots=slots.limit
        )

    async def run(self, call: ExecuteCall, sink: Sink) -> None:
        """Run one call to its end, whatever that is.

        A second delivery of a call that is here waits for the first and says nothing itself. A
        newer attempt of a request calls off the older ones, which the edge has given up.

        Raises:
            PermanentError: The plan has no such step. Everything else is told to the sink; what
                it raises while it takes an answer counts as a failure of the attempt.
        """
        if not 0 <= call.step < len(call.plan):
            raise PermanentError(
                f"step {call.step} of a plan with {len(call.plan)} steps", code="wrong_step"
            )
        loop = asyncio.get_running_loop()
        attempt = Attempt(call, sink, self._replica, loop)  # may fail: before it is registered
        run_id = attempt.run_id
        if run_id in self._runs:
            await self._runs[run_id].ended()
            return
        siblings = self._by_request.setdefault(call.call.request_id, [])
        for sibling in siblings:
            if sibling.attempt_number < call.call.attempt:
                sibling.call_off()
        task = asyncio.current_task(loop)
        assert task is not None
        run = self._runs[run_id] = _Run(task, call.call.attempt)
        siblings.append(run)
        try:
            await self._run(run, attempt, sink)
        except BaseException as exc:
            run.end(exc)
            raise
        else:
            run.end()
        finally:
            del self._runs[run_id]
            siblings.remove(run)
            if not siblings:
                del self._by_request[call.call.request_id]

    def cancel(self, request_id: str) -> None:
        """Stop a request wherever it is: queued, running, or not here yet."""
        runs = self._by_request.get(request_id)
        if runs:
            for run in runs:
                run.call_off()
            return
        now = self._clock()
        self._cancelled[request_id] = now
        while self._cancelled and (
            len(self._cancelled) > MAX_REMEMBERED
            or now - next(iter(self._cancelled.values())) > REMEMBER_CANCEL_S
        ):
            self._cancelled.popitem(last=False)

    async def drain(self, grace_s: float) -> None:
        """Wait for what is here, then cancel the rest; new calls must have stopped before."""
        ends = [run.ended() for run in self._runs.values()]
        if ends:
            await asyncio.wait(ends, timeout=grace_s)
            for late in self._runs.values():
                late.stop()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _run(self, run: _Run, attempt: Attempt, sink: Sink) -> None:
        pause: float | None = 0.0
        while pause is not None:
            try:
                await self._answer(run, attempt, pause)
            except asyncio.CancelledError:
                run.settled = True
                code = "cancelled" if run.called_off else "executor_stopping"
                sink.outcome(attempt.outcome("cancelled", self._clock(), code))
                if not run.called_off:
                    await attempt.tell_stopped()
                    raise
                run.go_on()
                return
            except LocalforgeError as exc:
                sink.outcome(attempt.outcome("error", self._clock(), exc.code))
                pause = self._pause(attempt, exc)
                if pause is None:
                    run.settled = True
                    await self._give_up(attempt, sink, exc)
                else:
                    attempt = attempt.again(resample=not isinstance(exc, BackendRefused))
                    _tell_retry(attempt, exc, pause)
            else:
                run.settled = True
                if is_held(attempt.call):
                    await self._weigh(attempt, sink)
                    return
                result = escalated(attempt.call, attempt.text())
                fact = attempt.outcome("ok", self._clock())
                sink.outcome(msgspec.structs.replace(fact, cascade=result) if result else fact)
                await attempt.settle_stream(flush=False)
                await sink.completed(attempt.completed())
                if (evaluation := attempt.evaluation()) is not None:
                    await sink.evaluate(evaluation)
                return

    async def _weigh(self, attempt: Attempt, sink: Sink) -> None:
        """Deliver the answer that a cascade accepts, or ask its next model."""
        step = weigh(attempt)
        fact = attempt.outcome("ok", self._clock())
        sink.outcome(msgspec.structs.replace(fact, cascade=step.result))
        await self._follow(attempt, sink, step)

    async def _follow(self, attempt: Attempt, sink: Sink, step: Step) -> None:
        if step.deliver is not None:
            await self._deliver(attempt, sink, step.deliver)
        elif step.following is not None:
            await sink.hand_on(step.following, NextStep("the answer was not accepted"))

    async def _deliver(self, attempt: Attempt, sink: Sink, held: HeldAnswer) -> None:
        """Give the caller a whole answer, as a stream where one was asked for."""
        chat, completed = attempt.chat, held.completed
        if chat.stream:
            prompt = msgspec.structs.replace(completed.usage, completion_tokens=0)
            delta = Delta(
                request_id=chat.request_id,
                attempt=chat.attempt,
                data=as_events(completed.body, include_usage=chat.include_usage),
                summary=msgspec.structs.replace(completed.summary, prompt=prompt),
                number=1,
            )
            await sink.delta(delta)
            end = closing_of(completed.body, include_usage=chat.include_usage)
            completed = msgspec.structs.replace(completed, body=b"", data=end, deltas=1)
        await sink.completed(completed)
        if held.evaluation is not None:
            await sink.evaluate(held.evaluation)

    def _pause(self, attempt: Attempt, error: LocalforgeError) -> float | None:
        """Return the seconds to wait before another try here; None when there shall be none."""
        if attempt.is_resampled and isinstance(error, BackendRefused):
            return 0.0 if may_ask_unchanged(attempt.chat.body, error.status) else None
        # When it is overloaded, waiting is what there is no room for.
        may_wait = isinstance(error, RetryableError) and not isinstance(error, Overloaded)
        if attempt.reply.started or not may_wait:
            return None
        tried = attempt.completion.tried | {attempt.reply.server}
        servers = self._adapter if isinstance(self._adapter, HasServers) else None
        if servers and may_succeed_elsewhere(error) and servers.has_other(tried):
            return 0.0
        if _following(attempt) is not None:
            return None
        # The first attempt at each server is none that was waited for.
        pause = self._retry.pause(error, attempt.retry - (len(tried) - 1))
        if pause is None or self._clock() + pause >= attempt.chat.deadline:
            return None
        return pause

    async def _answer(self, run: _Run, attempt: Attempt, pause: float) -> None:
        """Get the answer within the deadline; what is left to say is in the attempt's reply."""
        chat = attempt.chat
        try:
            time_left_s = self._admit(run, attempt.call)
            attempt.wait(self._slots.waiting, time_left_s, run.time_out)
            if pause:
                await asyncio.sleep(pause)
            await self._slots.acquire(patient=chat.lane is not Lane.LIVE)
            began = time.monotonic()
            try:
                self.clearance.check_policy(attempt.call)
                attempt.begin()
                if chat.operation is Operation.CHAT:
                    await self._adapter.complete(attempt.completion, attempt.reply)
                else:
                    await self._embed(attempt)
            finally:
                self._slots.release()
                self._bound.note(time.monotonic() - began)
        except asyncio.CancelledError as exc:
            if run.is_late and run.go_on():
                raise _too_late() from exc
            raise
        except LocalforgeError:
            raise
        except Exception as exc:
            _log.exception(
                "attempt_failed",
                request_id=chat.request_id,
                decision_id=attempt.call.decision_id,
                model=attempt.target.model,
            )
            raise _unforeseen() from exc
        finally:
            attempt.end()

    def _admit(self, run: _Run, call: ExecuteCall) -> float:
        """Return the seconds until a call's deadline; raises what is told of one not to be run."""
        chat, now = call.call, self._clock()
        if self._forget_cancel(chat.request_id, now):
            run.called_off = True
            raise asyncio.CancelledError
        self.clearance.check(call, now)
        time_left_s = chat.deadline - now
        if not time_left_s > 0:
            raise _too_late()
        if chat.lane is Lane.LIVE:
            self._bound.check(time_left_s)
        return time_left_s

    async def _embed(self, attempt: Attempt) -> None:
        if not isinstance(self._adapter, Embedder):
            raise PermanentError(
                f"backend `{self._backend.name}` cannot make embeddings; take `embeddings` out of "
                f"the capabilities of `{attempt.target.model}`",
                code="wrong_executor",
            )
        await self._adapter.embed(attempt.completion, attempt.reply)

    async def _give_up(self, attempt: Attempt, sink: Sink, error: LocalforgeError) -> None:
        call = attempt.call
        following = _following(attempt)
        if (
            isinstance(error, RetryableError)
            and not attempt.reply.started
            and following is not None
        ):
            following_call = msgspec.structs.replace(
                call,
                step=following,
                deliveries=0,
                spent_usd=attempt.spent_usd(),
                spent_usage=attempt.spent_usage(),
            )
            await sink.hand_on(following_call, error)
        elif isinstance(error, BackendRefused) and is_second_ask(call):
            await self._follow(attempt, sink, uncompared(attempt))
        elif (held := _at_hand(attempt)) is not None:
            await self._deliver(attempt, sink, held)
        else:
            await attempt.settle_stream(flush=True)
            await sink.failed(attempt.failed(error))

    def _forget_cancel(self, request_id: str, now: float) -> bool:
        at = self._cancelled.pop(request_id, None)
        return at is not None and now - at <= REMEMBER_CANCEL_S


def _following(attempt: Attempt) -> int | None:
    """Return the step of the plan that comes next; None when there is none or none may."""
    call, following = attempt.call, step_after_failure(attempt.call)
    return following if call.call.allow_fallback and following < len(call.plan) else None


def _at_hand(attempt: Attempt) -> HeldAnswer | None:
    """Return an answer that a cascade has kept, when none of this attempt has gone out."""
    if attempt.reply.started:
        return None
    return fallback_answer(attempt.call, attempt.spent_usd(), attempt.spent_usage())


def _tell_retry(attempt: Attempt, error: LocalforgeError, pause_s: float) -> None:
    metrics.EXECUTOR_RETRIES.labels(error.code).inc()
    _log.info(
        "retry",
        request_id=attempt.chat.request_id,
        decision_id=attempt.call.decision_id,
        code=error.code,
        model=attempt.target.model,
        retry=attempt.retry,
        pause_s=round(pause_s, 3),
    )


def _unforeseen() -> BackendUnavailable:
    """Return the error for what no adapter should raise: another model may well answer."""
    error = BackendUnavailable(
        "the request could not be run with this model; retry", code=LocalforgeError.code
    )
    error.status = LocalforgeError.status
    return error


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the request's deadline passed before its answer was complete; allow more time with "
        "`x-localforge-deadline-s`, or ask for a faster model"
    )
