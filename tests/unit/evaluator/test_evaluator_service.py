"""Verdicts with all it takes to learn from them."""

import math
from typing import Any

import msgspec
import pytest

from localforge.contracts.chat import FeedbackSubmitted
from localforge.contracts.facts import CascadePlan, CascadeResult, DecisionMade
from localforge.contracts.live import EvaluateCall
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused
from localforge.evaluator.service import EvaluatorService

DECISION = DecisionMade(
    decision_id="d1",
    request_id="r1",
    made_at=1.0,
    lane="live",
    policy="igw.v1",
    policy_hash="h",
    state_sequence=0,
    registry_version=0,
    feature_schema="features.v1",
    features=b"\x00\x00\x80?",
    prompt_tokens=3,
    label=Label.PUBLIC,
    zones=("local",),
    requested_model="auto",
    preference="balanced",
    cost_weight=1.0,
    latency_weight=1.0,
    explore=True,
    seed=0,
    chosen="small",
    propensity=0.7,
    plan=("small", "large"),
)
SERVICE = EvaluatorService()


def submitted(**changes: Any) -> FeedbackSubmitted:
    return msgspec.structs.replace(
        FeedbackSubmitted(id="f1", completion_id="chatcmpl-d1", score=0.25), **changes
    )


def test_a_users_verdict_carries_the_decisions_features_and_full_weight() -> None:
    given = SERVICE.user_feedback(submitted(), DECISION, now=9.0)

    assert given.feedback_id == "d1:user"
    assert (given.decision_id, given.model, given.score, given.weight) == ("d1", "small", 0.25, 1.0)
    assert (given.features, given.feature_schema, given.propensity) == (
        DECISION.features,
        "features.v1",
        0.7,
    )
    assert (given.source, given.given_at) == ("user", 9.0)


def test_a_verdict_on_a_fallback_is_about_the_model_that_answered() -> None:
    given = SERVICE.user_feedback(submitted(), DECISION, 9.0, answered_by="large")

    assert (given.model, given.propensity) == ("large", 0.0)


def test_another_keys_answer_is_not_judged() -> None:
    own = msgspec.structs.replace(DECISION, key_id="web")

    with pytest.raises(RequestRefused) as caught:
        SERVICE.user_feedback(submitted(key_id="batch"), own, 9.0)

    assert (caught.value.code, caught.value.status) == ("completion_not_found", 404)
    assert SERVICE.user_feedback(submitted(key_id="web"), own, 9.0).score == 0.25
    assert SERVICE.user_feedback(submitted(), own, 9.0).score == 0.25, "where no key is asked for"


PLAN = CascadePlan(
    test="agreement",
    models=("small", "middle", "large"),
    asks_pair=True,
    qualities=(0.5, 0.5, 0.9),
    beliefs={"last_split": 0.6},
)
CASCADE = msgspec.structs.replace(DECISION, cascade=PLAN)


def pair(delivered: str, **changes: Any) -> CascadeResult:
    result = CascadeResult(
        models=PLAN.models,
        qualities=PLAN.qualities,
        beliefs=PLAN.beliefs,
        agreed=True,
        delivered=delivered,
    )
    return msgspec.structs.replace(result, **changes)


def test_a_verdict_on_a_cascade_is_about_the_model_whose_answer_was_delivered() -> None:
    # The last attempt was another model's.
    given = SERVICE.user_feedback(
        submitted(), CASCADE, 9.0, answered_by="large", cascade=pair("small")
    )

    assert (given.model, given.cascade) == ("small", pair("small"))


def test_what_was_believed_of_a_cascade_is_the_decisions_whatever_an_executor_says() -> None:
    """With a belief of 0 and a quality of 1 it could never be found bad."""
    told = pair("large", agreed=False, qualities=(0.0, 0.0, 1.0), beliefs={"last_split": 0.0})

    given = SERVICE.user_feedback(submitted(), CASCADE, 9.0, answered_by="large", cascade=told)

    assert (given.model, given.cascade) == ("large", pair("large", agreed=False))


@pytest.mark.parametrize(
    ("decision", "models"),
    [
        pytest.param(DECISION, PLAN.models, id="the decision has none"),
        pytest.param(CASCADE, ("small", "other", "large"), id="of other models"),
    ],
)
def test_a_cascade_that_was_not_decided_is_not_believed(
    decision: DecisionMade, models: tuple[str, ...]
) -> None:
    told = pair("small", models=models)

    given = SERVICE.user_feedback(submitted(), decision, 9.0, answered_by="large", cascade=told)

    assert (given.model, given.cascade) == ("large", None)


def test_a_cascade_that_ended_with_the_answer_at_hand_teaches_nothing_of_the_pair() -> None:
    given = SERVICE.user_feedback(submitted(), CASCADE, 9.0, answered_by="large", cascade=pair(""))

    assert (given.model, given.cascade) == ("small", None)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"score": -0.1}, "score"),
        ({"score": 1.01}, "score"),
        ({"score": math.nan}, "score"),
        ({"score": math.inf}, "score"),
        ({"source": "checks"}, "source"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        SERVICE.user_feedback(submitted(**changes), DECISION, 9.0)

    assert caught.value.param == param


def test_a_model_outside_the_plan_cannot_have_answered() -> None:
    with pytest.raises(RequestRefused, match="not in the plan"):
        SERVICE.user_feedback(submitted(), DECISION, 9.0, answered_by="other")


def evaluate(answer: str, body: bytes = b'{"messages":[]}') -> EvaluateCall:
    return EvaluateCall(
        decision_id="d1",
        request_id="r1",
        model="small",
        body=body,
        answer=answer,
        finish_reason="stop",
        feature_schema="features.v1",
        features=b"\x00\x00\x80?",
        propensity=0.7,
    )


def test_a_scored_answer_carries_the_single_checks_and_no_content() -> None:
    given = SERVICE.score(evaluate("secret " * 60), now=9.0)

    assert given is not None
    assert (given.feedback_id, given.source, given.score) == ("d1:checks", "checks", 0.0)
    assert given.checks["not_looping"] == 0.0
    assert (given.features, given.propensity) == (b"", 0.7)
    assert b"secret" not in given.encode()


def test_no_verdict_is_no_feedback() -> None:
    assert SERVICE.score(evaluate("fine", body=b"?"), now=9.0) is None
