"""`POST /v1/feedback`: a user's verdict on one completion, kept durably before it is accepted."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

import msgspec

from localforge.contracts.chat import FeedbackSubmitted
from localforge.contracts.facts import DecisionMade
from localforge.edge.asgi import HttpRequest
from localforge.edge.body import encode
from localforge.edge.decisions import Fetch, find_decision, is_theirs
from localforge.edge.keys import ApiKey, KeyRing
from localforge.errors import RequestRefused
from localforge.request.reading import read

Publish = Callable[[FeedbackSubmitted], Awaitable[None]]
"""Returns when the verdict is safe. Raises `DependencyUnavailable` when it cannot be made so."""

_END = r"$(?!\n)"
"""Python's `$` lets a line feed follow. OpenAPI's patterns are JavaScript's, which has no `\\Z`."""
FeedbackId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}" + _END)]
CompletionId = Annotated[
    str, msgspec.Meta(pattern=r"^(chatcmpl-|cmpl-|msg_)[A-Za-z0-9_-]{1,64}" + _END)
]
"""As the API that answered wrote it: chat completion, text completion or message."""
_API_PREFIX = re.compile(r"^(cmpl-|msg_)")
Score = Annotated[float, msgspec.Meta(ge=0, le=1)]
LOOK_AGAIN_S = (0.05, 0.2, 0.5)
"""A decision's record follows its answer in the background; a verdict may be quicker."""


class FeedbackBody(msgspec.Struct, frozen=True):
    """One verdict. Give `completion_id` (or `id`), and either `score` or `thumbs_up`."""

    completion_id: CompletionId | None = None
    """`id` of the completion or message."""
    id: CompletionId | None = None
    """The same, for clients that hand a completion's fields on as they are."""
    score: Score | None = None
    """0 (useless) to 1 (right)."""
    thumbs_up: bool | None = None
    feedback_id: FeedbackId | None = None
    """Makes the verdict idempotent: a second one with the same id is ignored."""
    source: Literal["user", "test"] = "user"
    """`test` for a check with a known answer."""
    comment: str | None = None
    """Not stored; only its length is."""


class FeedbackAccepted(msgspec.Struct, frozen=True):
    """The verdict is safe and on its way."""

    id: str
    completion_id: str
    score: float
    object: str = "feedback"


_feedback = msgspec.json.Decoder(FeedbackBody)


class FeedbackEndpoint:
    """Takes verdicts.

    Args:
        publish: Stores one durably.
        fetch: Gets one decision from the log.
        is_delayed: Tells whether decisions may be missing from the log for longer.
        keys: Returns the key ring in force.
        new_id: Makes ids for verdicts without one.
        clock: Unix time in seconds.
        max_body: Most bytes of a body.
    """

    def __init__(
        self,
        publish: Publish,
        fetch: Fetch,
        is_delayed: Callable[[], bool],
        keys: Callable[[], KeyRing],
        new_id: Callable[[], str],
        clock: Callable[[], float],
        max_body: int,
    ) -> None:
        self._publish = publish
        self._fetch = fetch
        self._is_delayed = is_delayed
        self._keys = keys
        self._new_id = new_id
        self._clock = clock
        self._max_body = max_body

    async def submit(self, request: HttpRequest) -> None:
        """Accept one verdict: 202 when it is safe, 503 when it cannot be made so."""
        key = self._keys().authenticate(request.headers)
        body = read(_feedback, await request.body(self._max_body))
        completion_id = _completion_id(body)
        score = _score(body)
        request.facts["decision_id"] = completion_id.removeprefix("chatcmpl-")
        await self._check(completion_id, key)
        verdict = FeedbackSubmitted(
            id=body.feedback_id or self._new_id(),
            completion_id=completion_id,
            score=score,
            source=body.source,
            comment_bytes=len((body.comment or "").encode()),
            submitted_at=self._clock(),
            key_id=key.id if key else "",
        )
        await self._publish(verdict)
        accepted = FeedbackAccepted(verdict.id, verdict.completion_id, verdict.score)
        await request.reply(202, encode(accepted))

    async def _check(self, completion_id: str, key: ApiKey | None) -> None:
        """Refuse a verdict on an answer that nobody gave, or that is another key's.

        While services have decisions that JetStream does not take, one that is not in the log is
        let through: the evaluator looks again when it joins the two.
        """
        record = await self._find(completion_id)
        if not self._is_delayed() if record is None else not is_theirs(record, key):
            raise RequestRefused(
                f"no completion {completion_id!r} of yours is known; give the `id` of the answer",
                code="completion_not_found",
                param="completion_id",
                status=404,
            )

    async def _find(self, completion_id: str) -> DecisionMade | None:
        record = await find_decision(self._fetch, completion_id)
        for pause_s in LOOK_AGAIN_S:
            if record is not None or self._is_delayed():
                break
            await asyncio.sleep(pause_s)
            record = await find_decision(self._fetch, completion_id)
        return record


def _completion_id(body: FeedbackBody) -> str:
    given = body.completion_id or body.id
    if given is None:
        raise RequestRefused(
            "`completion_id` is missing: the `id` of the chat completion",
            code="missing_required_parameter",
            param="completion_id",
        )
    if body.completion_id and body.id and body.completion_id != body.id:
        raise RequestRefused(
            "`completion_id` and `id` name two completions; give one",
            code="invalid_value",
            param="completion_id",
        )
    return _API_PREFIX.sub("chatcmpl-", given)


def _score(body: FeedbackBody) -> float:
    if (body.score is None) == (body.thumbs_up is None):
        raise RequestRefused(
            "give either `score` (0 to 1) or `thumbs_up` (true or false)",
            code="missing_required_parameter" if body.score is None else "invalid_value",
            param="score",
        )
    return float(body.thumbs_up) if body.score is None else body.score  # type: ignore[arg-type]
