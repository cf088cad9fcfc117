"""Which executors hold the requests that have gone silent, and whether these are still there."""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from localforge.bus.roll_call import RollCall
from localforge.contracts import subjects
from localforge.contracts.cards import RegistrySnapshot
from localforge.contracts.live import Summary
from localforge.edge.dispatch import Dispatch

RECENT_S = 6.0
"""Executors beat every two seconds; one that has not for so long cannot have got a request now."""


class HasSnapshot(Protocol):
    """This process's copy of the registry."""

    snapshot: RegistrySnapshot


class Watch:
    """Asks after executors on behalf of silent requests.

    Args:
        dispatch: Carries the questions.
        edge_id: Names the inbox of the answers.
        registry: Says which executors there are, and on which machines.
        machine: This one's id.
        on_gone: Told the backend and the replica of an executor process that is gone.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        edge_id: str,
        registry: HasSnapshot,
        machine: str,
        on_gone: Callable[[str, str], None],
    ) -> None:
        self._dispatch = dispatch
        self._edge_id = edge_id
        self._registry = registry
        self._machine = machine
        self._on_gone = on_gone
        self._gone: dict[str, float] = {}
        """Executors that were found gone, with the time of the last heartbeat they had sent."""
        self._roll = RollCall(self._ask, self._note_gone)

    def look_after(self, holder: Summary | None) -> None:
        """Ask after an executor; after all of them when nobody has said yet who has the request.

        An executor says so within 0.2 s, so a request that nobody has claimed waits on its way, or
        was lost with the executor that had just got it. Those that were found gone before are not
        asked after then: what they had was given to others when they were.
        """
        if holder is None:
            for name in tuple(self._recent()):
                self._call(name)
        else:
            self._call(subjects.executor_name(holder.zone, holder.backend, holder.replica))

    def on_answer(self, name: str, *, nobody: bool) -> None:
        """Take what came to the inbox of the answers."""
        if not nobody:
            self._gone.pop(name, None)
        self._roll.on_answer(name, nobody=nobody)

    def close(self) -> None:
        """Ask no more."""
        self._roll.close()

    def _recent(self) -> Iterator[str]:
        snapshot = self._registry.snapshot
        oldest = time.time() - RECENT_S
        for state in snapshot.replicas.values():
            name = subjects.executor_name(state.zone, state.backend, state.replica)
            if state.sent_at <= self._gone.get(name, 0.0):
                continue
            if state.sent_at >= oldest or not snapshot.fresh:
                yield name

    def _call(self, name: str) -> None:
        state = self._registry.snapshot.replicas.get(name)
        machine = state.machine if state else ""
        self._roll.call(name, is_elsewhere=machine not in ("", self._machine))

    def _ask(self, name: str) -> bool:
        if not self._dispatch.can_ask_alive:
            return False
        inbox = subjects.lost(self._edge_id, name)
        return self._dispatch.ask_alive(subjects.alive_of(name), inbox)

    def _note_gone(self, name: str) -> None:
        replicas = self._registry.snapshot.replicas
        self._gone = {other: at for other, at in self._gone.items() if other in replicas}
        if state := replicas.get(name):
            self._gone[name] = state.sent_at
        _, backend, replica = name.split(".")
        self._on_gone(backend, replica)
