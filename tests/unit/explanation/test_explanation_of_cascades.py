"""What is said of a decision that may ask several models one after the other."""

import msgspec
import pytest

from localforge.bandit import Fold, redecide
from localforge.cli.explain import show_explanation, show_headline
from localforge.contracts.facts import CascadePlan
from localforge.edge.explanation import explain_record
from localforge.explanation import explain
from tests.routing import DIM, NOW, SCHEMA, card, feedback, learn, outcome, route_call, service

CARDS = (
    card("a", price_in=0.2, price_out=0.2),
    card("b", price_in=0.3, price_out=0.3),
    card("z", price_in=10.0, price_out=30.0),
)


def trained(tokens=8, verdicts=60):
    """Two cheap models that are right on three of four, and a dear one on nine of ten."""
    fold = Fold(SCHEMA, DIM)
    for model, wrong in (("a", 4), ("b", 4), ("z", 10)):
        learn(
            fold, *(feedback(f"{model}{i}", model, float(i % wrong > 0)) for i in range(verdicts))
        )
        learn(fold, *(outcome(f"o{model}{i}", model, tokens=tokens) for i in range(60)))
    return fold


FOLD = trained()


def decisions(fold=FOLD, count=150, cost=60):
    router = service(*CARDS, fold=fold)
    preference = f"cost={cost},latency=0"
    return [
        router.route(route_call(f"r{k}", preference=preference, cascade=True), NOW).decision
        for k in range(count)
    ]


@pytest.fixture(name="pair", scope="module")
def _pair():
    return next(record for record in decisions() if record.cascade.asks_pair)


def test_a_pair_is_named_with_what_follows_its_answers_and_the_price_of_asking_further(pair):
    told = explain(pair)
    found, plan = told.cascade, pair.cascade

    assert told.reason.startswith("Comparing the answers of a and b was drawn with probability ")
    assert (found.asked, found.last) == (("a", "b"), "z")
    agreed, split = found.cases
    assert (agreed.deliver, agreed.probability) == (plan.if_agreed, plan.if_agreed_probability)
    assert (split.deliver, split.probability) == (plan.if_split, plan.if_split_probability)
    assert agreed.likely + split.likely == pytest.approx(1.0)
    assert (agreed.beliefs["a"], split.beliefs["z"]) == (
        plan.beliefs["agreed"], plan.beliefs["last_split"]
    )  # fmt: skip
    dear = next(c for c in pair.candidates if c.model == "z")
    assert found.escalation == pytest.approx(60 * dear.cost_usd)
    assert f"Asking z costs {found.escalation:.4f} of quality" in found.told[-1]
    # Preferences between single models did not decide it.
    assert told.tipping == ()


def test_what_is_said_to_be_best_is_what_would_be_done_without_exploration():
    said = set()
    for record in decisions():
        sure = redecide(msgspec.structs.replace(record, width=0.0), FOLD.learner)
        reason = explain(record).reason
        explores = "to learn about" in reason

        assert explores == (
            (record.cascade.asks_pair, record.chosen) != (sure.cascade.asks_pair, sure.chosen)
        )
        if explores:
            pair, alone = "comparing the answers of a and b", f"asking {sure.chosen} alone"
            best = pair if sure.cascade.asks_pair else alone
            assert reason.endswith(f"to learn about it: {best} is expected to be worth more.")
        said.add((record.cascade.asks_pair, explores))

    assert {(True, False), (False, True)} <= said


def test_a_model_that_is_asked_alone_although_a_pair_might_have_been_is_named_alone():
    records = [record for record in decisions(cost=5) if not record.cascade.asks_pair]
    best = next(record for record in records if "to learn" not in explain(record).reason)
    told = explain(best)

    assert told.cascade.asked == (best.chosen,)
    assert told.cascade.cases == told.cascade.told == ()
    assert told.reason.startswith(f"Asking {best.chosen} alone was drawn with probability ")
    assert f"of a and b had {best.cascade.probability:.3f})" in told.reason


def test_one_model_that_is_asked_twice_is_named_so(capsys):
    fold = trained()
    router = service(CARDS[0], CARDS[2], fold=fold)
    records = (
        router.route(route_call(f"r{k}", preference="cost=60,latency=0", cascade=True), NOW)
        for k in range(150)
    )
    record = next(made.decision for made in records if made.decision.cascade.asks_pair)
    told = explain(record)
    cost = {c.model: c.cost_usd for c in record.candidates}
    agreed, split = told.cascade.cases
    show_headline(msgspec.to_builtins(explain_record(record))["decision"])

    assert record.cascade.test == told.cascade.test == "self-consistency"
    assert told.reason.startswith("Comparing two answers of a was drawn with probability ")
    assert split.deliver == "z"
    assert split.cost_usd == pytest.approx(2 * cost["a"] + cost["z"])
    assert agreed.beliefs.keys() == split.beliefs.keys() == {"a", "z"}
    assert capsys.readouterr().out.startswith("a twice with probability ")


