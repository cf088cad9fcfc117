"""What a backend bills beside what the profiler counts, and what that does to predicted costs."""

import msgspec
import numpy as np
import pytest

from localforge.bandit import Fold, dump, load
from localforge.bandit.billing import Billing
from localforge.contracts.chat import Usage
from tests.routing import DIM, NOW, SCHEMA, card, learn, outcome, route_call, service


def billed(number, model, counted, tokens, domain="general", **usage):
    return msgspec.structs.replace(
        outcome(f"o{number}", model, domain=domain),
        counted_tokens=counted,
        usage=Usage(prompt_tokens=tokens, **usage),
    )


def taught(*facts):
    billing = Billing()
    for fact in facts:
        billing.learn(fact)
    return billing


def test_nothing_is_expected_before_the_first_answer():
    assert Billing().predict(["a", "b"], "code") == [1.0, 1.0]


def test_a_models_tokenizer_is_told_apart_from_a_kind_of_request():
    rng = np.random.default_rng(5)
    facts = []
    for number in range(600):
        model, domain = ("a", "b")[number % 2], ("code", "legal")[int(rng.random() < 0.5)]
        counted = int(rng.integers(50, 2000))
        share = {"a": 1.0, "b": 1.3}[model] * {"code": 1.5, "legal": 1.0}[domain]
        facts.append(billed(number, model, counted, round(counted * share), domain))
    billing = taught(*facts)

    # Five per cent: the means are of the last hundred prompts, of quite different lengths.
    code, legal = billing.predict(["a", "b"], "code"), billing.predict(["a", "b"], "legal")
    assert code[1] / code[0] == pytest.approx(1.3, rel=0.05)
    assert code[0] / legal[0] == pytest.approx(1.5, rel=0.05)
    assert code[0] == pytest.approx(1.5, rel=0.15)


def test_long_prompts_count_for_more_than_greetings():
    greetings = [billed(n, "a", 5, 30) for n in range(20)]
    long = [billed(100 + n, "a", 5000, 5000) for n in range(20)]

    assert taught(*greetings, *long).predict(["a"], "general")[0] < 1.1


@pytest.mark.parametrize(
    "fact",
    [
        billed(1, "a", 0, 400),
        billed(1, "a", 100, 0),
        billed(1, "a", -5, 400),
        billed(1, "a", 100, -400),
        billed(1, "a", 100, 400, estimated=True),
    ],
)
def test_without_two_counts_nothing_is_learned(fact):
    assert taught(fact).predict(["a"], "general") == [1.0]


def test_one_answer_with_what_nobody_counted_does_not_set_the_price_of_the_next():
    usual = [billed(n, "a", 100, 110) for n in range(50)]

    with_attachment = taught(*usual, billed(99, "a", 30, 2_000_000))

    assert with_attachment.predict(["a", "b"], "general") == pytest.approx([1.1, 1.1], rel=0.1)


def test_a_predicted_cost_goes_by_what_is_billed_and_survives_a_checkpoint():
    cards = (card("a", price_in=10.0), card("b", price_in=10.0))
    fold = Fold(SCHEMA, DIM)
    learn(fold, *(billed(n, "a", 100, 200) for n in range(200)))

    def costs(learned):
        call = route_call("r", prompt_tokens=1000)
        decision = service(*cards, fold=learned).route(call, NOW).decision
        return {c.model: c.cost_usd for c in decision.candidates}

    told = costs(fold)
    # 1,000 tokens at 10 dollars per million are a cent; a's backend bills twice as many.
    assert told["a"] == pytest.approx(0.02, rel=0.05)
    # Of b nothing is known but the domain, which is a's.
    assert told["b"] == pytest.approx(0.02, rel=0.25)
    assert costs(load(dump(fold), SCHEMA, DIM)) == told
