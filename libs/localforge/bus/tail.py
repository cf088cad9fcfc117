"""Follow a stream from a sequence on, without a gap, for as long as the service lives.

Ack policy: none, an ephemeral consumer per reader; its position is the last message handled, so a
lost consumer, a reconnect or a restarted server is answered with a new one from there on.

Once it has caught up it keeps out of what a busy broker is writing (`localforge.bus.head`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import api

from localforge.bus.head import Head, Look
from localforge.bus.pull import Pulled, Puller
from localforge.errors import DependencyUnavailable
from localforge.telemetry import log

_log = log.get("bus.tail")

INACTIVE_S = 120.0
RETRY_S = 0.5
LOOK_S = 0.25
"""Between two looks at how far to read."""


class Tail:
    """One reader of one stream.

    Args:
        client: Connected.
        user: NATS user.
        stream: Stream name.
        subjects: Subject filters; empty means everything.
        handle: Gets batches in stream order; the tail goes on when it returns.
    """

    def __init__(
        self,
        client: Client,
        user: str,
        stream: str,
        subjects: Sequence[str],
        handle: Callable[[list[Pulled]], Awaitable[None]],
    ) -> None:
        self._client = client
        self._user = user
        self._stream = stream
        self._subjects = list(subjects)
        self._handle = handle
        self._puller: Puller | None = None
        self._consumer_sequence = 0
        self._caught_up = asyncio.Event()
        self._stopped = False
        self._head = Head()
        self._bound: int | None = None
        self._looked_at = 0.0
        self.sequence = 0
        """Stream sequence of the last message handled."""

    async def start(self, after: int) -> None:
        """Follow from the message after sequence `after`.

        Raises:
            DependencyUnavailable: The stream cannot be read.
        """
        self.sequence = after
        await self._restart("start")

    async def caught_up(self) -> None:
        """Wait until nothing was left behind a message, or the whole stream, that was handled."""
        await self._caught_up.wait()

    def finish(self) -> None:
        """Let `caught_up` return although messages are left."""
        self._caught_up.set()

    async def stop(self) -> None:
        """Stop following."""
        self._stopped = True
        if self._puller:
            await self._puller.stop()

    async def _restart(self, reason: str) -> None:
        if reason != "start":
            _log.info("tail_restarts", stream=self._stream, after=self.sequence, reason=reason)
        old, self._puller = self._puller, None
        if old:
            await old.stop()
        while not self._stopped:
            try:
                await self._begin()
            except Exception as exc:
                if self._puller:
                    await self._puller.stop()
                if reason == "start":
                    if not isinstance(exc, NatsError | OSError):
                        raise
                    raise DependencyUnavailable(
                        f"cannot read stream {self._stream}: {str(exc) or type(exc).__name__}"
                    ) from exc
                # Whatever it was: nobody else would read on, and nobody notice.
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _begin(self) -> None:
        info = await self._client.jetstream().add_consumer(self._stream, config=self._position())
        await self._compare()
        self._consumer_sequence = 0
        if not info.num_pending:
            self._caught_up.set()
        self._puller = Puller(
            self._client,
            self._user,
            self._stream,
            info.name,
            self._on_batch,
            self._restart,
            pace=self._pace,
        )
        if not self._stopped:
            await self._puller.start()
        if self._stopped:
            # Stopped while it began.
            await self._puller.stop()

    def _position(self) -> api.ConsumerConfig:
        config = api.ConsumerConfig(
            ack_policy=api.AckPolicy.NONE,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.sequence + 1,
            inactive_threshold=INACTIVE_S,
            mem_storage=True,
            num_replicas=1,
        )
        if len(self._subjects) == 1:
            config.filter_subject = self._subjects[0]
        elif self._subjects:
            config.filter_subjects = self._subjects
        return config

    async def _compare(self) -> None:
        """Say it when the stream ends before what was read of it, and nothing will come."""
        with suppress(Exception):
            ends_at = (await self._client.jetstream().stream_info(self._stream)).state.last_seq
            if ends_at < self.sequence:
                _log.error(
                    "stream_has_lost_messages",
                    stream=self._stream,
                    ends_at=ends_at,
                    read_to=self.sequence,
                    hint="what this process took from them is not in the log: restart it",
                )

    async def _on_batch(self, batch: list[Pulled]) -> None:
        for index, message in enumerate(batch):
            if message.consumer_sequence != self._consumer_sequence + 1:
                if index:
                    await self._take(batch[:index])
                await self._restart("gap")
                return
            self._consumer_sequence = message.consumer_sequence
        await self._take(batch)

    async def _pace(self, read: int) -> None:
        """Wait until what follows a sequence may be read."""
        while self._caught_up.is_set():
            if (wait_s := self._looked_at + LOOK_S - time.monotonic()) <= 0:
                await self._look()
                continue
            if self._bound is None or read < self._bound:
                return
            await asyncio.sleep(wait_s)

    async def _look(self) -> None:
        self._bound = None
        # Where it cannot be asked there is no bound: that the broker is away shows elsewhere.
        with suppress(Exception):
            js = self._client.jetstream(timeout=LOOK_S)
            state = (await js.stream_info(self._stream)).state
            look = Look(time.monotonic(), state.last_seq, state.bytes)
            self._bound = self._head.note(look)
        self._looked_at = time.monotonic()

    async def _take(self, batch: list[Pulled]) -> None:
        await self._handle(batch)
        self.sequence = batch[-1].sequence
        if batch[-1].pending == 0:
            self._caught_up.set()


async def read_all(
    client: Client,
    user: str,
    stream: str,
    handle: Callable[[list[Pulled]], Awaitable[None]],
    *,
    subjects: Sequence[str] = (),
    after: int = 0,
) -> None:
    """Read a stream to the last message it has now, in batches.

    Args:
        client: Connected.
        user: NATS user.
        stream: Stream name.
        handle: Gets batches in stream order.
        subjects: Subject filters; empty means everything.
        after: Sequence after which to begin; 0 is the beginning.

    Raises:
        DependencyUnavailable: The stream cannot be read.
    """
    failed: list[BaseException] = []
    tail: Tail

    async def take(batch: list[Pulled]) -> None:
        if failed:
            return
        try:
            await handle(batch)
        except Exception as exc:  # noqa: BLE001  # raised below, where the caller waits
            failed.append(exc)
            tail.finish()

    tail = Tail(client, user, stream, subjects, take)
    try:
        await tail.start(after=after)
        await tail.caught_up()
    finally:
        await tail.stop()
    if failed:
        raise failed[0]
