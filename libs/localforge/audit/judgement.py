"""What a judged log says of the target policy: estimates, or a refusal with its reason."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from localforge.audit import estimators
from localforge.audit.estimators import Estimate, Overlap
from localforge.audit.results import AS_CHARGED, Results, Tariffs

LEAST_EFFECTIVE = 50.0
"""Effective decisions below which the interval of an estimate cannot be trusted."""
MOST_UNSUPPORTED = 0.1
"""Share of the target's choices that the log could never have made, above which it is refused."""
NEGLIGIBLE = 1e-6
"""Share of a decision that may go to such models and is still judged: it moves no figure."""
ENOUGH = 50
"""Decisions of a model from which the share that was scored is looked at."""
UNEVEN = 4.0
"""Standard errors between the largest and the least of those shares that chance hardly makes."""
OFTEN = 0.01
"""Share of the requests that may fail at the chosen model, or altogether, without a warning."""
HEAVY = 0.75
"""Share of the sum of squares in so few terms (`estimators.FEW`) above which intervals do
not hold: with lognormal lengths of answers (sigma 2), those of the cost did in 68 to 78 %."""
TOO_FAR = 5.0
"""Standard errors between the mean ratio and 1 that a log drawn as it states does not show."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the target policy, per request."""

    name: str
    """`quality` (0 to 1), `cost_usd`, `latency_s`, or `utility` at the target's weights."""
    overlap: Overlap
    """On the decisions for which this figure was observed, each standing for those of its model for
    which it was not."""
    logged: Estimate | None = None
    """What the policy of the log earned on all judged decisions, at the prices it paid."""
    ips: Estimate | None = None
    snips: Estimate | None = None
    dr: Estimate | None = None
    difference: Estimate | None = None
    """Doubly robust estimate of target minus logged, decision by decision."""
    refused: str = ""
    """Why there is no estimate; empty when there is one."""


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A decision that would have been another."""

    decision_id: str
    old: str
    new: str
    """Empty when the request would have been refused."""
    old_probability: float
    """Of `old` under the target."""
    new_probability: float
    domain: str
    preference: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of the target policy."""

    decisions: int
    """In the time asked about."""
    judged: int
    not_judged: dict[str, int]
    """By reason."""
    differ: int
    """Judged decisions that the target, with the same random numbers, would have made otherwise."""
    unsupported: float
    """Share of the target's choices over all judged decisions that the log could not have made."""
    uncovered: int
    """Judged decisions left out of the estimates: the target may choose such a model there."""
    fell_back: int
    """Judged decisions whose chosen model did not answer, and another did."""
    unanswered: int
    """Judged decisions that no model answered."""
    shares: dict[str, tuple[float, float]]
    """Per model its share of the log's and of the target's choices, in expectation."""
    metrics: tuple[Metric, ...]
    examples: tuple[Example, ...]
    warnings: tuple[str, ...]

    @property
    def refused(self) -> bool:
        """True when nothing could be estimated."""
        return all(metric.refused for metric in self.metrics)


class Row(msgspec.Struct, frozen=True):
    """One judged decision: probabilities and predictions; what came of it is joined at the end."""

    decision_id: str
    chosen: str
    ratio: float
    probabilities: dict[str, tuple[float, float]]
    """The target's and the log's, of each model that either may choose and the log might have."""
    unsupported: float
    predicted: tuple[float, float, float]
    """Quality, cost and latency predicted of the chosen model, before the answer."""
    expected: tuple[float, float, float]
    """The same over the target's choices."""
    weights: tuple[float, float]
    """Utility per US dollar and per second under the target."""
    shared: tuple[str, ...]
    """Whom both would ask one after the other, the chosen model first, until their orders part."""
    instead: tuple[float, float, float] | None
    """Quality, cost and latency predicted of the model that the target asks then; None: nobody."""
    tariffs: Tariffs = msgspec.field(default_factory=lambda: AS_CHARGED)
    """What the target pays for the answers of the log."""

    @property
    def is_covered(self) -> bool:
        """True where the log could have made the target's choices."""
        return self.unsupported <= NEGLIGIBLE


Seen = tuple[float, float]
"""What was earned, and what the target would have earned, had it chosen the same model."""


def estimate(rows: Sequence[Row], results: Results) -> tuple[Metric, ...]:
    """Return all metrics of the target policy.

    Args:
        rows: All judged decisions.
        results: What came of them.
    """
    refusal = _overlap_refusal(len(rows), unsupported_share(rows))
    covered = [row for row in rows if row.is_covered]
    return tuple(
        _metric(name, covered, observe, refusal) for name, observe in observers(results).items()
    )


def unsupported_share(rows: Sequence[Row]) -> float:
    """Return the share of the target's choices that the log could not have made."""
    return sum(row.unsupported for row in rows) / len(rows) if rows else 0.0


