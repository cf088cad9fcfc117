"""`GET /v1/decisions/{id}`: a logged decision and why it came out as it did."""

import re
from collections.abc import Awaitable, Callable

from localforge.contracts.facts import DecisionMade
from localforge.contracts.problems import ContractViolation
from localforge.edge.asgi import HttpRequest
from localforge.edge.body import encode
from localforge.edge.explanation import explain_record
from localforge.edge.keys import ApiKey, KeyRing
from localforge.errors import DependencyUnavailable, RequestRefused

PATH = "/v1/decisions/"
Fetch = Callable[[str], Awaitable[bytes | None]]
"""Returns the record of a decision id, or None. Raises `DependencyUnavailable`."""

_ID = re.compile(r"(?:chatcmpl-|cmpl-|msg_)?([A-Za-z0-9_-]{1,80})")


async def find_decision(fetch: Fetch, given: str) -> DecisionMade | None:
    """Return a logged decision; None when there is none.

    Args:
        fetch: Gets one record.
        given: Its id, or that of the completion.

    Raises:
        DependencyUnavailable: The log, or the record in it, cannot be read.
    """
    found = _ID.fullmatch(given)
    data = await fetch(found[1]) if found else None
    if data is None:
        return None
    try:
        return DecisionMade.decode(data)
    except ContractViolation as exc:
        raise DependencyUnavailable(
            f"decision {given!r} was logged by another version and cannot be read here"
        ) from exc


def no_decision(given: str) -> RequestRefused:
    """Say that there is none, or none that the caller may know of."""
    return RequestRefused(
        f"no decision {given[:80]!r} of yours is in the log; give the id from the header "
        "x-localforge-decision or the completion's id. A record follows its answer within a second",
        code="decision_not_found",
        status=404,
    )


def is_theirs(record: DecisionMade, key: ApiKey | None) -> bool:
    """Tell whether a caller may know of a decision: its own, or any where no key is asked for."""
    return key is None or record.key_id == key.id


class DecisionsEndpoint:
    """Reads the log.

    Args:
        fetch: Gets one record.
        keys: Returns the key ring in force.
    """

    def __init__(self, fetch: Fetch, keys: Callable[[], KeyRing]) -> None:
        self._fetch = fetch
        self._keys = keys

    async def get_one(self, request: HttpRequest) -> None:
        """Answer with one decision of the caller's; the completion's id is good too."""
        key = self._keys().authenticate(request.headers)
        given = request.path.removeprefix(PATH)
        record = await find_decision(self._fetch, given)
        if record is None or not is_theirs(record, key):
            raise no_decision(given)
        request.facts["decision_id"] = record.decision_id
        await request.reply(200, encode(explain_record(record)))
