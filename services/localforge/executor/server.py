"""One model server of a backend: its adapter, its breaker, and what is known of its speed."""

import time
from collections import defaultdict
from collections.abc import Awaitable, Coroutine
from typing import Any
from urllib.parse import urlsplit

import msgspec

from localforge.config import BackendConfig
from localforge.contracts.cards import BreakerState, FoundModel, Health, ServerState
from localforge.errors import LocalforgeError, RetryableError
from localforge.executor.breaker import Breaker
from localforge.executor.meter import Meter
from localforge.executor.silence import Silence
from localforge.executor.speed import RunningMean, Speed
from localforge.inference import Adapter, Completion, Embedder, Probe, Reply
from localforge.inference.failures import hide_key, without_key
from localforge.inference.protocol import LATEST, BackendLoad, ReportsLoad
from localforge.inference.usage import settle_usage
from localforge.telemetry import log

_log = log.get("executor.server")

HUNG_S = 10.0
"""Work without a word to anybody after which a missed deadline is the server's failure; a local
model may well read a long prompt for this long."""
SLOW_FACTOR = 3.0
"""Of the usual time until something is heard of an answer, where that makes it longer."""
_DEADLINE_SLACK_S = 0.1
"""The caller's own clock may be as much ahead."""
_NOT_THE_SERVERS_FAULT = frozenset(
    {
        # It answers, and says what it does not want now or cannot do at all.
        "backend_rate_limited",
        "backend_not_found",
        "backend_http_408",
        "backend_http_409",
        "backend_http_425",
        "backend_cannot",
    }
)


