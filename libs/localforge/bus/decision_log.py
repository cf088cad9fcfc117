"""Single facts from the log."""

from typing import NamedTuple

from nats.aio.client import Client
from nats.errors import BadSubjectError
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from localforge.contracts import subjects
from localforge.errors import ContractError, DependencyUnavailable


class Logged(NamedTuple):
    """One fact as it is in the log."""

    subject: str
    data: bytes


async def read_decision(client: Client, decision_id: str) -> bytes | None:
    """Return the record of a decision; None when there is none.

    Raises:
        ContractError: The id cannot be one.
        DependencyUnavailable: The log cannot be read.
    """
    found = await read_last(client, subjects.decision(decision_id))
    return found.data if found else None


async def read_last(client: Client, subject: str) -> Logged | None:
    """Return the last fact on a subject, wildcards allowed; None when there is none.

    Raises:
        ContractError: It is no subject.
        DependencyUnavailable: The log cannot be read.
    """
    try:
        found = await client.jetstream().get_msg(
            subjects.FEEDBACK.name, subject=subject, direct=True
        )
    except NotFoundError:
        return None
    except BadSubjectError as exc:
        raise ContractError(f"{subject!r} is no subject") from exc
    except (NatsError, OSError, TimeoutError) as exc:
        raise DependencyUnavailable(f"the log cannot be read: {exc}") from exc
    return Logged(found.subject or "", found.data or b"")
