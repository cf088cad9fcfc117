"""How many requests may be under way: refuse early what would only wait.

A limit for each requested model, so that one overloaded model takes nothing from the others. It
follows the delay that requests meet before a model begins to work on them, which is what a queue
costs and what a slow model does not: every interval the least such delay is compared with a target
(a queue that never empties is a standing one: Nichols and Jacobson, "Controlling Queue Delay",
ACM Queue 2012), and the limit is lowered by a factor or raised by a step (Cho et al., "Overload
Control for µs-scale RPCs with Breakwater", OSDI 2020). A refusal by a full executor counts as delay
above target. The step is the square root of the limit, as in Netflix's concurrency-limits.
"""

import math

from localforge.contracts.live import Accepted, AnyFrame, Explained, Failed
from localforge.errors import Overloaded
from localforge.telemetry import metrics

INTERVAL_S = 0.5
DECREASE = 0.8
BUSY = "busy"
"""An executor's word that it has no room for a request."""
LEAST = 4
"""A limit is never lower: some requests have to go through for it to be raised again."""
WEIGHT = 0.1
"""Of the newest request in the running mean of the time that requests take."""
LONGEST_RETRY_S = 30.0
MAX_MODELS = 256
OTHERS = ""
"""Shared by model names that came when there were many already."""


class Limit:
    """Requests for one model.

    Attributes:
        limit: So many may be under way.
        in_flight: So many are.
    """

    __slots__ = (
        "_admission",
        "_interval_end",
        "_is_reached",
        "_least_delay_s",
        "_mean_s",
        "_most_in_flight",
        "_was_refused",
        "in_flight",
        "limit",
    )

    def __init__(self, admission: "Admission", now: float) -> None:
        self.limit = float(admission.most)
        self.in_flight = 0
        self._admission = admission
        self._interval_end = now + INTERVAL_S
        self._least_delay_s = math.inf
        self._is_reached = False
        self._was_refused = False
        self._most_in_flight = 0
        self._mean_s = 0.0

    @property
    def retry_after_s(self) -> float:
        """When about half of what is under way now will have ended."""
        return min(max(1.0, self._mean_s / 2), LONGEST_RETRY_S)

    def reach(self) -> None:
        """Note that a request was refused for this limit."""
        self._is_reached = True

    def enter(self) -> None:
        """Count one in."""
        self.in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self.in_flight)

    def leave(self, now: float, took_s: float, delay_s: float, *, refused: bool) -> None:
        """Count one out, and learn from it.

        Args:
            now: Loop time in seconds.
            took_s: From its beginning to its end.
            delay_s: Of that, before a model began to work on it.
            refused: An executor had no room for it.
        """
        self.in_flight -= 1
        self._admission.in_flight -= 1
        if refused:
            self._was_refused = True
        else:
            self._mean_s += WEIGHT * (took_s - self._mean_s) if self._mean_s else took_s
            self._least_delay_s = min(self._least_delay_s, delay_s)
        if now >= self._interval_end:
            self._adapt(now)

    def _adapt(self, now: float) -> None:
        if self._was_refused or math.inf > self._least_delay_s > self._admission.target_s:
            # What was under way shows what is too much; the limit may be far above it.
            self.limit = max(LEAST, min(self.limit, self._most_in_flight) * DECREASE)
        elif self._is_reached:
            self.limit = min(self.limit + math.sqrt(self.limit), self._admission.most)
        self._interval_end = now + INTERVAL_S
        self._least_delay_s = math.inf
        self._is_reached = self._was_refused = False
        self._most_in_flight = self.in_flight


class Ticket:
    """One request that was let in.

    Attributes:
        is_known: What is learned from it is known; later frames say nothing new.
    """

    __slots__ = ("_delay_s", "_entered_at", "_is_refused", "_limit", "is_known")

    def __init__(self, limit: Limit, now: float) -> None:
        self.is_known = False
        self._limit = limit
        self._entered_at = now
        self._delay_s = 0.0
        self._is_refused = False
        limit.enter()

    def note(self, frame: AnyFrame, now: float) -> None:
        """Learn from a frame how long the request waited before a model began to work on it."""
        if isinstance(frame, Failed):
            self._is_refused = frame.error.code == BUSY
            self.is_known = True
        elif isinstance(frame, Explained):
            self.is_known = True
        elif frame.summary is not None and (
            frame.summary.upstream_s or not isinstance(frame, Accepted)
        ):
            self._delay_s = max(now - self._entered_at - frame.summary.upstream_s, 0.0)
            self.is_known = True

    def leave(self, now: float) -> None:
        """Count it out. One of which nothing was heard has waited all the time."""
        took_s = now - self._entered_at
        delay_s = self._delay_s if self.is_known else took_s
        self._limit.leave(now, took_s, delay_s, refused=self._is_refused)


class Admission:
    """The limits of one edge.

    Args:
        most: Requests under way, all models together; also what each limit begins with.
        target_s: Delay before a model begins that is still no overload.
    """

    def __init__(self, most: int, target_s: float) -> None:
        self.most = most
        self.target_s = target_s
        self.in_flight = 0
        self._limits: dict[str, Limit] = {}

    def enter(self, model: str, now: float) -> Ticket:
        """Let a request in; the caller counts it out.

        Args:
            model: The requested one.
            now: Loop time in seconds.

        Raises:
            Overloaded: Too many are under way.
        """
        limit = self._limits.get(model) or self._new(model, now)
        if limit.in_flight >= limit.limit or self.in_flight >= self.most:
            limit.reach()
            metrics.EDGE_OVERLOADED.inc()
            raise Overloaded(
                "more requests are under way than can be answered in time; try again later",
                retry_after_s=limit.retry_after_s,
            )
        self.in_flight += 1
        return Ticket(limit, now)

    def _new(self, model: str, now: float) -> Limit:
        if len(self._limits) >= MAX_MODELS:
            # Misspelt names would keep the room for ever.
            self._limits = {name: limit for name, limit in self._limits.items() if limit.in_flight}
        if len(self._limits) >= MAX_MODELS:
            model = OTHERS
        return self._limits.setdefault(model, Limit(self, now))
