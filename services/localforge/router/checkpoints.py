"""Where a router's state is kept between two lives: one object per feature schema."""

import time
from collections.abc import Mapping

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError, ObjectNotFoundError

from localforge.bandit import Fold, dump, load, prior_named
from localforge.bandit.parameters import LEARNER
from localforge.contracts.subjects import CHECKPOINT_BUCKET, FEEDBACK
from localforge.errors import StateError
from localforge.lean import trim_memory
from localforge.telemetry import log

_log = log.get("router.checkpoints")

LEAST_PAUSE_S = 30.0
"""A checkpoint is some megabytes; under load they come no faster than this."""


class Checkpoints:
    """Reads the last checkpoint and decides when the next is due.

    Any router may write; an older one only makes the next start read more of the stream.

    Args:
        client: Connected.
        every: Learned messages between two checkpoints.
    """

    def __init__(self, client: Client, every: int) -> None:
        self._client = client
        self._every = every
        self._written_at = time.monotonic()
        self._learned = 0

    async def restore(self, feature_schema: str, dim: int, prior: str) -> Fold:
        """Return the last stored fold, or an empty one when there is none that fits.

        Args:
            feature_schema: The schema this program computes features in.
            dim: Values in a feature vector of that schema.
            prior: `router.prior`.
        """
        known = prior_named(prior)
        name = _name(feature_schema)
        try:
            store = await self._client.jetstream().object_store(CHECKPOINT_BUCKET)
            data = (await store.get(name)).data or b""
            fold = load(data, feature_schema, dim, known)
            await self._compare(fold.sequence)
        except (ObjectNotFoundError, NotFoundError):
            return Fold(feature_schema, dim, known)
        except (StateError, NatsError, OSError) as exc:
            _log.warning("checkpoint_not_used", reason=str(exc))
            return Fold(feature_schema, dim, known)
        _log.info("checkpoint_restored", sequence=fold.sequence, state_hash=fold.state_hash())
        return fold

    async def _compare(self, sequence: int) -> None:
        """Refuse a state of more than the stream holds, as after a power failure.

        Raises:
            StateError: The stream ends before it.
        """
        try:
            ends_at = (await self._client.jetstream().stream_info(FEEDBACK.name)).state.last_seq
        except (NatsError, OSError):
            return  # whoever reads the stream next will say so
        if ends_at < sequence:
            raise StateError(f"it was made at sequence {sequence}, and the log ends at {ends_at}")

    async def read(self, name: str) -> bytes | None:
        """Return another state by its name; None when it cannot be had."""
        try:
            store = await self._client.jetstream().object_store(CHECKPOINT_BUCKET)
            return (await store.get(name)).data
        except (ObjectNotFoundError, NotFoundError):
            return None
        except (NatsError, OSError) as exc:
            _log.warning("checkpoint_not_used", name=name, reason=str(exc))
            return None

    def due(self, learned: int) -> bool:
        """Count learned messages; True when a checkpoint shall be written now."""
        self._learned += learned
        pause_over = time.monotonic() - self._written_at >= LEAST_PAUSE_S
        return self._learned >= self._every and pause_over

    async def write(self, fold: Fold, others: Mapping[str, bytes]) -> None:
        """Store the state as it is now; a failure is logged, the stream still has everything.

        Args:
            fold: The learner.
            others: Name -> bytes of what else is folded.
        """
        self._written_at, self._learned = time.monotonic(), 0
        if not self._client.is_connected:
            _log.warning("checkpoint_not_written", reason="the broker is away")
            return
        data, sequence, state_hash = dump(fold), fold.sequence, fold.state_hash()
        size = len(data)
        try:
            store = await self._client.jetstream().object_store(CHECKPOINT_BUCKET)
            await store.put(_name(fold.learner.feature_schema), data)
            for name, other in others.items():
                await store.put(name, other)
        except (NatsError, OSError, TimeoutError) as exc:
            _log.warning("checkpoint_not_written", reason=str(exc) or type(exc).__name__)
            return
        finally:
            # It was there three times: packed, in pieces, and on its way.
            del data
            trim_memory()
        _log.info("checkpoint", sequence=sequence, state_hash=state_hash, bytes=size)


def _name(feature_schema: str) -> str:
    return f"{LEARNER}-{feature_schema}"
