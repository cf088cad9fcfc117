"""LocalForge's own options, and the keys that set their defaults."""

import msgspec
import pytest

from localforge.bandit.policies import POLICIES as RULES
from localforge.config import KeyConfig
from localforge.contracts.trust import Label
from localforge.edge.body import read_chat
from localforge.edge.keys import ApiKey, KeyRing
from localforge.edge.options import Options, read_options
from localforge.errors import ConfigError, RequestRefused
from localforge.request.options import POLICIES

CHAT = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}


def options(headers=None, key=None, **body) -> Options:
    chat = read_chat(msgspec.json.encode(CHAT | body))
    found = {name.encode(): value.encode() for name, value in (headers or {}).items()}
    return read_options(chat, found, key, 120)


def test_without_options_the_defaults_hold():
    found = options()

    assert (found.preference, found.label, found.deadline_s) == ("", None, 120)
    assert (found.max_cost_usd, found.max_latency_s, found.provider) == (0, 0, None)
    assert found.allow_fallback
    assert found.traceparent == ""


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-localforge-preference": "Fast"}, {}, "fast"),
        ({}, {"preference": "cheap"}, "cheap"),
        ({"x-localforge-preference": "cost=40,latency=0.01"}, {}, "cost=40,latency=0.01"),
        ({}, {"localforge": {"preference": "quality"}, "preference": "cheap"}, "quality"),
        ({"x-localforge-preference": "fast"}, {"preference": "cheap"}, "fast"),
        ({}, {}, "balanced"),
    ],
)
def test_preference_comes_from_header_then_body_then_key(headers, body, expected):
    key = ApiKey(id="k", preference="balanced")

    assert options(headers, key, **body).preference == expected


def test_the_tighter_limit_holds_and_milliseconds_become_seconds():
    headers = {"x-localforge-max-cost-usd": "0.02", "x-localforge-max-latency-ms": "1500"}
    found = options(headers, localforge={"max_cost_usd": 0.01, "max_latency_ms": 4000})

    assert (found.max_cost_usd, found.max_latency_s) == (0.01, 1.5)
    assert options(headers).max_cost_usd == 0.02


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "much"])
@pytest.mark.parametrize("name", ["max-cost-usd", "max-latency-ms"])
def test_a_limit_that_is_none_is_named(name, value):
    with pytest.raises(RequestRefused, match=f"x-localforge-{name}.*above 0.*{value}"):
        options({f"x-localforge-{name}": value})


def test_a_sort_wins_over_the_preference_of_the_key():
    key = ApiKey(id="k", preference="quality")

    assert options(None, key, provider={"sort": "price"}).preference == ""
    assert options(None, key, provider={"ignore": ["x"]}).preference == "quality"


def test_the_stricter_label_holds():
    headers = {"x-localforge-label": "internal"}

    assert options(headers, localforge={"label": "restricted"}).label is Label.RESTRICTED
    assert options(headers, localforge={"label": "public"}).label is Label.INTERNAL


def test_the_shorter_deadline_holds():
    headers = {"x-localforge-deadline-s": "9.5"}

    assert options(headers, localforge={"deadline_s": 30}).deadline_s == 9.5
    assert options(headers, localforge={"deadline_s": 3}).deadline_s == 3


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"x-localforge-fallback": "no"}, {}, False),
        ({"x-localforge-fallback": "yes"}, {"localforge": {"fallback": False}}, False),
        ({"x-localforge-fallback": "yes"}, {}, True),
        ({}, {"localforge": {"fallback": False}}, False),
    ],
)
def test_a_refusal_to_fall_back_holds(headers, body, expected):
    assert options(headers, **body).allow_fallback is expected


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, {}, None),
        ({"x-localforge-cascade": "yes"}, {}, True),
        ({"x-localforge-cascade": "no"}, {"localforge": {"cascade": True}}, False),
        ({}, {"localforge": {"cascade": True}}, True),
    ],
)
def test_a_cascade_is_as_the_header_says_then_the_body(headers, body, expected):
    assert options(headers, **body).cascade is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"x-localforge-cascade": "no"}, False),
        ({"x-localforge-label": "internal"}, True),
    ],
)
def test_a_cascade_is_as_the_key_says_where_the_request_says_nothing(headers, expected):
    key = ApiKey(id="k", cascade=True)

    assert options(headers, key).cascade is expected
    assert options({}, key, localforge={"cascade": False}).cascade is False
    # A cascade draws in its own way, which is not the policy that was named.
    assert options({}, key, localforge={"policy": "greedy"}).cascade is None
    assert options({}, key, localforge={"policy": "greedy", "cascade": True}).cascade is True


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, {}, "thompson"),
        ({"x-localforge-label": "internal"}, {}, "thompson"),
        ({}, {"localforge": {"policy": "epsilon-greedy"}}, "epsilon-greedy"),
        ({"x-localforge-policy": "Greedy"}, {"localforge": {"policy": "igw"}}, "greedy"),
    ],
)
def test_the_policy_comes_from_header_then_body_then_key(headers, body, expected):
    assert options(headers, ApiKey(id="k", policy="thompson"), **body).policy == expected


