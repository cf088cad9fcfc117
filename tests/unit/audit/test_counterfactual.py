"""Counterfactual judgement on small streams: what is counted, repriced, left out and refused."""

import itertools

import msgspec
import pytest

from localforge.audit import judgement
from localforge.audit.counterfactual import Counterfactual
from localforge.audit.policies import TargetPolicy
from localforge.audit.results import Results, Tariff
from localforge.bandit import Fold
from localforge.config import BackendConfig, Config, ModelConfig, Weights
from localforge.contracts.chat import Usage
from localforge.contracts.facts import DecisionMade, FeedbackGiven
from localforge.inference.usage import cost_usd
from localforge.router.execution import target
from tests.routing import DIM, NOW, SCHEMA, card, outcome, route_call, service

CARDS = (
    card("dear", price_out=40.0, quality_prior=0.7),
    card("cheap", price_out=1.0, quality_prior=0.6),
)


def config(backends=(), **router):
    return Config(
        router=msgspec.structs.replace(Config().router, policy="igw", **router), backends=backends
    )


LOGGED = config(gamma=2.0)


def log(decisions=300, scored=lambda _, index: index % 2 == 0, charged=lambda _: 0.001, **call):
    """A stream without learning in between: every decision was made on the new learner."""
    router = service(*CARDS, config=LOGGED)
    stream = []

    def write(subject, fact):
        stream.append((len(stream) + 1, subject, fact.encode()))

    for index in range(decisions):
        made = router.route(route_call(f"d{index}", **call), NOW + index * 0.01).decision
        write(f"lf.decision.{made.decision_id}", made)
        answer = outcome(made.decision_id, made.chosen, tokens=1000)
        answer = msgspec.structs.replace(answer, cost_usd=charged(made.chosen))
        write(f"lf.outcome.local.{answer.backend}", answer)
        if scored(made, index):
            verdict = FeedbackGiven(
                feedback_id=f"f{index}",
                decision_id=made.decision_id,
                model=made.chosen,
                score=float(made.chosen == "dear"),
            )
            write("lf.feedback.user", verdict)
    return stream


def judge(stream, asked=LOGGED, **period):
    running = Counterfactual(TargetPolicy(asked), Fold(SCHEMA, DIM), **period)
    for message in stream:
        running.feed(*message)
    return running.finish()


def test_the_logged_policy_itself_earns_what_was_earned_and_changes_nothing():
    report = judge(log())

    assert (report.decisions, report.judged, report.differ, report.unsupported) == (300, 300, 0, 0)
    assert report.examples == ()
    for metric in report.metrics:
        # The dear answers were scored a little more often, by chance, and so weigh less.
        assert metric.overlap.effective == pytest.approx(metric.overlap.decisions, rel=0.01)
        assert metric.ips.value == pytest.approx(metric.logged.value)
        assert metric.snips.value == pytest.approx(metric.logged.value)
    quality, cost, latency, _ = report.metrics
    assert quality.overlap.decisions == 150
    assert cost.logged.value == pytest.approx(0.001)
    assert latency.logged.value == pytest.approx(2.0)


def test_another_preference_changes_decisions_and_says_which():
    asked = config(gamma=2.0, preferences={"balanced": Weights(cost=200, latency=0.003)})

    report = judge(log(), asked)

    assert 0 < report.differ < report.judged
    assert report.shares["dear"][1] < report.shares["dear"][0]
    assert sum(target for _, target in report.shares.values()) == pytest.approx(1.0)
    example = report.examples[0]
    assert (example.old, example.new) == ("dear", "cheap")
    assert example.new_probability > example.old_probability > 0
    assert report.metrics[0].snips.value < report.metrics[0].logged.value


def test_a_preference_that_the_request_stated_is_not_replaced_by_another_default():
    asked = config(gamma=2.0, preference="cheap")

    assert judge(log(preference="balanced"), asked).differ == 0
    assert judge(log(), asked).differ > 0


def under_goal(goal, shadow_price):
    stream = log(100)
    for index, (sequence, subject, data) in enumerate(stream):
        if "decision" in subject:
            record = msgspec.structs.replace(
                DecisionMade.decode(data), goal=goal, shadow_price=shadow_price
            )
            stream[index] = (sequence, subject, record.encode())
    return stream


def test_under_a_goal_for_spending_a_new_preference_counts_beside_the_goals_price():
    stream = under_goal("spend 1 USD per day", 5.0)
    asked = config(gamma=2.0, preferences={"balanced": Weights(cost=195, latency=0.003)})
    same = config(gamma=2.0, preferences={"balanced": Weights(cost=200, latency=0.003)})

    assert judge(stream, asked).shares["dear"][1] == judge(log(100), same).shares["dear"][1]


