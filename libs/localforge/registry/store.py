"""Reads and writes of the registry in Redis.

<prefix>:backends            set    names of the backends that have registered
<prefix>:cards:<backend>     hash   model name -> ModelCard, as its executors register it
<prefix>:replicas:<backend>  hash   replica id -> ReplicaState, the last heartbeat
<prefix>:added               hash   model name -> ModelCard, added by hand
<prefix>:disabled            set    model names switched off by hand; survives restarts of executors
<prefix>:version             int    grows with every change of cards or switches

An executor's Redis user may touch its own backend's keys, add to the first and count the last
(`localforge.embedded.redis_acl`). What it writes there counts as far as the configuration goes
(`localforge.registry.owners`); of two cards with one name the one added by hand wins, then a local
one, then that of the backend whose name comes first.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from localforge.config import BackendConfig, RedisConfig
from localforge.contracts import keys, subjects
from localforge.contracts.cards import ModelCard, RegistrySnapshot, ReplicaState
from localforge.contracts.problems import ContractViolation
from localforge.errors import DependencyUnavailable
from localforge.registry.owners import Owners, rank
from localforge.telemetry import log

FORGET_REPLICA_S = 60.0
"""A replica silent for this long is removed by whoever beats next."""


_log = log.get("registry.store")

Raw = dict[bytes, bytes]
C = TypeVar("C", ModelCard, ReplicaState)


class RegistryStore:
    """The registry behind one Redis connection.

    Every method raises `DependencyUnavailable` when Redis does not answer in time.

    Args:
        config: Where Redis is.
        backends: The configured ones; what others register, or what does not agree with their
            configuration, is left out of what is read. With none, all backends count.
    """

    def __init__(self, config: RedisConfig, backends: Iterable[BackendConfig] = ()) -> None:
        self._redis: Redis = Redis.from_url(
            config.url,
            socket_timeout=config.timeout_s,
            socket_connect_timeout=config.timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._prefix = config.prefix
        self._backends = keys.backends(config.prefix)
        self._added = keys.added(config.prefix)
        self._disabled = keys.disabled(config.prefix)
        self._version = keys.version(config.prefix)
        self._known: tuple[str, ...] = ()
        self._refused: dict[str, int] = {}
        self._unread: dict[bytes, tuple[bytes, float]] = {}
        """Replica -> heartbeat that cannot be read, and when it was new."""
        self._owners = Owners()
        self.configure(backends)

    def configure(self, backends: Iterable[BackendConfig]) -> None:
        """Take a changed configuration; the next read follows it."""
        self._owners = Owners(backends)
        self._known = self._owners.backends or ()

    async def close(self) -> None:
        """Close the connection."""
        await self._redis.aclose()

    async def read(self) -> RegistrySnapshot:
        """Read everything: in one round trip, or two when an unconfigured backend is new.

        What cannot be read, or contradicts the configuration, is left out and logged: one
        executor's bad entry must not take the others' away.
        """
        owners = self._owners
        try:
            pipe = self._redis.pipeline(transaction=True)
            pipe.get(self._version)
            pipe.smembers(self._backends)
            pipe.smembers(self._disabled)
            pipe.hgetall(self._added)
            self._ask(pipe, self._known)
            version, names, disabled, added, *entries = await pipe.execute()
            backends = owners.backends or tuple(sorted(_text(name) for name in names))
            if backends != self._known:
                self._ask(pipe, backends)
                entries = await pipe.execute()
                self._known = backends
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc
        objections: dict[str, list[str]] = {}
        by_hand = {
            card.name: card
            for card in _readable(ModelCard, added, objections.setdefault("", []))
            if _counts(owners.objection_to_added(card), objections[""])
        }
        found: list[ModelCard] = []
        replicas: dict[str, ReplicaState] = {}
        for backend, stored, beats in zip(backends, entries[::2], entries[1::2], strict=True):
            against = objections.setdefault(backend, [])
            found += [
                card
                for card in _readable(ModelCard, stored, against)
                if _counts(owners.objection_to_card(card, backend), against)
            ]
            for state in _readable(ReplicaState, beats, against):
                if _counts(owners.objection_to_replica(state, backend), against):
                    name = subjects.executor_name(state.zone, backend, state.replica)
                    replicas[name] = _with_added(state, by_hand)
        self._report(objections)
        cards = {card.name: card for card in sorted(found, key=rank, reverse=True)} | by_hand
        return RegistrySnapshot(
            version=int(version or 0),
            cards={
                name: msgspec.structs.replace(card, enabled=False)
                if name.encode() in disabled
                else card
                for name, card in cards.items()
            },
            replicas=replicas,
            fresh=True,
        )

    async def register(self, backend: str, cards: Iterable[ModelCard]) -> bool:
        """Make the registry hold exactly these cards for a backend; True when that changed it."""
        wanted = {card.name.encode(): card.encode() for card in cards}
        key = self._cards_of(backend)
        try:
            found = cast("Raw", await self._redis.hgetall(key))
            if found == wanted:
                return False
            pipe = self._redis.pipeline(transaction=True)
            if gone := found.keys() - wanted.keys():
                pipe.hdel(key, *gone)
            if wanted:
                pipe.hset(key, mapping=wanted)  # type: ignore[arg-type]
            pipe.sadd(self._backends, backend)
            pipe.incr(self._version)
            await pipe.execute()
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc
        return True

    async def drop(self, backend: str) -> None:
        """Forget a backend that is gone for good, with its cards, added ones too."""
        try:
            added = cast("Raw", await self._redis.hgetall(self._added))
            pipe = self._redis.pipeline(transaction=True)
            pipe.delete(self._cards_of(backend), self._replicas_of(backend))
            pipe.srem(self._backends, backend)
            for card in _readable(ModelCard, added, []):
                if card.backend == backend:
                    pipe.hdel(self._added, card.name)
            pipe.incr(self._version)
            await pipe.execute()
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc

    async def add(self, card: ModelCard) -> None:
        """Add a card by hand, or replace one; it stays until it is removed by hand."""
        try:
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(self._added, card.name, card.encode())
            pipe.incr(self._version)
            await pipe.execute()
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc

    async def added(self) -> frozenset[str]:
        """Return the names of the models that were added by hand."""
        try:
            names = cast("list[bytes]", await self._redis.hkeys(self._added))
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc
        return frozenset(_text(name) for name in names)

    async def backends(self) -> frozenset[str]:
        """Return the names of all backends that have registered, configured or not."""
        try:
            names = cast("set[bytes]", await self._redis.smembers(self._backends))
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc
        return frozenset(_text(name) for name in names)

    async def remove(self, model: str) -> bool:
        """Remove a card that was added by hand; False when there is none of this name."""
        try:
            pipe = self._redis.pipeline(transaction=True)
            pipe.hdel(self._added, model)
            pipe.incr(self._version)
            removed, _ = await pipe.execute()
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc
        return bool(removed)

    async def switch(self, model: str, *, enabled: bool) -> bool:
        """Switch one model on or off by hand; False when the registry does not know it."""
        if model not in (await self.read()).cards:
            return False
        try:
            pipe = self._redis.pipeline(transaction=True)
            if enabled:
                pipe.srem(self._disabled, model)
            else:
                pipe.sadd(self._disabled, model)
            pipe.incr(self._version)
            await pipe.execute()
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc
        return True

    async def beat(self, state: ReplicaState) -> None:
        """Write one heartbeat and drop replicas that have been silent for a minute."""
        try:
            key = self._replicas_of(state.backend)
            pipe = self._redis.pipeline(transaction=True)
            pipe.hset(key, state.replica, state.encode())
            pipe.sadd(self._backends, state.backend)
            pipe.hgetall(key)
            replicas = cast("Raw", (await pipe.execute())[2])
            if silent := self._silent(replicas):
                await self._redis.hdel(key, *silent)
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc

    async def leave(self, backend: str, replica: str) -> None:
        """Remove a replica that stops in good order."""
        try:
            await self._redis.hdel(self._replicas_of(backend), replica)
        except (RedisError, OSError, TimeoutError) as exc:
            raise _unavailable(exc) from exc

    def _silent(self, beats: Raw) -> list[bytes]:
        """Return the replicas that have been silent for a minute.

        One whose heartbeat cannot be read may be of a newer version, and is there while its
        heartbeat changes.
        """
        now = time.time()
        heard = {replica: self._heard_at(replica, data, now) for replica, data in beats.items()}
        self._unread = {r: e for r, e in self._unread.items() if beats.get(r) == e[0]}
        return [replica for replica, at in heard.items() if at < now - FORGET_REPLICA_S]

    def _heard_at(self, replica: bytes, beat: bytes, now: float) -> float:
        try:
            return ReplicaState.decode(beat).sent_at
        except ContractViolation:
            seen = self._unread.get(replica)
            if seen is None or seen[0] != beat:
                seen = self._unread[replica] = beat, now
            return seen[1]

    def _report(self, objections: Mapping[str, list[str]]) -> None:
        """Log what does not count; one line for each backend, and only when that has changed."""
        for backend, against in objections.items():
            if against and len(against) != self._refused.get(backend):
                _log.warning(
                    "entries_refused",
                    backend=backend or "(added by hand)",
                    entries=len(against),
                    reason=against[0][:200],
                )
        self._refused = {backend: len(against) for backend, against in objections.items()}

    def _ask(self, pipe: Pipeline, backends: Iterable[str]) -> None:
        for backend in backends:
            pipe.hgetall(self._cards_of(backend))
            pipe.hgetall(self._replicas_of(backend))

    def _cards_of(self, backend: str) -> str:
        return keys.cards(self._prefix, backend)

    def _replicas_of(self, backend: str) -> str:
        return keys.replicas(self._prefix, backend)


def _with_added(state: ReplicaState, added: Mapping[str, ModelCard]) -> ReplicaState:
    """An executor does not know of the models that were added by hand, but serves them."""
    names = tuple(c.name for c in added.values() if c.backend == state.backend)
    if not names or not state.models:
        return state
    return msgspec.structs.replace(state, models=tuple(dict.fromkeys((*state.models, *names))))


def _readable(contract: type[C], entries: Raw, objections: list[str]) -> Iterator[C]:
    """Decode what can be decoded, and note why the rest cannot."""
    for data in entries.values():
        try:
            yield contract.decode(data)
        except ContractViolation as exc:
            objections.append(str(exc))


def _counts(objection: str, objections: list[str]) -> bool:
    if objection:
        objections.append(objection)
    return not objection


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _unavailable(exc: Exception) -> DependencyUnavailable:
    return DependencyUnavailable(f"Redis does not answer: {str(exc) or type(exc).__name__}")
