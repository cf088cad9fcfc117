"""What a durable request asks for, in its message and in its body."""

from typing import Any

import msgspec
import pytest

from localforge.contracts.chat import ChatRequested
from localforge.contracts.live import ChatCall, Lane
from localforge.contracts.trust import Label
from localforge.errors import RequestRefused
from localforge.profiler.durable_request import call_of

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def call(body: dict[str, Any] | bytes | None = None, **message: Any) -> ChatCall:
    data = body if isinstance(body, bytes) else msgspec.json.encode(CHAT | (body or {}))
    return call_of(ChatRequested(id="job", request=msgspec.Raw(data), **message), 1_000.0)


def test_what_asks_for_nothing_is_a_call_with_the_defaults():
    found = call()

    assert found == ChatCall(
        request_id="job",
        lane=Lane.DURABLE,
        body=msgspec.json.encode(CHAT),
        deadline=1_600.0,
        model="m",
    )


@pytest.mark.parametrize(
    ("message", "body", "label"),
    [
        (None, "restricted", Label.RESTRICTED),
        (Label.PUBLIC, "restricted", Label.RESTRICTED),
        (Label.RESTRICTED, "public", Label.RESTRICTED),
        (Label.INTERNAL, None, Label.INTERNAL),
    ],
)
def test_the_stricter_label_holds(message, body, label):
    assert call({"localforge": {"label": body}}, label=message).declared_label is label


def test_every_option_of_the_live_lane_holds_here_too():
    asked = {
        "preference": "cheap",
        "deadline_s": 30,
        "fallback": False,
        "cascade": True,
        "max_cost_usd": 0.01,
        "max_latency_ms": 1500,
        "policy": "thompson",
    }
    found = call({"localforge": asked, "provider": {"zdr": True}})

    assert (found.preference, found.deadline) == ("cheap", 1_030.0)
    assert (found.allow_fallback, found.cascade) == (False, True)
    assert (found.max_cost_usd, found.max_latency_s) == (0.01, 1.5)
    assert found.policy == "thompson"
    assert found.provider is not None
    assert found.provider.zdr is True


def test_the_message_wins_but_for_the_shorter_deadline():
    asked = {"preference": "cheap", "deadline_s": 30, "cascade": True}
    found = call({"localforge": asked}, preference="Fast", deadline_s=20, cascade=False)

    assert (found.preference, found.deadline, found.cascade) == ("fast", 1_020.0, False)
    assert call({"preference": "quality"}).preference == "quality"
    assert call({"localforge": {"policy": "igw"}}, policy="Greedy").policy == "greedy"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"localforge": {"label": "topsecret"}}, "localforge.label", "invalid_value"),
        ({"localforge": {"label": 3}}, "localforge.label", "invalid_type"),
        ({"localforge": {"policy": "best"}}, "localforge.policy", "invalid_value"),
        ({"localforge": {"privacy": "max"}}, "localforge", "invalid_value"),
        ({"localforge": {"deadline_s": 0}}, "localforge.deadline_s", "invalid_value"),
        ({"localforge": {"max_cost_usd": -1}}, "localforge.max_cost_usd", "invalid_value"),
        ({"localforge": {"preference": "best"}}, "localforge.preference", "invalid_value"),
        ({"preference": "best"}, "request.preference", "invalid_value"),
        ({"provider": {"privacy": "max"}}, "provider", "invalid_value"),
        ({"model": 7}, "model", "invalid_type"),
        (b'{"localforge":{"label":"restricted"},"localforge":{}}', "localforge", "invalid_value"),
        (b'{"localforge":null,"localforge":null}', "localforge", "invalid_value"),
        (b'{"provider":{"zdr":true,"zdr":false}}', "provider.zdr", "invalid_value"),
        (b"[]", None, "invalid_type"),
        (b"nonsense", None, "invalid_json"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(body, param, code):
    with pytest.raises(RequestRefused) as refused:
        call(body)

    assert (refused.value.status, refused.value.param, refused.value.code) == (400, param, code)


def test_a_preference_of_the_message_that_is_none_is_refused():
    with pytest.raises(RequestRefused, match="`preference` must be one of"):
        call(preference="best")
