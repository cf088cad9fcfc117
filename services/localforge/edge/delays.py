"""Which services have said that their facts are delayed; they repeat it while that is so."""

import time
from collections.abc import Callable

from localforge.contracts.live import FactsDelayed

SILENT_S = 6.0
"""Three words missed: it is over, or the service is gone with what it held."""


class DelayedFacts:
    """The last word of each service.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[float, FactsDelayed]] = {}

    def on_word(self, word: FactsDelayed, _: str) -> None:
        """Take one service's word."""
        self._heard[word.service] = (self._clock(), word)

    def current(self) -> list[FactsDelayed]:
        """Return the words that still stand, by service."""
        oldest = self._clock() - SILENT_S
        self._heard = {name: heard for name, heard in self._heard.items() if heard[0] >= oldest}
        return [word for _, (_, word) in sorted(self._heard.items())]