def test_under_a_goal_for_quality_its_price_stands_in_place_of_a_new_preference():
    stream = under_goal("quality of at least 0.9", 20.0)
    asked = config(gamma=2.0, preferences={"balanced": Weights(cost=195, latency=0.003)})

    assert judge(stream, asked).differ == 0


def test_a_policy_that_the_request_stated_is_not_replaced_by_another():
    wild = config(gamma=0.0)

    assert judge(log(policy="greedy"), wild).differ == 0
    assert judge(log(), wild).differ > 0


def test_new_prices_are_charged_for_the_tokens_that_were_used():
    models = (
        ModelConfig(name="dear", price_in=0.0, price_out=4.0, quality_prior=0.7),
        ModelConfig(name="cheap", price_in=0.0, price_out=4.0, quality_prior=0.6),
    )
    backends = (BackendConfig(name="b", kind="openai", url="http://x/v1", models=models),)

    stream = log(charged={"dear": 0.04, "cheap": 0.001}.__getitem__)
    cost = judge(stream, config(backends, gamma=2.0)).metrics[1]

    assert 0.01 < cost.logged.value < 0.03
    assert cost.snips.value == pytest.approx(0.004)


def test_an_answer_at_an_unchanged_price_is_charged_what_it_was():
    models = (
        ModelConfig(name="dear", price_in=0.0, price_out=40.0, quality_prior=0.7),
        ModelConfig(name="cheap", price_in=0.0, price_out=1.0, quality_prior=0.6),
    )
    backends = (BackendConfig(name="b", kind="openai", url="http://x/v1", models=models),)

    cost = judge(log(), config(backends, gamma=2.0)).metrics[1]

    # Cached prompts made it less than the tokens at their price.
    assert cost.snips.value == pytest.approx(cost.logged.value)
    assert cost.snips.value == pytest.approx(0.001)


CACHED = Usage(prompt_tokens=20_000, completion_tokens=300, cached_tokens=18_000)
OLD = {"old_in": 3.0, "old_out": 15.0, "old_hourly": 0.0}


def test_cached_tokens_are_charged_what_the_executor_would_charge_at_the_new_prices():
    def executed(price_in, price_out, price_cached):
        made = card("m", price_in=price_in, price_out=price_out, price_cached=price_cached)
        return cost_usd(CACHED, target(made))

    charged = executed(3.0, 15.0, 0.3)
    for price_in, price_out, price_cached in ((3.0, 14.0, 0.3), (2.9, 15.0, 0.3), (1.5, 9.0, 0.1)):
        tariff = Tariff(price_in, price_out, 0.0, price_cached, **OLD)
        told = executed(price_in, price_out, price_cached)
        assert tariff.charge(CACHED, 2.0, charged) == pytest.approx(told)


def test_cached_tokens_keep_their_discount_where_the_file_does_not_tell_their_price():
    tariff = Tariff(1.5, 15.0, 0.0, None, **OLD)

    # 2,000 at 3.00, 18,000 at 0.30 and 300 at 15.00 for the million; then half of the first two.
    assert tariff.charge(CACHED, 2.0, 0.0159) == pytest.approx(0.0159 - 0.003 - 0.0027)
    assert Tariff(3.0, 15.0, 0.0, None, 0.0, 15.0, 0.0).charge(CACHED, 2.0, 0.0045) == 0.0645


def test_what_a_vendor_told_that_an_answer_cost_stays_and_moves_with_the_prices():
    usage = msgspec.structs.replace(CACHED, cached_tokens=0)
    told = 0.04  # and 0.0645 by the list

    assert Tariff(3.0, 14.0, 0.0, 3.0, **OLD).charge(usage, 2.0, told) == pytest.approx(0.0397)
    assert Tariff(2.9, 15.0, 0.0, 2.9, **OLD).charge(usage, 2.0, told) == pytest.approx(0.038)
    # A price falls by more than was charged.
    assert Tariff(0.0, 0.0, 0.0, 0.0, **OLD).charge(usage, 2.0, told) == 0.0


def test_the_time_of_a_machine_is_charged_anew_beside_cached_tokens():
    by_token, time = 0.0159, 0.004
    tariff = Tariff(3.0, 15.0, 4.0, 0.3, old_in=3.0, old_out=15.0, old_hourly=2.0)

    assert tariff.charge(CACHED, 2.0, by_token + time) == pytest.approx(by_token + 2 * time)


