"""How long one decision and one update take, on one core."""

import time

import msgspec
import numpy as np

from localforge.bandit import Fold
from localforge.benchmark.online import Policy, decide, feedback, tell
from localforge.benchmark.stream import Question
from localforge.contracts.chat import Usage
from localforge.contracts.facts import Candidate, DecisionMade, OutcomeObserved

_SCHEMA = "timing"
_SEED = 7


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds."""

    policy: str
    models: int
    features: int
    decide_p50_ms: float
    decide_p99_ms: float
    learn_p50_ms: float
    learn_p99_ms: float


def measure_speed(policy: Policy, models: int, features: int, rounds: int) -> Timing:
    """Return the time of a decision among `models` and of learning one score.

    Args:
        policy: Which one decides.
        models: Candidates, all of them with scores and outcomes behind them.
        features: Values in a feature vector.
        rounds: Decisions that are timed, after as many that are not.
    """
    random = np.random.default_rng(_SEED)
    offers = tuple(
        Candidate(
            model=f"model-{k}", backend=f"backend-{k}", zone="benchmark", price_in=k, price_out=k
        )
        for k in range(models)
    )
    fold = Fold(_SCHEMA, features)
    decisions, updates = [], []
    for number in range(2 * rounds):
        vector = (random.standard_normal(features) / features**0.5).astype("<f2")
        question = Question(vector.tobytes(), 200, "general", 0.5)
        score = float(random.random() < 0.5)
        start = time.perf_counter()
        decision = decide(
            fold, _SCHEMA, offers, policy, question, cost_weight=20.0, decision_id=str(number)
        )
        decided = time.perf_counter()
        fact = feedback(decision, decision.chosen, score)
        made = time.perf_counter()
        fold.apply(fold.sequence + 1, fact)
        if number >= rounds:
            decisions.append(decided - start)
            updates.append(time.perf_counter() - made)
        tell(fold, _outcome(decision, completion_tokens=int(random.integers(1, 600))))
    return Timing(
        policy=policy.name,
        models=models,
        features=features,
        decide_p50_ms=_milliseconds(decisions, 50),
        decide_p99_ms=_milliseconds(decisions, 99),
        learn_p50_ms=_milliseconds(updates, 50),
        learn_p99_ms=_milliseconds(updates, 99),
    )


def _outcome(decision: DecisionMade, completion_tokens: int) -> OutcomeObserved:
    chosen = next(c for c in decision.candidates if c.model == decision.chosen)
    return OutcomeObserved(
        outcome_id=decision.decision_id,
        decision_id=decision.decision_id,
        request_id=decision.request_id,
        model=chosen.model,
        backend=chosen.backend,
        zone=chosen.zone,
        replica="",
        status="ok",
        usage=Usage(completion_tokens=completion_tokens),
        first_token_s=0.3,
        total_s=0.3 + completion_tokens / 40,
        domain=decision.domain,
    )


def _milliseconds(values: list[float], percent: float) -> float:
    return 1_000 * float(np.percentile(values, percent))
