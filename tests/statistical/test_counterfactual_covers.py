"""Counterfactual estimates against known truth, from the stream a real router writes.

Models answer with known probabilities, so the value that another policy would have earned on the
same requests can be computed exactly: the mean over decisions of the target's probabilities times
the true chances. Seeds are fixed and printed; tolerances stand beside the assertions.
"""

import math

import msgspec
import numpy as np
import pytest

from localforge.audit.counterfactual import Counterfactual
from localforge.audit.policies import TargetPolicy
from localforge.bandit import Fold
from localforge.config import BackendConfig, Config, ModelConfig, Weights
from localforge.config.sections import RouterConfig, RuleConfig
from tests.routing import DIM, NOW, SCHEMA, card, feedback, outcome, route_call, service

PRICES = {"strong": 40.0, "medium": 8.0, "weak": 0.5}
CARDS = [card(name, price_out=price, quality_prior=None) for name, price in PRICES.items()]
TOKENS = {"strong": 300, "medium": 200, "weak": 100}
SLOPES = {"strong": 0.5, "medium": -1.5, "weak": 2.5}
LEVELS = {"strong": 1.0, "medium": 0.0, "weak": -1.0}


def config(backends=(), **router):
    changed = {"policy": "igw", **router}
    return Config(router=msgspec.structs.replace(Config().router, **changed), backends=backends)


def chance(model, x):
    """True probability that the model answers well."""
    return 1 / (1 + math.exp(-(LEVELS[model] + SLOPES[model] * x[1])))


EVERY = {}


class Log:
    """A stream of `decisions` requests, each answered, and what is true of them.

    Args:
        seed: Of everything that is drawn.
        decisions: How many.
        judged: By model, the probability that an answer gets a verdict; 1 where it is not named.
        spread: Standard deviation of the logarithm of how long answers are; of the mean `TOKENS`.
        router: Changes of the router's configuration.
    """

    def __init__(self, seed, decisions, judged=EVERY, spread=0.0, **router):
        rng = np.random.default_rng(seed)
        self.requests = {}
        self.stream = []
        fold = Fold(SCHEMA, DIM)
        routed = service(*CARDS, fold=fold, config=config(seed=seed, **router))
        for index in range(decisions):
            x = rng.normal(size=DIM).astype("<f4")
            x /= np.linalg.norm(x)
            name = f"{seed}-{index}"
            made = routed.route(route_call(name, features=x.tobytes()), NOW).decision
            self.requests[name] = x
            self.write(f"lf.decision.{name}", made)
            chosen = made.chosen
            longer = math.exp(spread * rng.normal() - spread**2 / 2) if spread else 1.0
            tokens = rng.poisson(TOKENS[chosen] * longer)
            answer = outcome(name, chosen, tokens=int(tokens), total_s=tokens / 100)
            cost = tokens * PRICES[chosen] / 1e6
            self.learn(
                fold,
                f"lf.outcome.local.{answer.backend}",
                msgspec.structs.replace(answer, cost_usd=cost),
            )
            # Every answer passes its checks, which must not be taken for verdicts.
            passed = feedback(f"{name}:checks", chosen, 1.0, weight=0.1, source="checks")
            passed = msgspec.structs.replace(passed, decision_id=name)
            self.learn(fold, "lf.feedback.checks", passed)
            score = float(rng.random() < chance(chosen, x))
            if chosen in judged and rng.random() >= judged[chosen]:
                continue
            self.learn(fold, "lf.feedback.user", feedback(name, chosen, score, x.tobytes()))

    def write(self, subject, fact):
        self.stream.append((len(self.stream) + 1, subject, fact.encode()))

    def learn(self, fold, subject, fact):
        self.write(subject, fact)
        fold.apply(len(self.stream), fact)


class Told(TargetPolicy):
    """The target policy, which also notes both decisions, to compute the truth with."""

    def __init__(self, *args):
        super().__init__(*args)
        self.pairs = []

    def decide(self, record, learner):
        made = super().decide(record, learner)
        self.pairs.append((record, made))
        return made


def true_value(log, decisions, weights):
    """What a policy earns per request in expectation, on the requests of the log.

    Args:
        log: Knows the requests.
        decisions: Of the policy, with its prices.
        weights: Utility per US dollar and per second of each decision.
    """
    totals = np.zeros(4)
    for made, (per_usd, per_s) in zip(decisions, weights, strict=True):
        for c in made.candidates:
            tokens = TOKENS[c.model]
            good = chance(c.model, log.requests[made.decision_id])
            cost, seconds = tokens * c.price_out / 1e6, tokens / 100
            utility = good - per_usd * cost - per_s * seconds
            totals += c.probability * np.array([good, cost, seconds, utility])
    names = ("quality", "cost_usd", "latency_s", "utility")
    return dict(zip(names, totals / len(decisions), strict=True))


def judge(log, asked):
    target = Told(asked)
    running = Counterfactual(target, Fold(SCHEMA, DIM))
    for message in log.stream:
        running.feed(*message)
    report = running.finish()
    logged, made = zip(*target.pairs, strict=True)
    # The utility of both is at the target's weights.
    weights = [(decision.cost_weight, decision.latency_weight) for decision in made]
    return report, true_value(log, made, weights), true_value(log, logged, weights)