def test_what_a_case_costs_is_the_cost_of_all_that_are_asked_in_it(pair):
    cost = {c.model: c.cost_usd for c in pair.candidates}
    seconds = {c.model: c.latency_s for c in pair.candidates}
    accepted = msgspec.structs.replace(pair.cascade, if_agreed="a", if_split="z")

    agreed, split = explain(msgspec.structs.replace(pair, cascade=accepted)).cascade.cases

    assert agreed.cost_usd == pytest.approx(cost["a"] + cost["b"])
    assert split.cost_usd == pytest.approx(sum(cost.values()))
    assert split.latency_s == pytest.approx(sum(seconds.values()))


def test_too_little_evidence_on_any_of_the_three_is_said():
    fold = trained(verdicts=5)
    told = explain(next(record for record in decisions(fold) if record.cascade.asks_pair))

    assert not told.enough_evidence
    assert "a has 5 scored answers and b has 5 scored answers and z has 5" in told.evidence


def test_an_answer_whose_form_is_checked_says_what_follows_either_way():
    fold = trained(tokens=500)
    record = next(record for record in decisions(fold, cost=200) if record.cascade)
    told, plan, name = explain(record), record.cascade, record.chosen
    passed, failed = told.cascade.cases

    assert plan.test == "checks"
    assert (passed.when, passed.deliver) == ("passed", plan.if_passed)
    assert (failed.when, failed.deliver) == ("failed", plan.if_failed)
    assert passed.beliefs == {name: plan.beliefs["passed"], "z": plan.qualities[1]}
    assert failed.beliefs == {name: plan.beliefs["failed"], "z": plan.qualities[1]}
    first, *_, price = told.cascade.told
    assert first.startswith(f"If {name}'s answer passes the checks, ")
    assert "drawn" not in first
    assert price.startswith(f"Asking z costs {plan.escalation:.4f} of quality: 200 · ")
    assert told.tipping


def test_a_log_from_before_checks_were_weighed_is_told_by_the_checks_alone():
    record = next(record for record in decisions(trained(tokens=500), cost=200) if record.cascade)
    older = CascadePlan(test="checks", models=record.cascade.models)
    told = explain(msgspec.structs.replace(record, cascade=older)).cascade

    first = older.models[0]

    assert [case.deliver for case in told.cases] == list(older.models)
    assert told.told == (
        f"If {first}'s answer passes the checks, {first}'s answer is delivered.",
        f"If {first}'s answer fails the checks, z is asked, too, and its answer delivered.",
    )


def test_a_decision_without_a_cascade_has_none_in_its_explanation():
    record = service(*CARDS, fold=FOLD).route(route_call(), NOW).decision

    assert explain(record).cascade is None


def test_the_answer_of_the_api_and_the_screen_show_the_pair_and_what_follows(pair, capsys):
    answer = msgspec.to_builtins(explain_record(pair))
    show_headline(answer["decision"])
    show_explanation(answer)
    shown = " ".join(capsys.readouterr().out.split())

    assert answer["decision"]["cascade"] == {
        name: getattr(pair.cascade, name) for name in CascadePlan.__struct_fields__
    }
    assert shown.startswith(f"a and b with probability {pair.propensity:.3f}")
    assert "→ a" in shown
    assert "→ b" in shown
    assert "→ z " not in shown
    for sentence in answer["explanation"]["cascade"]["told"]:
        assert sentence in shown


def test_cost_and_time_are_shown_as_exactly_as_their_uncertainty_allows(pair, capsys):
    answer = msgspec.to_builtins(explain_record(pair))
    for candidate in answer["decision"]["candidates"]:
        candidate |= {"cost_usd": 0.00127412, "cost_std": 3.61e-5}
        candidate |= {"latency_s": 12.3456, "latency_std": 14.2}
    older, *_ = answer["decision"]["candidates"]
    older |= {"cost_std": 0.0, "latency_std": 0.0}
    show_explanation(answer)
    shown = capsys.readouterr().out

    assert shown.count(" 1.274±0.036 ") == shown.count(" 12±14 ") == 2
    assert shown.count(" 1.274 ") == shown.count(" 12.346 ") == 1


def test_a_decision_has_the_uncertainty_of_cost_and_time(pair):
    found = explain_record(pair).decision.candidates

    assert all(0 < c.cost_std < c.cost_usd for c in found)
    assert all(0 < c.latency_std < c.latency_s for c in found)