def by_the_hour(usd_per_hour):
    """A machine of this price with the model `own`, and a free one with `other`."""
    return tuple(
        BackendConfig(
            name=f"{name}-backend",
            kind="openai",
            url=f"http://{name}/v1",
            usd_per_hour=price,
            models=(ModelConfig(name=name, quality_prior=0.6),),
        )
        for name, price in (("own", usd_per_hour), ("other", 0.0))
    )


def metered(usd_per_hour, change=lambda record: record):
    """A log in which an answer of `own` takes two seconds, on half of its machine."""
    cards = (
        card("other", quality_prior=0.6),
        card("own", quality_prior=0.6, usd_per_hour=usd_per_hour),
    )
    router = service(*cards, config=LOGGED)
    (replica,) = (r for r in router._source.snapshot.replicas.values() if "own" in r.replica)
    busy = {"own-backend": msgspec.structs.replace(replica, in_flight=1)}
    replicas = router._source.snapshot.replicas | busy
    router._source.snapshot = msgspec.structs.replace(router._source.snapshot, replicas=replicas)
    stream = []
    for index in range(300):
        made = router.route(route_call(f"d{index}"), NOW + index * 0.01).decision
        stream.append((len(stream) + 1, f"lf.decision.d{index}", change(made).encode()))
        answer = outcome(f"d{index}", made.chosen, tokens=100, total_s=2.0)
        spent = 2.0 / 2 * usd_per_hour / 3600 if made.chosen == "own" else 0.0
        answer = msgspec.structs.replace(answer, cost_usd=spent)
        stream.append((len(stream) + 1, f"lf.outcome.local.{answer.backend}", answer.encode()))
    return stream


@pytest.mark.parametrize(("then", "now"), [(9.0, 9.0), (9.0, 18.0), (9.0, 0.0), (0.0, 18.0)])
def test_a_new_price_of_a_machine_is_charged_for_the_time_that_was_used(then, now):
    free = {"balanced": Weights(cost=0, latency=0.003)}
    asked = config(by_the_hour(now), gamma=2.0, preferences=free)
    report = judge(metered(then), asked)
    cost = report.metrics[1]

    own = report.shares["own"][1]
    assert own > 0.3
    # A second of half the machine; the estimate also has the noise of the draws.
    assert cost.snips.value == pytest.approx(own * now / 3600, rel=0.1)


def test_a_dearer_machine_is_chosen_less_and_one_of_the_same_price_as_often():
    stream = metered(9.0)
    weights = {"balanced": Weights(cost=60, latency=0.003)}
    then = judge(stream, config(by_the_hour(9.0), gamma=2.0)).shares["own"]
    dear = judge(stream, config(by_the_hour(90.0), gamma=2.0, preferences=weights)).shares["own"]
    cheap = judge(stream, config(by_the_hour(9.0), gamma=2.0, preferences=weights)).shares["own"]

    assert then[0] == then[1]
    assert dear[1] < cheap[1] - 0.1


def test_a_log_that_does_not_say_what_share_of_a_machine_was_borne_keeps_its_price():
    def older(record):
        candidates = tuple(msgspec.structs.replace(c, hour_share=0.0) for c in record.candidates)
        return msgspec.structs.replace(record, candidates=candidates)

    report = judge(metered(9.0, older), config(by_the_hour(90.0), gamma=2.0))

    assert report.shares["own"][0] == report.shares["own"][1]
    assert report.metrics[1].snips.value == report.metrics[1].logged.value > 0


def test_a_model_that_the_file_leaves_out_is_never_chosen():
    models = (ModelConfig(name="cheap", quality_prior=0.6),)
    backends = (BackendConfig(name="b", kind="openai", url="http://x/v1", models=models),)

    report = judge(log(), config(backends, gamma=2.0))

    assert report.shares["cheap"][1] == pytest.approx(1.0)
    assert report.metrics[0].snips.value == 0.0


def test_choices_that_the_log_could_not_have_made_are_refused():
    asked = config(preferences={"balanced": Weights(cost=0, latency=0)})

    report = judge(log(in_tool_loop=True), asked)

    assert report.unsupported == 1.0
    assert report.refused
    assert "100.0% of the target's choices" in report.metrics[0].refused


