"""Sums over rows."""

import numpy as np
import numpy.typing as npt

from localforge.features.tables import Floats

_ONES = np.ones(4096, dtype=np.float32)


def sum_of(rows: Floats | npt.NDArray[np.int8]) -> Floats:
    """Return the sum over the first axis, in float32: shape (n, d) to (d,), or (n,) to a number."""
    count = len(rows)
    ones = _ONES[:count] if count <= len(_ONES) else np.ones(count, dtype=np.float32)
    # A product with ones is the fastest sum; `dot` is a microsecond faster than `@`.
    total: Floats = ones.dot(rows)
    return total
