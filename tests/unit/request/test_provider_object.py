"""What a client may write into `provider`, and what becomes of it."""

from typing import Any

import msgspec
import pytest

from localforge.contracts.openrouter import MaxPrice, ProviderObject, ProviderRules
from localforge.errors import RequestRefused
from localforge.request.provider import rules_of


def rules(**written: Any) -> ProviderRules | None:
    return rules_of(msgspec.json.decode(msgspec.json.encode(written), type=ProviderObject))


def test_what_restricts_is_taken_over_as_it_is():
    strict: dict[str, Any] = {
        "order": ("a",),
        "only": ("a", "b"),
        "ignore": ("c",),
        "allow_fallbacks": False,
        "require_parameters": True,
        "data_collection": "deny",
        "zdr": True,
    }

    assert rules(**strict) == ProviderRules(**strict)
    assert rules_of(None) is rules_of(msgspec.UNSET) is None


@pytest.mark.parametrize("sort", ["price", {"by": "price"}, {"by": "price", "partition": None}])
def test_a_sort_may_be_an_object(sort):
    assert rules(sort=sort) == ProviderRules(sort="price")


@pytest.mark.parametrize(
    ("wish", "figure"),
    [(2, 2.0), ({"p50": 1.5, "p99": 9}, 1.5), ({"p90": 4}, 4.0), ({}, 0.0), (None, 0.0)],
)
def test_of_percentiles_the_lowest_one_given_counts(wish, figure):
    assert rules(preferred_min_throughput=wish) == ProviderRules(min_tokens_per_s=figure)
    assert rules(preferred_max_latency=wish) == ProviderRules(max_first_token_s=figure)


def test_prices_may_be_text_and_those_that_no_model_has_change_nothing():
    asked = {"prompt": "0.5", "completion": 2, "request": 1, "image": "3", "audio": 0}

    assert rules(max_price=asked) == ProviderRules(max_price=MaxPrice(prompt=0.5, completion=2.0))


def test_what_is_not_known_here_changes_nothing():
    assert rules(quantizations=["fp8"], enforce_distillable_text=False) == ProviderRules()


def test_what_would_break_a_licence_is_refused_with_what_to_do():
    with pytest.raises(RequestRefused, match=r"provider\.only") as caught:
        rules(enforce_distillable_text=True)

    assert caught.value.param == "provider.enforce_distillable_text"


@pytest.mark.parametrize(
    "written",
    [
        {"privacy": "max"},
        {"max_price": {"prompt": "1e400"}},
        {"max_price": {"prompt": "nan"}},
        {"max_price": {"prompt": -1}},
        {"preferred_max_latency": 0},
        {"sort": {"partition": "none"}},
        {"sort": {"by": "beauty"}},
    ],
)
def test_what_openrouter_does_not_document_is_refused(written):
    with pytest.raises(msgspec.ValidationError):
        rules(**written)