def test_a_share_too_small_to_move_a_figure_leaves_no_decision_out():
    stream = log(100)
    for index, (sequence, subject, data) in enumerate(stream):
        if "decision" in subject:
            # As where the probability of a model underflowed.
            record = DecisionMade.decode(data)
            candidates = tuple(
                msgspec.structs.replace(c, probability=float(c.model == record.chosen))
                for c in record.candidates
            )
            record = msgspec.structs.replace(record, candidates=candidates)
            stream[index] = (sequence, subject, record.encode())

    class Nearly(TargetPolicy):
        share: float

        def decide(self, record, learner):
            candidates = tuple(
                msgspec.structs.replace(
                    c, probability=1 - self.share if c.model == record.chosen else self.share
                )
                for c in record.candidates
            )
            return msgspec.structs.replace(record, candidates=candidates)

    def uncovered(share):
        running = Counterfactual(Nearly(LOGGED), Fold(SCHEMA, DIM))
        running._target.share = share
        for message in stream:
            running.feed(*message)
        return running.finish().uncovered

    assert (uncovered(1e-7), uncovered(1e-5)) == (0, 100)


def test_a_few_decisions_are_too_thin():
    report = judge(log(40))

    assert report.refused
    assert "overlap is too thin: 40 decisions count as 40.0" in report.metrics[1].refused


def test_only_the_period_asked_about_is_judged():
    report = judge(log(), since=NOW + 1.0, until=NOW + 2.0)

    assert report.decisions == report.judged == 100


def test_facts_that_come_twice_count_once():
    stream = log(100)
    doubled = [(i, *message[1:]) for i, message in enumerate([*stream, *stream], start=1)]
    # The second records name facts that were not folded when they were made.
    report = judge(doubled)

    assert report.judged == 100
    assert report.metrics[1].logged.value == pytest.approx(0.001)


def test_another_backends_outcome_under_the_same_id_displaces_none():
    results = Results()
    true = msgspec.structs.replace(outcome("d1", "dear"), cost_usd=0.25)
    results.outcome(msgspec.structs.replace(true, zone="cloud", backend="other", cost_usd=0.0))
    results.outcome(true)

    assert results.cost_usd("d1") == 0.25


def test_all_attempts_and_verdicts_of_a_decision_count_together():
    stream = log(100, scored=lambda *_: False)
    extra = []
    for index in range(100):
        late = outcome(f"d{index}.1", "cheap", total_s=3.0)
        extra.append(
            (
                f"lf.outcome.local.{late.backend}",
                msgspec.structs.replace(late, decision_id=f"d{index}", cost_usd=0.002),
            )
        )
        for score, weight in ((1.0, 0.75), (0.0, 0.25)):
            verdict = FeedbackGiven(
                feedback_id=f"{score}-{index}",
                decision_id=f"d{index}",
                model="cheap",
                score=score,
                weight=weight,
            )
            extra.append(("lf.feedback.user", verdict))
    stream += [(len(stream) + i, s, f.encode()) for i, (s, f) in enumerate(extra, start=1)]

    quality, cost, latency, _ = judge(stream).metrics

    assert quality.logged.value == pytest.approx(0.75)
    assert cost.logged.value == pytest.approx(0.003)
    assert latency.logged.value == pytest.approx(5.0)


def test_a_log_that_was_not_drawn_as_it_says_is_pointed_out():
    # Only the requests that went to the dear model are left.
    stream = [m for m in log(400) if b'"chosen":"dear"' in m[2] or "decision" not in m[1]]
    asked = config(gamma=2.0, preferences={"balanced": Weights(cost=200, latency=0.003)})

    assert "not drawn" in " ".join(judge(stream, asked).warnings)
    assert judge(log(400), asked).warnings == ()


def scored_by_model(dear, cheap):
    """Of every hundred decisions so many are scored, by their model."""
    rates = {"dear": dear, "cheap": cheap}
    return lambda made, index: index * 37 % 100 < rates[made.chosen]


def test_models_that_are_scored_unequally_often_are_pointed_out():
    (warning,) = judge(log(scored=scored_by_model(100, 0))).warnings
    assert "cheap 0%, dear 100%" in warning

    (warning,) = judge(log(500, scored_by_model(28, 8))).warnings
    assert "not scored equally often" in warning
    # The same difference is three standard errors here: chance may make it.
    assert judge(log(200, scored_by_model(28, 8))).warnings == ()