def warnings(rows: Sequence[Row], results: Results, metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Return what makes the log doubtful although an estimate can be had.

    Args:
        rows: All judged decisions.
        results: What came of them.
        metrics: What was estimated from both.
    """
    found = (
        _drawn_otherwise(rows),
        _scored_unevenly(rows, results),
        _told_often(
            rows,
            fell_back(rows, results),
            "the chosen model did not answer, and another did",
            "where the target would have asked a different one next, its prediction stands in for "
            "the answer, and costs and delays come out too low where that one fails as well",
        ),
        _told_often(
            rows,
            unanswered(rows, results),
            "no model answered",
            "latency and utility are those of answers, and leave such requests out",
        ),
        _heavy(metrics),
    )
    return tuple(filter(None, found))


def fell_back(rows: Sequence[Row], results: Results) -> list[Row]:
    """Return the decisions whose chosen model did not answer, and another did."""
    return [row for row in rows if results.answered_by(row.decision_id) not in ("", row.chosen)]


def unanswered(rows: Sequence[Row], results: Results) -> list[Row]:
    """Return the decisions that no model answered."""
    return [row for row in rows if not results.answered_by(row.decision_id)]


def observers(results: Results) -> dict[str, Callable[[Row], Seen | None]]:
    """Return by the name of each figure what tells it of a decision; None where it was not seen."""

    def parted(row: Row) -> bool:
        """Tell whether the target would have asked others than those who failed and answered."""
        answered_by = results.answered_by(row.decision_id)
        return bool(answered_by) and answered_by not in row.shared

    def quality(row: Row) -> Seen | None:
        found = results.quality(row.decision_id)
        if found is None or not parted(row):
            return None if found is None else (found, found)
        return row.instead and (found, row.instead[0])

    def cost(row: Row) -> Seen | None:
        paid = results.cost_usd(row.decision_id)
        then = results.cost_usd(row.decision_id, row.tariffs, row.shared if parted(row) else None)
        if paid is None or then is None:
            return None
        return paid, then + (row.instead[1] if row.instead and parted(row) else 0.0)

    def latency(row: Row) -> Seen | None:
        found = results.latency_s(row.decision_id)
        if found is None or not parted(row):
            return None if found is None else (found, found)
        begun = results.latency_s(row.decision_id, row.shared)
        return row.instead and (found, (begun or 0.0) + row.instead[2])

    def utility(row: Row) -> Seen | None:
        q, c, s = quality(row), cost(row), latency(row)
        if q is None or c is None or s is None:
            return None
        return _utility(row, (q[0], c[0], s[0])), _utility(row, (q[1], c[1], s[1]))

    return {"quality": quality, "cost_usd": cost, "latency_s": latency, "utility": utility}


def _metric(
    name: str, rows: Sequence[Row], observe: Callable[[Row], Seen | None], refusal: str
) -> Metric:
    found = [observe(row) for row in rows]
    rates = _observed_rates(rows, [seen is not None for seen in found])
    # A decision that was seen stands for those of its model that were not.
    weight = np.array(
        [
            0.0 if seen is None else 1 / rates[row.chosen]
            for row, seen in zip(rows, found, strict=True)
        ]
    )
    ratio = weight * np.array([row.ratio for row in rows])
    overlap = _overlap(rows, ratio, rates, int(np.count_nonzero(weight)))
    refusal = refusal or _size_refusal(name, overlap) or _unseen_refusal(name, rows, rates)
    if refusal:
        return Metric(name=name, overlap=overlap, refused=refusal)
    earned = np.array([seen[0] if seen else 0.0 for seen in found])
    reward = np.array([seen[1] if seen else 0.0 for seen in found])
    predicted = np.array([_component(name, row, row.predicted) for row in rows])
    expected = np.array([_component(name, row, row.expected) for row in rows])
    terms = estimators.doubly_robust_terms(ratio, reward, predicted, expected)
    own = estimators.doubly_robust_terms(weight, earned, predicted, predicted)
    return Metric(
        name=name,
        overlap=overlap,
        logged=estimators.mean(own),
        ips=estimators.ips(ratio, reward),
        snips=estimators.snips(ratio, reward),
        dr=estimators.mean(terms),
        difference=estimators.mean(terms - own),
    )


def _observed_rates(rows: Sequence[Row], seen: Sequence[bool]) -> dict[str, float]:
    """Return the share of each chosen model's decisions for which a figure was seen, 0 to 1."""
    made = Counter(row.chosen for row in rows)
    scored = Counter(row.chosen for row, is_seen in zip(rows, seen, strict=True) if is_seen)
    return {model: scored[model] / count for model, count in made.items()}


def _overlap(
    rows: Sequence[Row], ratio: estimators.Vector, rates: Mapping[str, float], seen: int
) -> Overlap:
    if not seen:
        return estimators.overlap(np.zeros(0), np.zeros(0))
    # A model that was never drawn, or never seen, would be seen as often as all together.
    usual = seen / len(rows)
    moments = [
        sum(
            target * target / (logged * (rates.get(model) or usual))
            for model, (target, logged) in row.probabilities.items()
        )
        for row in rows
    ]
    found = estimators.overlap(ratio, np.array(moments))
    return msgspec.structs.replace(found, decisions=seen)


def _utility(row: Row, parts: tuple[float, float, float]) -> float:
    quality, cost, latency = parts
    return quality - row.weights[0] * cost - row.weights[1] * latency


def _component(name: str, row: Row, parts: tuple[float, float, float]) -> float:
    if name == "utility":
        return _utility(row, parts)
    return parts[("quality", "cost_usd", "latency_s").index(name)]


def _overlap_refusal(judged: int, unsupported: float) -> str:
    if not judged:
        return "no decision could be judged"
    if unsupported > MOST_UNSUPPORTED:
        return (
            f"{unsupported:.1%} of the target's choices are models that the log could not have "
            f"chosen there (at most {MOST_UNSUPPORTED:.0%}): what they would have earned is unknown"
        )
    return ""


def _size_refusal(name: str, overlap: Overlap) -> str:
    if not overlap.decisions:
        return f"no judged decision has an observed {name}"
    if overlap.size < LEAST_EFFECTIVE:
        return (
            f"overlap is too thin: {overlap.decisions} decisions count as {overlap.size:.1f} "
            f"(at least {LEAST_EFFECTIVE:.0f}); log more, explore more (`router.gamma`, "
            "`router.exploration_floor`), or ask about a policy closer to the logged one"
        )
    return ""


def _unseen_refusal(name: str, rows: Sequence[Row], rates: Mapping[str, float]) -> str:
    share = sum(
        target
        for row in rows
        for model, (target, _) in row.probabilities.items()
        if rates.get(model) == 0.0
    ) / len(rows)
    if share <= MOST_UNSUPPORTED:
        return ""
    return (
        f"{share:.1%} of the target's choices are models of which the log has no observed {name} "
        f"(at most {MOST_UNSUPPORTED:.0%})"
    )


def _drawn_otherwise(rows: Sequence[Row]) -> str:
    covered = [row for row in rows if row.is_covered]
    ratio = np.array([row.ratio for row in covered])
    found = _overlap(covered, ratio, {}, len(covered))
    error = found.mean_ratio_error
    if not error or abs(found.mean_ratio - 1.0) <= TOO_FAR * error:
        return ""
    return (
        f"the mean ratio is {found.mean_ratio:.3f}, expected 1 ± {error:.3f}: the log was not "
        "drawn with the probabilities that it states, or decisions are missing from it"
    )


def _scored_unevenly(rows: Sequence[Row], results: Results) -> str:
    made = Counter(row.chosen for row in rows)
    looked_at = [row for row in rows if made[row.chosen] >= ENOUGH]
    scored = [results.quality(row.decision_id) is not None for row in looked_at]
    rates = _observed_rates(looked_at, scored)
    if not rates:
        return ""
    most, least = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
    usual = sum(scored) / len(scored)
    error = math.sqrt(usual * (1 - usual) * (1 / made[most] + 1 / made[least]))
    if rates[most] - rates[least] <= UNEVEN * error:
        return ""
    told = ", ".join(f"{model} {rate:.0%}" for model, rate in sorted(rates.items()))
    return (
        f"answers are not scored equally often ({told}): the estimates of quality and utility "
        "allow for what depends on the model alone, and are biased where an answer is scored or "
        "not because of how good it is"
    )


def _told_often(rows: Sequence[Row], which: Sequence[Row], what: str, so: str) -> str:
    if len(which) <= OFTEN * len(rows):
        return ""
    made, met = Counter(row.chosen for row in rows), Counter(row.chosen for row in which)
    told = ", ".join(f"{model} {met[model] / made[model]:.1%}" for model in sorted(met))
    return f"at {len(which) / len(rows):.1%} of the requests {what} ({told} of its own): {so}"


def _heavy(metrics: Sequence[Metric]) -> str:
    # Not of the terms with predictions: the first ones, made while nothing was known, are far off
    # and hold most of the variance, and their intervals hold all the same.
    shares = {
        metric.name: max(metric.logged.leading, metric.ips.leading)
        for metric in metrics
        if metric.logged and metric.ips
    }
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share > HEAVY)
    if not told:
        return ""
    return (
        f"{estimators.FEW} requests hold most of the variance ({told}): intervals of these figures "
        "miss the truth more often than one in twenty times"
    )
