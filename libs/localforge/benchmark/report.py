"""Rows of a report, as they are written to JSON."""

import math
import statistics
from collections.abc import Sequence

import msgspec

from localforge.benchmark.frontier import LOSSES, Measures, Point


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One policy on one file. Shares, not per cent; means over the orders; NaN becomes null."""

    data: str
    policy: str
    prior: str
    """`none`, `shipped`, or the name of the file the prior came from."""
    orders: int
    """How many stream orders the figures are means of; 1 for what does not depend on the order."""
    apgr: float
    cpt50: float
    cpt80: float
    save_at: dict[str, float]
    """By accuracy points lost."""
    accuracy: float
    """At the shipped default preference."""
    cost_usd: float
    """Per query, at the shipped default preference."""
    spread: float
    """Standard deviation of `apgr` over the orders; 0 for what does not depend on the order."""


class Report(msgspec.Struct, frozen=True):
    """The document that `--json` writes."""

    rows: tuple[Row, ...]


def make_row(
    data: str, policy: str, prior: str, measures: Sequence[Measures], at_default: Sequence[Point]
) -> Row:
    """Return the mean over stream orders.

    Args:
        data: Name of the file.
        policy: Name of the policy.
        prior: What it knew before.
        measures: One per order.
        at_default: The operating points at the default preference, one per order.
    """
    saved = zip(*(m.save_at for m in measures), strict=True)
    return Row(
        data=data,
        policy=policy,
        prior=prior,
        orders=len(measures),
        apgr=statistics.fmean(m.apgr for m in measures),
        cpt50=statistics.fmean(m.cpt50 for m in measures),
        cpt80=statistics.fmean(m.cpt80 for m in measures),
        save_at={
            name: statistics.fmean(values) for name, values in zip(LOSSES, saved, strict=True)
        },
        accuracy=statistics.fmean(point.accuracy for point in at_default),
        cost_usd=statistics.fmean(point.cost for point in at_default),
        spread=deviation([m.apgr for m in measures]),
    )


def deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 for a single value."""
    if any(map(math.isnan, values)):
        return math.nan
    return statistics.stdev(values) if len(values) > 1 else 0.0