def test_an_answer_with_a_verdict_stands_for_those_of_its_model_without_one():
    report = judge(log(500, scored_by_model(60, 20)))
    quality, _, _, utility = report.metrics

    # Good is what the dear model answers, so that the mean of the verdicts is about 0.7.
    dear, _ = report.shares["dear"]
    for found in (quality.logged, quality.ips, quality.snips):
        assert found.value == pytest.approx(dear, abs=0.04)
    assert quality.overlap.decisions == utility.overlap.decisions < 250
    assert quality.overlap.size < quality.overlap.decisions


def test_quality_is_refused_where_nobody_judged_the_models_that_would_be_chosen():
    quality, cost, _, utility = judge(log(scored=scored_by_model(100, 0))).metrics

    assert "are models of which the log has no observed quality" in quality.refused
    assert "no observed utility" in utility.refused
    assert not cost.refused


THREE = (*CARDS, card("middle", price_out=8.0, quality_prior=0.65))
"""In the log the dear model is the last resort; where a dollar weighs nothing it is the first."""
QUALITY_ALONE = config(gamma=2.0, preferences={"balanced": Weights(cost=0, latency=0.003)})


def failing(model, then="ok", decisions=300):
    """A log in which `model` never answers; whoever is asked next does, at a quality of 0.9."""
    router = service(*THREE, config=LOGGED)
    stream = []
    for index in range(decisions):
        made = router.route(route_call(f"d{index}"), NOW + index * 0.01).decision
        facts = [(f"lf.decision.d{index}", made)]
        for step, asked in enumerate(made.plan[:2]):
            status = "error" if asked == model else "ok"
            attempt = outcome(f"d{index}", asked, status=status if step == 0 else then)
            attempt = msgspec.structs.replace(
                attempt, outcome_id=f"d{index}.{step}", cost_usd=0.001 * (step + 1)
            )
            facts.append((f"lf.outcome.local.{attempt.backend}", attempt))
            if status == "ok":
                break
        if attempt.status == "ok":
            verdict = FeedbackGiven(
                feedback_id=f"f{index}", decision_id=f"d{index}", model=asked, score=0.9
            )
            facts.append(("lf.feedback.user", verdict))
        stream += [
            (len(stream) + i, subject, fact.encode()) for i, (subject, fact) in enumerate(facts, 1)
        ]
    return stream


def judged_rows(stream, asked):
    running = Counterfactual(TargetPolicy(asked), Fold(SCHEMA, DIM))
    for message in stream:
        running.feed(*message)
    running.finish()
    observers = judgement.observers(running._results)
    return [(row, {n: observe(row) for n, observe in observers.items()}) for row in running._rows]


def test_after_a_failure_the_prediction_of_the_targets_next_model_stands_in_for_the_logs_answer():
    rows = judged_rows(failing("middle"), QUALITY_ALONE)

    fell_back = [(row, seen) for row, seen in rows if row.chosen == "middle"]
    assert fell_back
    for row, seen in fell_back:
        # The log went on with the cheap model, the target goes on with the dear one.
        assert row.shared == ("middle",)
        quality, cost, latency = row.instead
        assert seen["quality"] == pytest.approx((0.9, quality))
        assert seen["cost_usd"] == pytest.approx((0.003, 0.001 + cost))
        assert seen["latency_s"] == pytest.approx((4.0, 2.0 + latency))
        assert quality == 0.7


def test_after_a_failure_the_logs_answer_counts_where_the_target_would_have_asked_the_same_model():
    for row, seen in judged_rows(failing("middle"), LOGGED):
        assert row.shared[0] == row.chosen
        assert len(row.shared) == len(THREE)
        assert all(earned == then for earned, then in seen.values())


def test_where_the_target_has_no_other_model_a_failure_leaves_only_its_cost():
    models = (ModelConfig(name="middle", price_in=0.0, price_out=8.0, quality_prior=0.65),)
    asked = config((BackendConfig(name="b", kind="openai", url="http://x/v1", models=models),))

    rows = judged_rows(failing("middle"), asked)

    for seen in [seen for row, seen in rows if row.chosen == "middle"]:
        assert seen["cost_usd"] == pytest.approx((0.003, 0.001))
        assert seen["quality"] is seen["latency_s"] is seen["utility"] is None


def test_models_that_fail_and_requests_without_an_answer_are_counted_and_pointed_out():
    report = judge(failing("middle"))
    (warning,) = report.warnings
    share = report.fell_back / report.judged

    assert report.unanswered == 0
    assert share == pytest.approx(report.shares["middle"][0], abs=0.1)
    assert f"{share:.1%} of the requests the chosen model did not answer" in warning
    assert "middle 100.0% of its own" in warning

    report = judge(failing("middle", then="error"))
    assert (report.fell_back, report.unanswered / report.judged) == (0, share)
    assert any(f"{share:.1%} of the requests no model answered" in w for w in report.warnings)


