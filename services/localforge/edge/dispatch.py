"""The way from the edge into the live lane."""

from typing import Protocol

from nats.errors import Error as NatsError

from localforge.bus.bus import Bus
from localforge.contracts import subjects
from localforge.contracts.live import CancelCall, ChatCall
from localforge.errors import DependencyUnavailable


class Dispatch(Protocol):
    """Sends requests on and calls them off. Answers come back to the reply subject."""

    def send(self, call: ChatCall, reply: str) -> None:
        """Hand a request to the profiler.

        Raises:
            RetryableError: It could not be handed on now.
            LocalforgeError: It never can be.
        """

    def cancel(self, request_id: str) -> None:
        """Tell everyone that the answer is no longer wanted.

        Raises:
            DependencyUnavailable: They cannot be told now.
        """

    @property
    def can_ask_alive(self) -> bool:
        """False while the broker's word would mean nothing."""

    def ask_alive(self, subject: str, reply: str) -> bool:
        """Have `reply` told whether anybody serves `subject`; False when it cannot be now."""


class BusDispatch:
    """`Dispatch` over the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def send(self, call: ChatCall, reply: str) -> None:
        """Hand a request to the profiler."""
        if not self._bus.connected:
            # A publish would be kept and sent after the reconnect, when nobody waits any more.
            raise DependencyUnavailable("the broker does not answer", code="broker_unavailable")
        self._bus.forward(subjects.PROFILE, call, reply=reply)

    def cancel(self, request_id: str) -> None:
        """Broadcast a cancel."""
        if not self._bus.connected:
            return
        try:
            self._bus.publish(subjects.CANCEL, CancelCall(request_id=request_id))
        except NatsError as exc:
            raise DependencyUnavailable(f"the broker did not take the cancel: {exc}") from exc

    @property
    def can_ask_alive(self) -> bool:
        """False without a broker, and right after a reconnect."""
        return self._bus.can_ask_alive

    def ask_alive(self, subject: str, reply: str) -> bool:
        """Ask the broker, which knows at once when a process has died."""
        return self._bus.connected and self._bus.ask_alive(subject, reply)
