"""No message about a configuration repeats a secret, wherever in it somebody has put one."""

import base64
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localforge.config import Config, load, resolve_secret
from localforge.config.disclosure import is_plain_name
from localforge.errors import ConfigError

VALID: dict[str, Any] = {
    "edge": {"port": 8080, "hosts": ["proxy"], "deadline_s": 3},
    "keys": [{"id": "k", "secret": "env:K", "preference": "cheap", "policy": "greedy"}],
    "nats": {"url": "nats://n", "credentials": "file:/c"},
    "redis": {"url": "redis://r"},
    "policy": {"default_label": "public", "zones": {"public": ["*"], "internal": ["local"]}},
    "router": {
        "preference": "cheap",
        "preferences": {"cheap": {"cost": 1, "latency": 2}},
        "cascade": ["cheap"],
        "static": {"m": 1},
        "rules": [{"name": "r", "models": {"m": 1}, "domains": ["code"], "needs": ["tools"]}],
        "goal": {"per": "day"},
        "sticky": {"enabled": True},
    },
    "backends": [
        {
            "name": "b",
            "kind": "openai",
            "zone": "local",
            "urls": ["http://one/v1", "http://two/v1"],
            "vendor": "openai",
            "api_key": "env:A",
            "models": [{"name": "m", "upstream": "u", "capabilities": ["tools"], "price_in": 1}],
        },
        {"name": "a", "kind": "ollama", "zone": "local", "url": "http://three"},
    ],
    "aliases": {"fast": "m", "any": "auto"},
    "telemetry": {"log_level": "info", "metrics_port": 0},
    "up": {"together": ["edge"]},
}
ALSO_WRONG: list[tuple[tuple[Any, ...], Any]] = [
    (("edge", "prot"), 1),
    (("aliases", "fast"), "unknown"),
    (("policy", "zones", "internal"), ["nowhere"]),
    (("backends", 0, "vendor"), "nobody"),
    (("backends", 1, "name"), "b"),
    (("backends", 1, "url"), "http://[x"),
]
"""What makes a message of a configuration in which the secret alone may be a valid name."""


def _places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _places(value, (*path, key))


PLACES = list(_places(VALID))
SECTIONS = [
    f"LOCALFORGE_{section}__{key}".upper()
    for section, value in msgspec.to_builtins(Config()).items()
    if isinstance(value, dict)
    for key in value
]

tokens = st.one_of(
    st.binary(min_size=16, max_size=24).map(lambda b: b.hex()),
    st.binary(min_size=18, max_size=33).map(lambda b: base64.b64encode(b).decode()),
    st.uuids().map(str),
    st.binary(min_size=20, max_size=20).map(lambda b: "sk-" + b.hex()),
).filter(lambda token: not is_plain_name(token))
secrets = st.one_of(
    tokens.map(lambda token: (token, token)),
    st.tuples(
        st.sampled_from(["nats://u:{}@h", "redis://:{}@h", "https://u:{}@h", "u:{}@h", "a {}"]),
        tokens,
    ).map(lambda pair: (pair[0].format(pair[1]), pair[1])),
    st.just(("https://u:hunter2@h", "hunter2")),
    st.just(("my dog is hunter2", "hunter2")),
)


def _at(data: Any, place: tuple[Any, ...]) -> tuple[Any, Any]:
    for step in place[:-1]:
        data = data[step]
    return data, place[-1]