def covered(log, asked):
    """Whether the interval of each estimate of each figure has the truth in it; None if refused."""
    report, truth, logged = judge(log, asked)
    if report.refused:
        assert all("overlap is too thin" in metric.refused for metric in report.metrics)
        return None
    held = {}
    for metric in report.metrics:
        values = dict.fromkeys(("ips", "snips", "dr"), truth[metric.name])
        values |= {"logged": logged[metric.name]}
        values |= {"difference": truth[metric.name] - logged[metric.name]}
        for name, value in values.items():
            found = getattr(metric, name)
            held[metric.name, name] = found.low <= value <= found.high
    return held


PROMISED = 0.90
"""Share of the runs that an interval meant for 95 % must hold in."""


def check(runs):
    """Hold the shares of the runs in which the intervals held against what is promised.

    On the mean of the figures and estimators it is kept as it stands. Each of the twenty by itself
    may miss it by two standard errors of a share seen in so many runs.
    """
    rates = {which: float(np.mean([held[which] for held in runs])) for which in runs[0]}
    print(rates)
    assert np.mean(list(rates.values())) >= PROMISED
    error = math.sqrt(PROMISED * (1 - PROMISED) / len(runs))
    assert min(rates.values()) >= PROMISED - 2 * error


BALANCED = {"balanced": Weights(cost=60, latency=0.003)}
CHEAPER = config(preferences=BALANCED, gamma=8)
NEW_PRICES = {"strong": 10.0, "medium": 12.0, "weak": 0.5}
TARGETS = {
    "another preference": CHEAPER,
    "other prices alone": config(
        tuple(
            BackendConfig(
                name=f"{name}-backend",
                kind="openai",
                url="http://x/v1",
                models=(ModelConfig(name=name, price_in=0.0, price_out=price),),
            )
            for name, price in NEW_PRICES.items()
        ),
        gamma=2,
        exploration_floor=0.2,
    ),
    "a rule": config(
        policy="rules", rules=(RuleConfig(name="split", models={"medium": 2.0, "weak": 1.0}),)
    ),
}
RUNS, DECISIONS = 100, 110


@pytest.fixture(name="logs", scope="module")
def _logs():
    return [Log(seed, DECISIONS, gamma=2, exploration_floor=0.2) for seed in range(RUNS)]


@pytest.mark.parametrize("name", TARGETS)
def test_the_interval_covers_the_truth_in_nine_of_ten_runs(logs, name):
    found = [covered(log, TARGETS[name]) for log in logs]
    judged = [held for held in found if held is not None]
    print(f"seeds 0 to {RUNS - 1}; {RUNS - len(judged)} refused")

    assert len(judged) > 0.9 * RUNS
    check(judged)


def test_where_verdicts_depend_on_the_model_the_interval_covers_what_all_requests_would_earn():
    runs, decisions, begin = 40, 1000, 3000
    judged = {"strong": 0.6, "medium": 0.45, "weak": 0.2}
    print(f"seeds {begin} to {begin + runs - 1}")
    found = [
        covered(Log(seed, decisions, judged, gamma=2, exploration_floor=0.2), CHEAPER)
        for seed in range(begin, begin + runs)
    ]

    assert None not in found
    check(found)


def test_where_lengths_have_a_long_tail_it_warns_that_the_interval_of_the_cost_does_not_hold():
    runs, begin = 40, 4000
    print(f"seeds {begin} to {begin + runs - 1}")
    logs = [
        Log(seed, DECISIONS, spread=2.0, gamma=2, exploration_floor=0.2)
        for seed in range(begin, begin + runs)
    ]
    warned = [any("cost_usd" in told for told in judge(log, CHEAPER)[0].warnings) for log in logs]
    found = [held for log in logs if (held := covered(log, CHEAPER))]
    rates = {which: float(np.mean([held[which] for held in found])) for which in found[0]}
    print(f"warned of {np.mean(warned):.0%}; {rates}")

    assert np.mean(warned) > 0.9
    assert rates["cost_usd", "dr"] < PROMISED
    # Quality has no such tail.
    assert rates["quality", "dr"] >= PROMISED - 2 * math.sqrt(PROMISED * (1 - PROMISED) / runs)


def test_on_a_log_of_the_default_policy_the_interval_covers_the_truth_or_is_refused():
    runs, decisions, begin = 30, 250, 2000
    print(f"seeds {begin} to {begin + runs - 1}")
    asked = Config(router=msgspec.structs.replace(Config().router, preferences=BALANCED))
    found = [
        covered(Log(seed, decisions, policy=RouterConfig().policy), asked)
        for seed in range(begin, begin + runs)
    ]
    judged = [held for held in found if held is not None]
    print(f"{runs - len(judged)} of {runs} refused")

    # The policy hardly tries models once it is sure of them, so some logs cannot answer; `covered`
    # sees to it that they say why.
    assert len(judged) >= runs / 4
    check(judged)


def test_predictions_make_the_doubly_robust_interval_narrower_where_they_explain_the_figure():
    print("seed 1000")
    log = Log(1000, 600, gamma=5, exploration_floor=0.1)

    _, cost, latency, _ = judge(log, CHEAPER)[0].metrics

    for metric in (cost, latency):
        widths = [found.high - found.low for found in (metric.dr, metric.snips, metric.ips)]
        # Measured on other seeds: 0.6 of SNIPS, 0.3 to 0.5 of IPS.
        assert widths[0] < 0.8 * min(widths[1:])


def test_a_policy_that_the_log_hardly_explores_is_refused():
    print("seed 1001")
    log = Log(1001, 400, gamma=2000)

    asked = config(preferences={"balanced": Weights(cost=0, latency=0)}, gamma=2000)
    report = judge(log, asked)[0]

    assert report.refused
    assert all("overlap is too thin" in metric.refused for metric in report.metrics)
    assert all(metric.dr is None for metric in report.metrics)