def test_every_policy_of_the_router_can_be_asked_for_and_no_other():
    assert set(POLICIES) == set(RULES)
    for name in RULES:
        assert options(localforge={"policy": name}).policy == name


@pytest.mark.parametrize(
    ("headers", "body", "param", "says"),
    [
        ({"x-localforge-policy": "best"}, {}, "x-localforge-policy", "thompson"),
        ({}, {"localforge": {"policy": "best"}}, "localforge.policy", "matching, igw"),
        ({"x-localforge-preference": "best"}, {}, "x-localforge-preference", "cheap"),
        ({}, {"preference": "best"}, "preference", "quality, balanced, cheap, fast"),
        ({}, {"localforge": {"preference": ""}}, "localforge.preference", "fast"),
        ({"x-localforge-label": "secret"}, {}, "x-localforge-label", "restricted"),
        ({}, {"localforge": {"label": "top"}}, "localforge.label", "confidential"),
        ({"x-localforge-fallback": "maybe"}, {}, "x-localforge-fallback", "yes, no"),
        ({"x-localforge-deadline-s": "soon"}, {}, "x-localforge-deadline-s", "120"),
        ({"x-localforge-deadline-s": "nan"}, {}, "x-localforge-deadline-s", "seconds"),
        ({"x-localforge-deadline-s": "121"}, {}, "x-localforge-deadline-s", "edge.deadline_s"),
        ({}, {"localforge": {"deadline_s": 0}}, "localforge.deadline_s", "above 0"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_and_those_that_are_named(
    headers, body, param, says
):
    with pytest.raises(RequestRefused) as refused:
        options(headers, **body)

    assert (refused.value.param, refused.value.code) == (param, "invalid_value")
    assert says in refused.value.message


def test_a_trace_context_is_taken_and_a_malformed_one_ignored():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    assert options({"traceparent": trace}).traceparent == trace
    assert options({"traceparent": "00-zz"}).traceparent == ""


def test_a_key_brings_the_defaults_of_its_configuration():
    configured = KeyConfig(
        id="k", secret="env:K", preference="cheap", cascade=True, policy="thompson"
    )
    key = KeyRing([configured], lambda _: "s-one").authenticate({b"x-api-key": b"s-one"})

    found = options(None, key)

    assert (found.preference, found.cascade, found.policy) == ("cheap", True, "thompson")


def ring(**secrets: str) -> KeyRing:
    keys = [KeyConfig(id=name, secret=f"env:{name}") for name in secrets]
    return KeyRing(keys, lambda reference: secrets[reference.removeprefix("env:")])


@pytest.mark.parametrize(
    "header",
    [
        {b"authorization": b"Bearer s-two"},
        {b"authorization": b"bearer  s-two "},
        {b"x-api-key": b"s-two"},
        {b"authorization": b"Basic abc", b"x-api-key": b"s-two"},
    ],
)
def test_a_key_is_found_by_its_secret(header):
    found = ring(one="s-one", two="s-two").authenticate(header)

    assert found is not None
    assert found.id == "two"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "missing_api_key"),
        ({b"authorization": b"Bearer "}, "missing_api_key"),
        ({b"authorization": b"Bearer s-on"}, "invalid_api_key"),
        ({b"x-api-key": b"one"}, "invalid_api_key"),
    ],
)
def test_no_key_or_a_wrong_one_is_401(header, code):
    with pytest.raises(RequestRefused) as refused:
        ring(one="s-one").authenticate(header)

    assert (refused.value.status, refused.value.code) == (401, code)


def test_without_configured_keys_nobody_is_asked():
    assert ring().authenticate({b"authorization": b"Bearer anything"}) is None


def test_keys_that_cannot_be_told_apart_are_named():
    keys = ring(one="same", two="same")

    assert keys.problems == ["key `two`: another key has the same secret"]
    assert keys.authenticate({b"x-api-key": b"same"}).id == "one"


def test_a_key_without_a_secret_is_left_out_and_one_is_asked_for_all_the_same():
    keys = ring(one="")

    assert keys.problems == ["key `one`: `secret` is empty; use env:NAME or file:/path"]
    with pytest.raises(RequestRefused, match="an API key is needed"):
        keys.authenticate({})


def test_a_key_that_cannot_be_resolved_keeps_no_other_from_working():
    def resolve(reference: str) -> str:
        if reference == "env:MISSING":
            raise ConfigError("MISSING is not set")
        return "s-two"

    keys = KeyRing(
        [KeyConfig(id="one", secret="env:MISSING"), KeyConfig(id="two", secret="env:TWO")], resolve
    )

    assert keys.problems == ["key `one`: MISSING is not set"]
    assert keys.authenticate({b"x-api-key": b"s-two"}).id == "two"
