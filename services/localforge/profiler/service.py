"""Profile one request: features, needs, label, zones and the seal. Pure and synchronous.

The body is decoded once, here, and goes on untouched.
"""

import math
import time

import msgspec

from localforge.config import PolicyConfig
from localforge.contracts.cards import Capability
from localforge.contracts.live import ChatCall, Lane, Operation, Profile, RouteCall
from localforge.contracts.trust import strictest
from localforge.errors import RequestRefused
from localforge.features import (
    SCHEMA,
    FeatureExtractor,
    Observation,
    parse_chat,
    parse_embeddings,
)
from localforge.features.demand import is_fixed
from localforge.profiler.conversation import Conversation, recognise
from localforge.trust import Sealer, ZonePolicy, detect

_NO_CONVERSATION = Conversation("")
_WARM_UP = ChatCall(
    request_id="warm-up",
    lane=Lane.LIVE,
    body=b'{"messages":[{"role":"user","content":"Ready?"}]}',
    deadline=math.inf,
)


class ProfilerService:
    """Turns a `ChatCall` into a `RouteCall`. Has no state of its own; start as many as you like.

    `profile` may run in several threads at once: nothing it reads changes after the warm-up.

    Args:
        policy: The configured policy, for its default label.
        zones: That policy resolved against the zones that exist.
        sealer: Signs where a body may go.
        seal_ttl_s: How long a seal is good for.
    """

    def __init__(
        self, policy: PolicyConfig, zones: ZonePolicy, sealer: Sealer, seal_ttl_s: float
    ) -> None:
        self._default_label = policy.default_label
        self._zones = zones
        self._sealer = sealer
        self._seal_ttl_s = seal_ttl_s
        self._conversation_key = sealer.derived_key(b"conversation")
        self._features = FeatureExtractor()
        # Whatever is made at first use (tables, word index, the signature's algorithm) is made now;
        # the first request would take three times as long as the next.
        self.profile(_WARM_UP, now=0.0)

    def profile(self, call: ChatCall, now: float) -> RouteCall:
        """Return the request with its profile and its seal.

        Args:
            call: A request as the edge accepted it.
            now: Unix time in seconds.

        Raises:
            RequestRefused: The body is wrong (400), or the deadline has passed (504, code
                `deadline_exceeded`).
        """
        started = time.perf_counter()
        # Written so that a deadline that is not a number counts as passed.
        if not now < call.deadline:
            raise RequestRefused(
                f"the deadline passed {now - call.deadline:.3f} s before the request was profiled;"
                " allow more time or retry",
                code="deadline_exceeded",
                status=504,
            )
        longest = 0
        fixed = False
        conversation = _NO_CONVERSATION
        if call.operation is Operation.EMBEDDINGS:
            seen, longest = self._observe_embeddings(call.body)
        else:
            body = parse_chat(call.body)
            seen = self._features.observe(body, durable=call.lane is Lane.DURABLE)
            fixed = is_fixed(body)
            conversation = recognise(body, self._conversation_key)
        detection = detect(call.body, has_opaque_parts=seen.has_opaque_parts)
        # Nobody but the policy can lower a label, so a declared one can only make it stricter.
        demanded = (label for label in (call.declared_label, call.minimum_label) if label)
        label = strictest(detection.label, self._default_label, *demanded)
        zones = self._zones.zones_for(label)
        seal = self._sealer.seal(
            request_id=call.request_id,
            body=call.body,
            label=label,
            zones=zones,
            expires_at=call.deadline + self._seal_ttl_s,
        )
        profile = Profile(
            feature_schema=SCHEMA.name,
            features=seen.features(),
            prompt_tokens=seen.prompt_tokens,
            domain=seen.domain,
            complexity=seen.complexity,
            latency_tolerance=seen.latency_tolerance,
            needs=seen.needs,
            longest_tokens=longest,
            max_tokens=seen.max_tokens,
            fixed=fixed,
            in_tool_loop=seen.in_tool_loop,
            turns=seen.turns,
            conversation=conversation.id,
            continues=conversation.continues,
            prefix_tokens=round(seen.prompt_tokens * conversation.prefix_share),
            label=label,
            zones=zones,
            findings=detection.findings,
            profile_s=time.perf_counter() - started,
        )
        return RouteCall(call=call, profile=profile, seal=seal)

    def _observe_embeddings(self, body: bytes) -> tuple[Observation, int]:
        """Return what a request for embeddings looks like, and the tokens of its longest text."""
        request = parse_embeddings(body)
        seen = msgspec.structs.replace(
            self._features.observe(request.as_chat),
            prompt_tokens=sum(request.tokens),
            needs=frozenset({Capability.EMBEDDINGS}),
            # Whoever has the vocabulary can read tokens, and nobody here has looked at them.
            has_opaque_parts=request.has_tokens,
        )
        return seen, max(request.tokens)
