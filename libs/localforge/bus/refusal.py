"""Tell the caller of either lane that a request ends here, in the API's own shape."""

import secrets
import time
from typing import Protocol

from localforge.bus.work import Spent
from localforge.contracts.base import Contract
from localforge.contracts.chat import ChatCompleted
from localforge.contracts.live import ChatCall, Failed
from localforge.contracts.subjects import answer
from localforge.errors import LocalforgeError

NOTHING = Spent()


class Publisher(Protocol):
    """What a refusal needs of a `Bus`."""

    def publish(self, subject: str, message: Contract, *, reply: str = "") -> None:
        """Publish on core NATS."""

    async def publish_durable(self, subject: str, message: Contract, *, message_id: str) -> bool:
        """Publish to a stream and wait for its ack."""


def refuse(bus: Publisher, call: ChatCall, reply: str, exc: LocalforgeError) -> None:
    """Send the error of a live request to the edge's inbox."""
    frame = Failed(
        request_id=call.request_id,
        attempt=call.attempt,
        status=exc.status,
        error=exc.as_api_error(),
        retry_after_s=exc.retry_after_s,
    )
    bus.publish(reply, frame)


async def end_with_error(
    bus: Publisher,
    request_id: str,
    exc: LocalforgeError,
    spent: Spent = NOTHING,
) -> None:
    """Make an error the one result of a durable request; a request that has one keeps it.

    Args:
        bus: Takes the result.
        request_id: Chosen by the application.
        exc: The error.
        spent: On the attempts there were.

    Raises:
        DependencyUnavailable: JetStream did not take the result.
    """
    completed = ChatCompleted(
        id=request_id,
        status=exc.status,
        error=exc.as_api_error(),
        cost_usd=spent.spent_usd,
        usage=spent.spent_usage,
        completed_at=time.time(),
    )
    await bus.publish_durable(answer(request_id), completed, message_id=secrets.token_hex(16))
