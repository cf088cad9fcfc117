"""Judge another policy on the log before it goes live.

Every logged decision is made once more by the target rule on the learner as it stood then, which
gives the target's probability of every model; the estimators do the rest. The learner itself is
the logged one: what the target would have *learned* from its own choices is not in the log, so this
is the value of the new rule on what the old one had learned.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from localforge.audit import judgement
from localforge.audit.judgement import Example, Report, Row
from localforge.audit.policies import TargetPolicy
from localforge.audit.results import Results, Tariffs
from localforge.audit.timeline import WINDOW, Timeline
from localforge.bandit import Fold
from localforge.contracts.facts import Candidate, DecisionMade, FeedbackGiven, outcome_on
from localforge.contracts.problems import ContractViolation
from localforge.contracts.subjects import (
    DECISION_PREFIX,
    FEEDBACK_PREFIX,
    OUTCOME_PREFIX,
    SHADOW,
    STATE_IMPORT,
)

EXAMPLES = 10
F = TypeVar("F")


class Counterfactual:
    """A judgement in progress: `feed` it the stream in order, from its start, then `finish`.

    Args:
        target: The policy asked about.
        fold: New.
        since: Unix time of the first decision asked about.
        until: Unix time that the decisions asked about came before.
        window: Messages a fact waits for late decisions.
    """

    def __init__(
        self,
        target: TargetPolicy,
        fold: Fold,
        *,
        since: float = 0.0,
        until: float = float("inf"),
        window: int = WINDOW,
    ) -> None:
        self._target = target
        self._fold = fold
        self._since, self._until = since, until
        self._timeline = Timeline(fold, self._judge, window)
        self._results = Results()
        self._rows: list[Row] = []
        self._examples: list[Example] = []
        self._not_judged: dict[str, int] = {}
        self._shares: dict[str, list[float]] = {}
        self._seen: set[str] = set()
        self._decisions = self._differ = 0

    def feed(self, sequence: int, subject: str, data: bytes) -> None:
        """Take the next message of the stream."""
        if subject.startswith(DECISION_PREFIX + "."):
            if not subject.endswith("." + SHADOW):
                self._take_decision(sequence, data)
        elif subject.startswith(OUTCOME_PREFIX + "."):
            self._take(partial(outcome_on, subject), self._results.outcome, data)
            self._timeline.fact(sequence, subject, data)
        elif subject.startswith(FEEDBACK_PREFIX + "."):
            self._take(FeedbackGiven.decode, self._results.feedback, data)
            self._timeline.fact(sequence, subject, data)
        elif subject == STATE_IMPORT:
            self._timeline.fact(sequence, subject, data)
        self._timeline.read(sequence)

    def finish(self) -> Report:
        """Judge what is left and return the report."""
        self._timeline.finish()
        rows = self._rows
        metrics = judgement.estimate(rows, self._results)
        return Report(
            decisions=self._decisions,
            judged=len(rows),
            not_judged=self._not_judged,
            differ=self._differ,
            unsupported=judgement.unsupported_share(rows),
            uncovered=sum(not row.is_covered for row in rows),
            fell_back=len(judgement.fell_back(rows, self._results)),
            unanswered=len(judgement.unanswered(rows, self._results)),
            shares={
                model: (log / len(rows), target / len(rows))
                for model, (log, target) in sorted(self._shares.items())
            },
            metrics=metrics,
            examples=tuple(self._examples),
            warnings=judgement.warnings(rows, self._results, metrics),
        )

    def _take(self, decode: Callable[[bytes], F], keep: Callable[[F], None], data: bytes) -> None:
        try:
            fact = decode(data)
        except ContractViolation:
            return  # the fold counts it
        keep(fact)

    def _take_decision(self, sequence: int, data: bytes) -> None:
        try:
            record = DecisionMade.decode(data)
        except ContractViolation:
            self._skip("undecodable, or of another contract version")
            return
        if not self._since <= record.made_at < self._until or record.decision_id in self._seen:
            return
        self._seen.add(record.decision_id)
        self._decisions += 1
        if record.feature_schema != self._fold.learner.feature_schema:
            self._skip(f"features of schema {record.feature_schema}")
        elif record.state_sequence >= sequence:
            self._skip("made on facts that were not there yet")
        else:
            self._timeline.decision(sequence, record)

    def _judge(self, _: int, record: DecisionMade) -> None:
        if self._fold.sequence != record.state_sequence:
            self._skip("its record came too late, or names no fact")
            return
        if record.cascade is not None or _might_be_cascade(record):
            self._skip("it was a cascade, whose choices are not of one model")
            return
        if record.incumbent:
            # The target might have begun the conversation with another, and stayed with that.
            self._skip("it went on with a conversation, whose model the log had chosen before")
            return
        logged = {c.model: c.probability for c in record.candidates}
        if not 0 < logged.get(record.chosen, 0.0) <= 1:
            self._skip("its record states no probability of what it chose")
            return
        try:
            made = self._target.decide(record, self._fold.learner)
        except (ValueError, ArithmeticError) as exc:
            self._skip(f"the target cannot decide it: {exc}")
            return
        self._compare(record, made)
        tariffs = self._target.tariffs(record)
        self._rows.append(_row(record, made, logged, tariffs))

    def _compare(self, record: DecisionMade, made: DecisionMade | None) -> None:
        for model, probability in _probabilities(record).items():
            self._shares.setdefault(model, [0.0, 0.0])[0] += probability
        target = _probabilities(made)
        for model, probability in target.items():
            self._shares.setdefault(model, [0.0, 0.0])[1] += probability
        new = made.chosen if made else ""
        if new == record.chosen:
            return
        self._differ += 1
        if len(self._examples) < EXAMPLES:
            self._examples.append(
                Example(
                    decision_id=record.decision_id,
                    old=record.chosen,
                    new=new,
                    old_probability=target.get(record.chosen, 0.0),
                    new_probability=target.get(new, 0.0),
                    domain=record.domain,
                    preference=record.preference,
                )
            )

    def _skip(self, reason: str) -> None:
        self._not_judged[reason] = self._not_judged.get(reason, 0) + 1


def _might_be_cascade(record: DecisionMade) -> bool:
    """Tell whether another draw would have made a cascade of the decision.

    One by checks has none where the draw fell on its last model. Were such decisions kept, whether
    one is judged would depend on what was drawn.
    """
    tiers = {candidate.tier for candidate in record.candidates}
    return record.cascade_wanted and len(record.candidates) > 1 and len(tiers) == 1


def _probabilities(record: DecisionMade | None) -> dict[str, float]:
    return {c.model: c.probability for c in record.candidates} if record else {}


def _row(
    record: DecisionMade, made: DecisionMade | None, logged: dict[str, float], tariffs: Tariffs
) -> Row:
    target = _probabilities(made)
    candidates = made.candidates if made else ()
    predicted = next((_predictions(c) for c in candidates if c.model == record.chosen), (0, 0, 0))
    expected = [0.0, 0.0, 0.0]
    unsupported = 0.0 if made else 1.0
    probabilities = {}
    for candidate in candidates:
        share, under = target[candidate.model], logged.get(candidate.model, 0.0)
        if share > 0 and under <= 0:
            unsupported += share
        elif share > 0:
            probabilities[candidate.model] = (share, under)
        for index, value in enumerate(_predictions(candidate)):
            expected[index] += share * value
    shared, instead = _shared(record, candidates)
    return Row(
        record.decision_id,
        record.chosen,
        target.get(record.chosen, 0.0) / logged[record.chosen],
        probabilities,
        unsupported,
        predicted,
        (expected[0], expected[1], expected[2]),
        (made.cost_weight, made.latency_weight) if made else (0.0, 0.0),
        shared,
        _predictions(instead) if instead else None,
        tariffs,
    )


def _shared(
    record: DecisionMade, candidates: Sequence[Candidate]
) -> tuple[tuple[str, ...], Candidate | None]:
    """Return whom both ask until their orders part, and whom the target asks then.

    Args:
        record: As logged.
        candidates: The target's, which begins with the logged choice, too.
    """
    others = [c for c in candidates if c.model != record.chosen]
    others.sort(key=lambda c: (c.tier, -c.utility))
    shared = [record.chosen]
    for asked, candidate in zip(record.plan[1:], others, strict=False):
        if asked != candidate.model:
            break
        shared.append(asked)
    return tuple(shared), next((c for c in others if c.model not in shared), None)


def _predictions(candidate: Candidate) -> tuple[float, float, float]:
    return candidate.quality, candidate.cost_usd, candidate.latency_s