class Server:
    """One replica.

    Args:
        name: Distinct among the backend's servers.
        adapter: Speaks to it.
        breaker: Keeps requests away while it fails.
        usd_per_hour: What an hour of its work costs.
        api_key: What the adapter sends; never passed on where the server repeats it in an error.
    """

    def __init__(
        self,
        name: str,
        adapter: Adapter,
        breaker: Breaker,
        usd_per_hour: float = 0.0,
        api_key: str = "",
    ) -> None:
        self.name = name
        self.adapter = adapter
        self.breaker = breaker
        self._api_key = api_key
        self.meter = Meter(usd_per_hour)
        self.speed = Speed()
        """Of all its models together."""
        self._speeds: defaultdict[str, Speed] = defaultdict(Speed)
        """By the name a model has there."""
        self._silence = Silence()
        self._usual_silence_s = RunningMean()
        """Mean time to the first that is heard of an answer; of an unstreamed one, to all of it."""
        self.in_flight = 0
        self.foreign = 0
        """Requests that it says are in it, ours not counted."""
        self.kv_cache_use = 0.0
        """Share of its KV cache in use; 0 where it does not say."""
        self.loaded: frozenset[str] = frozenset()
        """Models in its memory, of a server that loads them on demand."""
        self.health = Health.UP
        self.detail = ""
        self.found: tuple[FoundModel, ...] | None = None
        """What it said last that it serves; a server that does not answer is down, not empty."""
        self._serves: frozenset[str] | None = None

    @property
    def state(self) -> ServerState:
        """What the registry is told of it."""
        return ServerState(
            name=self.name,
            health=self.health,
            detail=self.detail,
            breaker=self.breaker.state,
            in_flight=self.in_flight,
            slots=self.adapter.slots,
            first_token_s=self.speed.first_token_s,
            tokens_per_s=self.speed.tokens_per_s,
        )

    def complete(self, request: Completion, reply: Reply) -> Coroutine[Any, Any, None]:
        """Run one completion, and tell the breaker what came of it; see `Adapter.complete`."""
        return self._run(self.adapter.complete(request, reply), request, reply)

    def embed(self, request: Completion, reply: Reply) -> Coroutine[Any, Any, None]:
        """Embed, and tell the breaker what came of it; only where the adapter is an `Embedder`."""
        assert isinstance(self.adapter, Embedder)
        return self._run(self.adapter.embed(request, reply), request, reply)

    async def _run(self, work: Awaitable[None], request: Completion, reply: Reply) -> None:
        era = self.breaker.begin()
        began = time.monotonic()
        self.in_flight += 1
        self._silence.begin(reply)
        answered = True
        try:
            with self.meter.share(reply):
                await work
        except RetryableError as exc:
            answered = exc.code != "backend_timeout"
            if exc.code in _NOT_THE_SERVERS_FAULT:
                self.breaker.succeed(era)
            else:
                self._fail(era)
            hide_key(exc, self._api_key)
            raise
        except LocalforgeError as exc:
            # The request is wrong, and the server well enough to say so.
            self.breaker.succeed(era)
            hide_key(exc, self._api_key)
            raise
        except BaseException:
            answered = False
            if _is_late(request) and self._silence.seconds() >= self._hung_s:
                self._fail(era)
            else:
                self.breaker.forget(era)
            raise
        finally:
            self._silence.end(reply, answered=answered)
            self.in_flight -= 1
        self.breaker.succeed(era)
        first = reply.first_content_at - began if reply.first_content_at else 0.0
        took = time.monotonic() - began
        self._usual_silence_s.update(first or took)
        self.note_speed(request.upstream, first, settle_usage(reply, 0).completion_tokens, took)

    async def probe(self) -> Probe:
        """Ask it how it is, and remember."""
        try:
            probe = await self.adapter.probe()
        except Exception:  # noqa: BLE001  # whoever probes must go on, whatever a server says
            _log.exception("probe_failed", server=self.name)
            # Whether it still completes requests is for its breaker to say.
            probe = Probe(health=Health.DEGRADED, detail="what it says of itself cannot be read")
        probe = msgspec.structs.replace(probe, detail=without_key(probe.detail, self._api_key))
        self.health, self.detail = probe.health, probe.detail
        if probe.found is not None:
            self.found = probe.found
            self._serves = frozenset(probe.names) if probe.is_exhaustive else None
        return probe

    def serves(self, upstream: str) -> bool:
        """Whether it has a model, as far as it says what it has."""
        return self._serves is None or upstream in self._serves

    def has_loaded(self, upstream: str) -> bool:
        """Whether a model is in its memory, of a server that loads them on demand."""
        return upstream in self.loaded or f"{upstream}{LATEST}" in self.loaded

    def note_speed(self, upstream: str, first_token_s: float, tokens: int, total_s: float) -> None:
        """Learn from the times of one complete answer of a model; see `Speed.note`."""
        self.speed.note(first_token_s, tokens, total_s)
        self._speeds[upstream].note(first_token_s, tokens, total_s)

    def tokens_per_s(self, upstream: str) -> float:
        """Return how fast it writes with a model; 0 where that is not known."""
        known = self._speeds.get(upstream)
        return known.tokens_per_s if known else 0.0

    async def load(self) -> BackendLoad:
        """Ask it how busy it is, and remember."""
        if not isinstance(self.adapter, ReportsLoad):
            return BackendLoad()
        load = await self.adapter.load()
        self.foreign = max(load.running + load.waiting - self.in_flight, 0)
        self.kv_cache_use = load.kv_cache_use
        self.loaded = frozenset(load.loaded)
        return load

    @property
    def is_open(self) -> bool:
        """Whether its breaker keeps everything away."""
        return self.breaker.state is BreakerState.OPEN

    @property
    def _hung_s(self) -> float:
        return max(HUNG_S, SLOW_FACTOR * self._usual_silence_s.value)

    def _fail(self, era: int) -> None:
        self.breaker.fail(era)
        if self.is_open:
            # What it does on trial is judged by itself.
            self._silence.break_off()


def _is_late(request: Completion) -> bool:
    """Whether a request was given up for its deadline, and not because its client went."""
    return bool(request.deadline) and time.time() >= request.deadline - _DEADLINE_SLACK_S


def server_names(backend: BackendConfig) -> list[str]:
    """Return a name for each of a backend's addresses: host and port where that is enough."""
    short = [urlsplit(address).netloc.rpartition("@")[2] for address in backend.addresses]
    if len(set(short)) == len(short):
        return short
    return [address.partition("//")[2].rpartition("@")[2] for address in backend.addresses]