def test_a_few_requests_that_hold_most_of_the_variance_are_pointed_out():
    def charging(dear_ones):
        turns = itertools.count()
        return log(300, charged=lambda _: 1.0 if next(turns) % (300 // dear_ones) == 0 else 0.001)

    report = judge(charging(3))
    (warning,) = report.warnings
    assert report.metrics[1].logged.leading == pytest.approx(1.0, abs=0.01)
    assert "5 requests hold most of the variance (cost_usd" in warning

    # Thirty of three hundred hold nine tenths together.
    report = judge(charging(30))
    assert report.metrics[1].logged.leading == pytest.approx(0.9 * 5 / 30, abs=0.01)
    assert report.warnings == ()


def test_rounding_is_no_variance():
    assert judge(log()).metrics[1].logged.leading == 0.0


def test_what_cannot_be_judged_is_counted_with_the_reason():
    stream = [
        *log(2),
        (100, "lf.decision.x", b"{}"),
        (101, "lf.decision.x.shadow", b"{}"),
        (102, "lf.outcome.local.b", b"{}"),
    ]
    router = service(*CARDS, config=LOGGED)
    other = router.route(route_call("other", schema="x.v2"), NOW).decision
    early = msgspec.structs.replace(
        router.route(route_call("early"), NOW).decision, state_sequence=999
    )
    stream += [(103, "lf.decision.other", other.encode())]
    stream += [(104, "lf.decision.early", early.encode())]

    report = judge(stream)

    assert report.judged == 2
    assert sorted(report.not_judged.values()) == [1, 1, 1]
    assert any("x.v2" in reason for reason in report.not_judged)


def test_the_direct_model_is_what_was_predicted_before_the_answer():
    stream = log(200)
    running = Counterfactual(TargetPolicy(LOGGED), Fold(SCHEMA, DIM))
    for message in stream:
        running.feed(*message)
    running.finish()

    # Nothing was learnt of these features by any decision, so all predictions are the priors.
    assert {row.predicted[0] for row in running._rows} == {0.7, 0.6}


def test_later_turns_of_a_conversation_are_not_judged():
    stream = log(40)
    sequence, subject, data = stream[0]
    later = msgspec.structs.replace(DecisionMade.decode(data), incumbent="dear")
    stream[0] = (sequence, subject, later.encode())

    report = judge(stream)

    (reason,) = report.not_judged
    assert report.judged == 39
    assert "went on with a conversation" in reason


def test_whether_a_cascade_is_judged_does_not_depend_on_the_model_drawn():
    stream = log(100, cascade=True)
    made = [DecisionMade.decode(data) for _, subject, data in stream if "decision" in subject]

    report = judge(stream)

    # Answers are too long to compare: only what was drawn tells these decisions apart.
    assert {record.chosen for record in made if record.cascade is None} == {"dear"}
    assert {record.chosen for record in made if record.cascade is not None} == {"cheap"}
    assert report.judged == 0
    assert list(report.not_judged.values()) == [100]


@pytest.mark.parametrize("behind", [True, False])
def test_where_no_draw_makes_a_cascade_of_it_a_decision_is_judged(behind):
    stream = log(100)
    for index, (sequence, subject, data) in enumerate(stream):
        if "decision" in subject:
            record = DecisionMade.decode(data)
            first, *others = record.candidates
            first = msgspec.structs.replace(first, probability=1.0)
            rest = [msgspec.structs.replace(c, probability=0.0, tier=1) for c in others if behind]
            record = msgspec.structs.replace(
                record, candidates=(first, *rest), chosen=first.model, cascade_wanted=True
            )
            stream[index] = (sequence, subject, record.encode())

    assert judge(stream).judged == 100


def test_answers_that_passed_their_checks_are_not_judged_to_be_good():
    stream = log(300, scored=lambda *_: False)
    for sequence, _, data in [m for m in stream if m[1].startswith("lf.decision.")]:
        made = DecisionMade.decode(data)
        passed = FeedbackGiven(
            feedback_id=f"{made.decision_id}:checks",
            decision_id=made.decision_id,
            model=made.chosen,
            score=1.0,
            weight=0.1,
            source="checks",
        )
        stream.append((len(stream) + sequence, "lf.feedback.checks", passed.encode()))

    quality, cost, *_ = judge(stream).metrics

    assert quality.refused
    assert quality.overlap.decisions == 0
    assert not cost.refused
