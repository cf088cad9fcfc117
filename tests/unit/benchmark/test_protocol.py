"""The report: references, sweep, orders."""

import msgspec
import pytest

from localforge.benchmark import protocol
from localforge.benchmark.passes import Contender
from localforge.benchmark.prices import price_list
from localforge.benchmark.report import Report
from localforge.benchmark.stream import Stream
from localforge.config import RouterConfig
from tests.unit.benchmark.synthetic import PRICES, TOKENS, stream


def contenders(given: Stream) -> list[Contender]:
    return protocol.contenders((given,), "none", ("default",), RouterConfig())


@pytest.fixture(scope="module")
def result() -> protocol.Result:
    given = stream(300)
    return protocol.run(given.outcomes, contenders(given), 2, lambda _: None)


def test_every_policy_and_reference_has_a_row(result: protocol.Result) -> None:
    assert [row.policy for row in result.rows] == [
        "default", "always-strong", "always-cheapest", "random mix", "static hull", "keyword rule",
        "oracle",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "prior", "plan"),
    [
        (
            (),
            None,
            {
                "none": ("default", "cascade", "linucb", "thompson"),
                "shipped": ("default", "cascade", "goal"),
            },
        ),
        ((), "none", {"none": ("default", "cascade", "linucb", "thompson")}),
        (
            (),
            "shipped",
            {"shipped": ("default", "cascade", "goal"), "none": ("linucb", "thompson")},
        ),
        (("igw",), "shipped", {"shipped": ("igw",)}),
        (("igw",), None, {"none": ("igw",), "shipped": ("igw",)}),
    ],
)
def test_learning_references_are_measured_beside_whatever_prior(
    names: tuple[str, ...], prior: str | None, plan: dict[str, tuple[str, ...]]
) -> None:
    assert protocol.plan_of(names, prior) == plan


def test_a_reference_is_one_run_and_the_router_one_for_each_order(result: protocol.Result) -> None:
    orders = {row.policy: row.orders for row in result.rows}

    assert orders.pop("default") == 2
    assert set(orders.values()) == {1}


def test_rows_have_exactly_the_documented_fields(result: protocol.Result) -> None:
    document = msgspec.json.decode(msgspec.json.encode(Report(result.rows)))

    assert document.keys() == {"rows"}
    for row in document["rows"]:
        assert row.keys() == {
            "data", "policy", "prior", "orders", "apgr", "cpt50", "cpt80", "save_at", "accuracy",
            "cost_usd", "spread",
        }  # fmt: skip
        assert row["save_at"].keys() == {"0", "1", "2", "3.5"}


def test_figures_that_do_not_exist_are_null(result: protocol.Result) -> None:
    document = msgspec.json.decode(msgspec.json.encode(Report(result.rows)))

    strong = next(row for row in document["rows"] if row["policy"] == "always-strong")
    assert strong["apgr"] is None
    assert strong["save_at"]["0"] == 0


def test_the_router_beats_random_mixing_and_the_oracle_beats_it(result: protocol.Result) -> None:
    apgr = {row.policy: row.apgr for row in result.rows}

    assert apgr["random mix"] == pytest.approx(0.5)
    assert apgr["random mix"] + 0.1 < apgr["default"] < apgr["oracle"]


def test_a_rule_that_knows_what_is_hard_is_as_good_as_the_data_allows(
    result: protocol.Result,
) -> None:
    # Complexity is hardness here: at half the calls all easy and nine of ten hard ones are right.
    rule = next(f for f in result.frontiers if f.name == "keyword rule")

    best = max(rule.orders[0], key=lambda point: point.accuracy)
    assert best.accuracy > 0.93
    assert best.strong_share < 0.6


def test_only_the_router_depends_on_the_order(result: protocol.Result) -> None:
    spread = {row.policy: (row.orders, row.spread) for row in result.rows if row.spread > 0}

    assert spread.keys() == {"default"}
    assert spread["default"][0] == 2


def test_progress_reaches_exactly_the_announced_number() -> None:
    given = stream(60)
    seen: list[int] = []
    (contender,) = contenders(given)

    protocol.run(given.outcomes, [contender], 1, seen.append)

    assert sum(seen) == protocol.steps(contender, 1)


def test_prices_are_recovered_from_costs_and_token_counts() -> None:
    given = stream(50)
    outcomes = given.outcomes
    tokens = outcomes.prompt_tokens.copy()
    tokens[:, :] += 10 * (outcomes.scores + 1)
    answers = 5 * (1 + outcomes.scores[:, ::-1])
    costs = (tokens * [1.0, 10.0] + answers * [3.0, 30.0]) / 1e6
    changed = outcomes._replace(costs=costs, prompt_tokens=tokens, completion_tokens=answers)

    found = price_list(changed, tokens[:, 0])

    assert found == [pytest.approx((1.0, 3.0)), pytest.approx((10.0, 30.0))]


def test_without_token_counts_the_price_is_the_mean_cost_of_a_prompt_token() -> None:
    outcomes = stream(50).outcomes
    unknown = outcomes._replace(
        prompt_tokens=outcomes.prompt_tokens * float("nan"),
        completion_tokens=outcomes.completion_tokens * float("nan"),
    )

    found = price_list(unknown, outcomes.prompt_tokens[:, 0])

    assert found == [pytest.approx((price, 0.0)) for price in PRICES.values()]


def test_cost_unit_is_what_the_router_takes_a_strong_answer_to_cost() -> None:
    assert stream(20).cost_unit == pytest.approx(PRICES["large"] * TOKENS / 1e6)


def test_passes_shared_by_processes_come_out_the_same() -> None:
    given = stream(120)
    found = protocol.contenders((given,), "none", ("default", "goal"), RouterConfig())
    seen: list[int] = []

    alone = protocol.run(given.outcomes, found, 1, lambda _: None)
    shared = protocol.run(given.outcomes, found, 1, seen.append, jobs=2)

    assert shared.frontiers == alone.frontiers
    assert sum(seen) == sum(protocol.steps(contender, 1) for contender in found)
