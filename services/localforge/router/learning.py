"""Learning from the stream without keeping requests waiting."""

import asyncio

from localforge.bandit import Applied, Fold
from localforge.bus.pull import Pulled
from localforge.contracts import subjects
from localforge.router.companions import Companions
from localforge.telemetry import log

_log = log.get("router")

AT_ONCE = 4
"""Facts that are learned from without a pause: half a millisecond that a request may wait for, two
where they are verdicts on cascades."""
BEHIND = 10_000
"""Facts still on the server from which on learning comes first: a learner that falls back decides
on what is long known, and a replay looks only so far back for it: 50,000 messages, of which there
may be three for a fact. A busy log is read some thousands behind its end on purpose."""


class Learning:
    """Takes facts into the learner and into what keeps pace with it.

    Args:
        fold: The learner.
        companions: Keep the goal and know what keys have spent.
    """

    def __init__(self, fold: Fold, companions: Companions) -> None:
        self._fold = fold
        self._companions = companions

    async def take(self, batch: list[Pulled]) -> int:
        """Take a batch of the stream, in its order; decisions may be made in between.

        A batch that was broken off may be given again: what was taken is not taken twice.

        Returns:
            How many facts taught the learner.
        """
        step = AT_ONCE if batch[-1].pending < BEHIND else len(batch)
        learned = 0
        for start in range(0, len(batch), step):
            if start:
                await asyncio.sleep(0)
            learned += self._learn(batch[start : start + step])
        return learned

    def _learn(self, messages: list[Pulled]) -> int:
        # Nothing is awaited here: every decision finds the learner and its companions equally far.
        learned = 0
        for message in messages:
            applied = self._fold.apply_bytes(message.sequence, message.subject, message.data)
            learned += applied is Applied.LEARNED
            if message.subject == subjects.STATE_IMPORT:
                self._tell_import(applied)
        self._companions.apply(messages)
        return learned

    def _tell_import(self, applied: Applied) -> None:
        fold = self._fold
        if applied is Applied.IMPORTED:
            _log.info("router_imported", sequence=fold.sequence, state_hash=fold.state_hash())
        elif applied is not Applied.BEHIND:
            _log.error("router_import_not_taken", sequence=fold.sequence, reason=applied.value)