def _said(folder: Path, data: Any, environment: dict[str, str] | None = None) -> str:
    path = folder / "localforge.json"
    path.write_text(json.dumps(data))
    try:
        load(path, environment or {})
    except ConfigError as exc:
        return exc.message
    return ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    secret=secrets,
    place=st.sampled_from(PLACES),
    form=st.sampled_from(["value", "key", "list", "table", "item"]),
    also=st.none() | st.sampled_from(ALSO_WRONG),
)
def test_no_message_repeats_a_secret_from_any_place(
    tmp_path: Path, secret: tuple[str, str], place: tuple[Any, ...], form: str, also: Any
) -> None:
    text, inner = secret
    data = copy.deepcopy(VALID)
    if also:
        holder, last = _at(data, also[0])
        holder[last] = also[1]
    holder, last = _at(data, place)
    if form == "key" and isinstance(holder, dict):
        holder[text] = holder.pop(last)
    elif form == "item" and isinstance(holder[last], list):
        holder[last].append(text)
    else:
        holder[last] = {"list": [text], "table": {text: text}}.get(form, text)

    assert inner not in _said(tmp_path, data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    secret=secrets,
    name=st.sampled_from([*SECTIONS, "LOCALFORGE_NATS_URL", "LOCALFORGE_EDGE__NONE"]),
    form=st.sampled_from(["{}", '["{}"]', '{{"{}": "{}"}}', '["{}']),
    also=st.sampled_from([{}, *({"LOCALFORGE_EDGE__PORT": wrong} for wrong in ("x", "-1"))]),
)
def test_no_message_repeats_a_secret_from_the_environment(
    tmp_path: Path, secret: tuple[str, str], name: str, form: str, also: dict[str, str]
) -> None:
    text, inner = secret

    assert inner not in _said(tmp_path, VALID, {**also, name: form.format(text, text)})


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (("nats",), "`nats`: expected a table, got text of 19 characters"),
        (("keys",), "`keys`: expected a list, got text of 19 characters"),
        (("keys", 0), "`keys[0]`: expected a table, got text of 19 characters"),
        (("keys", 0, "id"), "`keys[0].id`: expected text of letters"),
        (("backends", 0, "models"), "`backends[0].models`: expected a list, got text of 19"),
        (("backends", 0, "kind"), "recorded, got text of 19 characters"),
        (("backends", 0, "url"), "backend `b`: `urls` stands in place of `url`"),
        (("edge", "port"), "`edge.port`: expected a whole number, got text of 19 characters"),
        (("edge", "https://u:hunter2@h"), "`edge.<key 4>`: there is no such key; known: host"),
        (("router", "static", "https://u:hunter2@h"), "`router.static.<key 2>`: expected a number"),
        (("aliases", "any"), "alias `any` points at `…` (19 characters), which no backend has"),
    ],
)
def test_the_place_of_what_is_not_repeated_is_told(
    tmp_path: Path, place: tuple[Any, ...], said: str
) -> None:
    data = copy.deepcopy(VALID)
    del data["backends"][1]  # which finds models that are not listed
    holder, last = _at(data, place)
    holder[last] = "https://u:hunter2@h"

    message = _said(tmp_path, data)

    assert said in message
    assert "hunter2" not in message


def test_a_key_that_stands_twice_is_not_repeated_either(tmp_path: Path) -> None:
    path = tmp_path / "localforge.toml"
    path.write_text("[nats.hunter2]\n[nats.hunter2]\n")

    with pytest.raises(ConfigError, match="not valid TOML: Cannot declare … twice") as caught:
        load(path, {})

    assert "hunter2" not in caught.value.message


def test_a_backend_that_needs_a_zone_is_told_without_what_may_be_a_secret(tmp_path: Path) -> None:
    backend = {
        "name": "https://u:hunter2@h",
        "kind": "openai",
        "url": "https://u.hunter2/x@h.example",
    }

    message = _said(tmp_path, {"backends": [backend]})

    assert "backend `…` (19 characters): `zone` is missing and its host is not known" in message


def test_a_key_in_place_of_a_variable_s_name_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"secret `…` \(28 characters\): .* that it names is not"):
        resolve_secret("env:sk_0123456789abcdef01234", {})


@pytest.mark.parametrize(
    "name",
    [
        "gpt-4o-mini",
        "claude-3-5-sonnet-20241022",
        "Meta-Llama-3.1-8B-Instruct-Turbo",
        "deepseek/DeepSeek-R1-Distill-Qwen2.5-32B",
        "mistralai/Mixtral-8x7B-Instruct",
        "OPENROUTER_API_KEY",
        "eu-west-1",
        "m9",
        "*",
    ],
)
def test_names_that_somebody_made_up_are_repeated(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "u:pw@h",
        "nats://host",
        "0123456789abcdef",
        "1f3d9c2a",
        "ABCDEFGHIJKLMNOP",
        "aB3-xY9_kL2-qR7_mN4",
        "d9428888-122b-11e1-b85c-61cd3cbb3210",
        "a-" * 21,
    ],
)
def test_what_looks_random_is_not(text: str) -> None:
    assert not is_plain_name(text)


def test_random_tokens_are_hardly_ever_taken_for_names() -> None:
    random = Random(0)
    drawn = (base64.urlsafe_b64encode(random.randbytes(16)).decode()[:22] for _ in range(20_000))

    assert sum(map(is_plain_name, drawn)) < 20
