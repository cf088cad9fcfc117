"""Noticing that a model is no longer what it was: River's ADWIN over prediction errors.

The state of the detector is the errors it has seen since it was last made, and nothing else, so
that it can be stored as numbers and restored bit for bit.
"""

from collections.abc import Iterable
from typing import Any

# River's detector without the package around it, whose import brings scikit-learn and most of
# SciPy: 75 MB and more than a second in every router.
from river._river_rust.drift import AdaptiveWindowing

DELTA = 0.02
"""Chance of a false alarm, as ADWIN means it; its bound is loose, real alarms are far rarer."""
LONGEST = 1000
"""Errors after which the detector is made anew from the last `KEPT`."""
KEPT = 500


class DriftDetector:
    """Watches one model.

    Args:
        errors: Of an earlier detector to go on from; see `errors`.
    """

    def __init__(self, errors: Iterable[float] = ()) -> None:
        self._restart(errors)

    @property
    def errors(self) -> tuple[float, ...]:
        """The whole state."""
        return tuple(self._errors)

    def update(self, error: float) -> bool:
        """Take the next score minus what is not the model's level; True when the mean has changed.

        After a change it starts anew.
        """
        if len(self._errors) >= LONGEST:
            self._restart(self._errors[-KEPT:])
        self._errors.append(error)
        if not self._adwin.update(error):
            return False
        self._restart(())
        return True

    def _restart(self, errors: Iterable[float]) -> None:
        self._errors: list[float] = []
        # River's compiled detector has no types.
        make: Any = AdaptiveWindowing
        self._adwin: Any = make(
            delta=DELTA, clock=32, max_buckets=5, min_window_length=5, grace_period=10
        )
        for error in errors:
            self._errors.append(error)
            self._adwin.update(error)
